//! Prints a packet of every type with everything that it can carry, encoded by this crate: one line each, `VERSION HEX`.
//!
//! `cargo run -p fleetwire-codec --example packets`. Another program reads what we write: `tests/interop/test_tshark.py`.

use std::error::Error;

use fleetwire_codec::{
    Auth, Carrier, Connack, Connect, Disconnect, FiltersBuf, Packet, PacketId, PacketType, Properties,
    PropertiesBuf, Property, Puback, Pubcomp, Publish, Pubrec, Pubrel, QoS, ReasonCode, RetainHandling,
    Suback, Subscribe, SubscriptionOptions, TopicFilter, TopicName, Unsuback, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn main() -> Result {
    for version in [Version::V311, Version::V5] {
        connecting(version)?;
        publishing(version)?;
        subscribing(version)?;
        print(Packet::Pingreq, version)?;
        print(Packet::Pingresp, version)?;
        ending(version)?;
    }
    Ok(())
}

fn print<'a>(packet: impl Into<Packet<'a>>, version: Version) -> Result {
    let packet = packet.into();
    let mut bytes = vec![0; packet.encoded_len(version)?];
    packet.encode(version, &mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{version} {hex}");
    Ok(())
}

/// Every property that the packet may carry, User Property twice.
fn every(carrier: Carrier) -> Result<PropertiesBuf> {
    let all = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(4_294_967_295),
        Property::ContentType("text/plain"),
        Property::ResponseTopic(TopicName::new("answers/\u{fc}")?),
        Property::CorrelationData(b"number 7"),
        Property::SubscriptionIdentifier(200),
        Property::SessionExpiryInterval(86_400),
        Property::AssignedClientIdentifier("auto-1"),
        Property::ServerKeepAlive(1200),
        Property::AuthenticationMethod("SCRAM-SHA-1"),
        Property::AuthenticationData(b"client-first"),
        Property::RequestProblemInformation(false),
        Property::WillDelayInterval(5),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation("answers/"),
        Property::ServerReference("other.example:8883"),
        Property::ReasonString("why \u{20ac}"),
        Property::ReceiveMaximum(65_535),
        Property::TopicAliasMaximum(10),
        Property::TopicAlias(3),
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(true),
        Property::UserProperty(("name", "first")),
        Property::UserProperty(("name", "")),
        Property::MaximumPacketSize(262_144),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(true),
    ];
    let mut properties = PropertiesBuf::new(carrier);
    for property in all {
        // Those that belong elsewhere are refused.
        let _ = properties.push(property);
    }
    Ok(properties)
}

fn codes(packet: PacketType) -> Vec<ReasonCode> {
    let all = (0..=255).filter_map(ReasonCode::new);
    all.filter(|code| code.is_allowed_in(packet)).collect()
}

fn values(packet: PacketType) -> Vec<u8> {
    codes(packet).iter().map(|code| code.value()).collect()
}

fn connecting(version: Version) -> Result {
    let plain = Connect {
        version,
        clean_start: true,
        keep_alive_secs: 60,
        client_id: "device-\u{fc}",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    print(plain, version)?;
    let (will, connect) = (every(Carrier::Will)?, every(Carrier::Connect)?);
    for qos in QOS {
        let will = Will {
            topic: TopicName::new("wills/device")?,
            payload: b"gone",
            qos,
            retain: qos == QoS::AtLeastOnce,
            properties: will.as_properties(),
        };
        let full = Connect {
            clean_start: false,
            keep_alive_secs: 65_535,
            will: Some(will),
            username: Some("user"),
            password: Some(b"pass"),
            properties: connect.as_properties(),
            ..plain
        };
        print(full, version)?;
    }
    print(Connack::accepted(true), version)?;
    let properties = every(Carrier::Connack)?;
    let accepted = Connack::accepted(false);
    print(accepted.with_properties(properties.as_properties()), version)?;
    let refusals = match version {
        Version::V311 => (1..=5).collect(),
        Version::V5 => values(PacketType::Connack),
    };
    for code in refusals {
        print(Connack { code, ..accepted }, version)?;
    }
    Ok(())
}

fn publishing(version: Version) -> Result {
    let properties = every(Carrier::Publish)?;
    let long = vec![b'x'; 20_000];
    for qos in QOS {
        for (retain, payload) in [(false, &b"21.5"[..]), (true, b""), (false, &long)] {
            let publish = Publish {
                dup: retain && qos != QoS::AtMostOnce,
                qos,
                retain,
                packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MAX),
                ..Publish::new(TopicName::new("plant/7/\u{fc}")?, payload)
            };
            print(publish, version)?;
            let properties = properties.as_properties();
            print(
                Publish {
                    properties,
                    ..publish
                },
                version,
            )?;
        }
    }
    let id = PacketId::MIN;
    macro_rules! acknowledgements {
        ($($ack:ident)+) => {$(
            print($ack::new(id), version)?;
            if version == Version::V5 {
                let properties = every(Carrier::$ack)?;
                let properties = properties.as_properties();
                for code in codes(PacketType::$ack) {
                    print($ack::with_reason(id, code), version)?;
                    print($ack { properties, ..$ack::with_reason(id, code) }, version)?;
                }
            }
        )+};
    }
    acknowledgements! { Puback Pubrec Pubrel Pubcomp }
    Ok(())
}

fn subscribing(version: Version) -> Result {
    let packet_id = PacketId::MAX;
    let mut list = FiltersBuf::new();
    for (qos, name) in QOS.into_iter().zip(["a/+/\u{fc}", "#", "$share/group/b/#"]) {
        let mut options = SubscriptionOptions::new(qos);
        if version == Version::V5 {
            options.no_local = qos == QoS::AtLeastOnce;
            options.retain_as_published = true;
            options.retain_handling = RetainHandling::DoNotSend;
        }
        list.push(TopicFilter::new(name)?, options)?;
    }
    let (properties, filters) = (every(Carrier::Subscribe)?, list.as_filters());
    let properties = properties.as_properties();
    print(
        Subscribe {
            packet_id,
            properties,
            filters,
        },
        version,
    )?;
    let mut codes = values(PacketType::Suback);
    codes.retain(|code| version == Version::V5 || *code <= 0x80);
    let properties = every(Carrier::Suback)?;
    let (properties, codes) = (properties.as_properties(), &codes[..]);
    print(
        Suback {
            packet_id,
            properties,
            codes,
        },
        version,
    )?;

    let mut list = UnsubscribeFiltersBuf::new();
    for name in ["a/+/\u{fc}", "#"] {
        list.push(TopicFilter::new(name)?)?;
    }
    let (properties, filters) = (every(Carrier::Unsubscribe)?, list.as_filters());
    let properties = properties.as_properties();
    print(
        Unsubscribe {
            packet_id,
            properties,
            filters,
        },
        version,
    )?;
    let (properties, codes) = (every(Carrier::Unsuback)?, values(PacketType::Unsuback));
    let (properties, codes) = (properties.as_properties(), &codes[..]);
    print(
        Unsuback {
            packet_id,
            properties,
            codes,
        },
        version,
    )
}

fn ending(version: Version) -> Result {
    print(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION), version)?;
    if version == Version::V311 {
        return Ok(());
    }
    let (disconnect, auth) = (every(Carrier::Disconnect)?, every(Carrier::Auth)?);
    for reason in codes(PacketType::Disconnect) {
        print(Disconnect::new(reason), version)?;
        let properties = disconnect.as_properties();
        print(Disconnect { reason, properties }, version)?;
    }
    for reason in codes(PacketType::Auth) {
        let properties = auth.as_properties();
        print(Auth { reason, properties }, version)?;
    }
    Ok(())
}
