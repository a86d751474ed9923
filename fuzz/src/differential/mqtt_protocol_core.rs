//! What mqtt-protocol-core reads. Its parsers take a body, so what is wrong with a fixed header they never see.

use fleetwire_codec::frame::Frame;
use fleetwire_codec::{PacketType, Version};
use mqtt_protocol_core::mqtt::Arc;
use mqtt_protocol_core::mqtt::packet::{Properties, Property, v3_1_1, v5_0};

use super::Read;
use super::said::{self, Said, Value};

pub(super) const NAME: &str = "mqtt-protocol-core";

pub(super) fn read(frame: Frame<'_>, version: Version) -> Read {
    match version {
        Version::V311 => read_v311(frame),
        Version::V5 => Some(read_v5(frame)),
    }
}

/// Parses a packet's body and says what is in it. As its own connections do, this does not ask how much was parsed.
macro_rules! parse {
    ($body:expr, $module:ident::$packet:ident, $said:expr) => {
        $module::$packet::parse($body)
            .map(|(packet, _)| {
                let said = Said::new(PacketType::$packet);
                let function: fn(&$module::$packet, Said) -> Said = $said;
                function(&packet, said)
            })
            .map_err(|error| format!("{error:?}"))
    };
}

/// A CONNECT, which has the same accessors in both versions, except for the properties.
macro_rules! connect {
    ($packet:ident, $said:ident, $version5:literal, $properties:expr, $will_properties:expr) => {{
        let said = $said
            .with("version", $version5)
            .with("clean start", $packet.clean_start())
            .with("keep alive", $packet.keep_alive())
            .with_properties("properties", $properties)
            .with("client id", $packet.client_id())
            .with("will", $packet.will_flag());
        let said = if $packet.will_flag() {
            said.with("will", $packet.will_qos() as u8)
                .with("will", $packet.will_retain())
                .with_properties("will properties", $will_properties)
                .with("will topic", $packet.will_topic().unwrap_or_default())
                .with("will payload", $packet.will_payload().unwrap_or_default())
        } else {
            said
        };
        said.with("user name", $packet.user_name().unwrap_or_default())
            .with("password", $packet.password().unwrap_or_default())
    }};
}

/// A PUBLISH, likewise.
macro_rules! publish {
    ($frame:expr, $module:ident, $properties:expr) => {
        $module::Publish::parse($frame.flags(), Arc::from($frame.body()))
            .map(|(packet, _)| {
                let properties: fn(&$module::Publish) -> Vec<said::Property> = $properties;
                Said::new(PacketType::Publish)
                    .with("dup", packet.dup())
                    .with("qos", packet.qos() as u8)
                    .with("retain", packet.retain())
                    .with("topic", packet.topic_name())
                    .with("packet id", packet.packet_id().unwrap_or(0))
                    .with_properties("properties", properties(&packet))
                    .with("payload", packet.payload().as_slice())
            })
            .map_err(|error| format!("{error:?}"))
    };
}

fn read_v311(frame: Frame<'_>) -> Read {
    let body = frame.body();
    Some(match frame.packet_type() {
        PacketType::Connect => parse!(body, v3_1_1::Connect, |packet, said| connect!(
            packet,
            said,
            false,
            Vec::new(),
            Vec::new()
        )),
        PacketType::Connack => parse!(body, v3_1_1::Connack, |packet, said| said
            .with("session present", packet.session_present())
            .with("reason code", packet.return_code() as u8)),
        PacketType::Publish => publish!(frame, v3_1_1, |_| Vec::new()),
        PacketType::Puback => parse!(body, v3_1_1::Puback, |packet, said| bare_ack(
            said,
            packet.packet_id()
        )),
        PacketType::Pubrec => parse!(body, v3_1_1::Pubrec, |packet, said| bare_ack(
            said,
            packet.packet_id()
        )),
        PacketType::Pubrel => parse!(body, v3_1_1::Pubrel, |packet, said| bare_ack(
            said,
            packet.packet_id()
        )),
        PacketType::Pubcomp => parse!(body, v3_1_1::Pubcomp, |packet, said| bare_ack(
            said,
            packet.packet_id()
        )),
        PacketType::Subscribe => parse!(body, v3_1_1::Subscribe, |packet, said| filters(
            said.with("packet id", packet.packet_id()),
            packet.entries()
        )),
        PacketType::Suback => parse!(body, v3_1_1::Suback, |packet, said| said
            .with("packet id", packet.packet_id())
            .with_all(
                "reason code",
                packet.return_codes().iter().map(|code| *code as u8)
            )),
        PacketType::Unsubscribe => parse!(body, v3_1_1::Unsubscribe, |packet, said| said
            .with("packet id", packet.packet_id())
            .with_all("filter", packet.entries().iter().map(|entry| entry.as_str()))),
        PacketType::Unsuback => parse!(body, v3_1_1::Unsuback, |packet, said| said
            .with("packet id", packet.packet_id())),
        PacketType::Pingreq => parse!(body, v3_1_1::Pingreq, |_, said| said),
        PacketType::Pingresp => parse!(body, v3_1_1::Pingresp, |_, said| said),
        PacketType::Disconnect => parse!(body, v3_1_1::Disconnect, |_, said| said.with("reason code", 0_u8)),
        PacketType::Auth => return None,
    })
}

fn bare_ack(said: Said, packet_id: u16) -> Said {
    said.with("packet id", packet_id).with("reason code", 0_u8)
}

fn read_v5(frame: Frame<'_>) -> Result<Said, String> {
    let body = frame.body();
    match frame.packet_type() {
        PacketType::Connect => parse!(body, v5_0::Connect, |packet, said| connect!(
            packet,
            said,
            true,
            properties(packet.props()),
            properties(packet.will_props())
        )),
        PacketType::Connack => parse!(body, v5_0::Connack, |packet, said| said
            .with("session present", packet.session_present())
            .with("reason code", packet.reason_code() as u8)
            .with_properties("properties", properties(packet.props()))),
        PacketType::Publish => publish!(frame, v5_0, |packet| properties(packet.props())),
        PacketType::Puback => parse!(body, v5_0::Puback, |packet, said| ack(
            said.with("packet id", packet.packet_id()),
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
        PacketType::Pubrec => parse!(body, v5_0::Pubrec, |packet, said| ack(
            said.with("packet id", packet.packet_id()),
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
        PacketType::Pubrel => parse!(body, v5_0::Pubrel, |packet, said| ack(
            said.with("packet id", packet.packet_id()),
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
        PacketType::Pubcomp => parse!(body, v5_0::Pubcomp, |packet, said| ack(
            said.with("packet id", packet.packet_id()),
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
        PacketType::Subscribe => parse!(body, v5_0::Subscribe, |packet, said| filters(
            said.with("packet id", packet.packet_id())
                .with_properties("properties", properties(packet.props())),
            packet.entries()
        )),
        PacketType::Suback => parse!(body, v5_0::Suback, |packet, said| said
            .with("packet id", packet.packet_id())
            .with_properties("properties", properties(packet.props()))
            .with_all(
                "reason code",
                packet.reason_codes().iter().map(|code| *code as u8)
            )),
        PacketType::Unsubscribe => parse!(body, v5_0::Unsubscribe, |packet, said| said
            .with("packet id", packet.packet_id())
            .with_properties("properties", properties(packet.props()))
            .with_all("filter", packet.entries().iter().map(|entry| entry.as_str()))),
        PacketType::Unsuback => parse!(body, v5_0::Unsuback, |packet, said| said
            .with("packet id", packet.packet_id())
            .with_properties("properties", properties(packet.props()))
            .with_all(
                "reason code",
                packet.reason_codes().iter().map(|code| *code as u8)
            )),
        PacketType::Pingreq => parse!(body, v5_0::Pingreq, |_, said| said),
        PacketType::Pingresp => parse!(body, v5_0::Pingresp, |_, said| said),
        PacketType::Disconnect => parse!(body, v5_0::Disconnect, |packet, said| ack(
            said,
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
        PacketType::Auth => parse!(body, v5_0::Auth, |packet, said| ack(
            said,
            packet.reason_code().map(|code| code as u8),
            packet.props()
        )),
    }
}

/// A reason code and properties that may be left out.
fn ack(said: Said, reason_code: Option<u8>, list: &Option<Properties>) -> Said {
    said.with("reason code", reason_code.unwrap_or(0))
        .with_properties("properties", list.as_ref().map_or_else(Vec::new, properties))
}

fn filters(said: Said, entries: &[mqtt_protocol_core::mqtt::packet::SubEntry]) -> Said {
    entries.iter().fold(said, |said, entry| {
        let options = entry.sub_opts();
        said.with("filter", entry.topic_filter())
            .with("options", options.qos() as u8)
            .with("options", options.nl())
            .with("options", options.rap())
            .with("options", options.rh() as u8)
    })
}

/// Each has a type of its own, with the same accessor.
macro_rules! values {
    ($property:expr, $($id:literal $name:ident)+) => {
        match $property {
            $(Property::$name(property) => ($id, property.val().into()),)+
            Property::UserProperty(pair) => (0x26, Value::from((pair.key(), pair.val()))),
        }
    };
}

fn properties(properties: &Properties) -> Vec<said::Property> {
    properties
        .iter()
        .map(|property| {
            values!(property, 0x01 PayloadFormatIndicator 0x02 MessageExpiryInterval 0x03 ContentType
                0x08 ResponseTopic 0x09 CorrelationData 0x0B SubscriptionIdentifier 0x11 SessionExpiryInterval
                0x12 AssignedClientIdentifier 0x13 ServerKeepAlive 0x15 AuthenticationMethod 0x16 AuthenticationData
                0x17 RequestProblemInformation 0x18 WillDelayInterval 0x19 RequestResponseInformation
                0x1A ResponseInformation 0x1C ServerReference 0x1F ReasonString 0x21 ReceiveMaximum
                0x22 TopicAliasMaximum 0x23 TopicAlias 0x24 MaximumQos 0x25 RetainAvailable 0x27 MaximumPacketSize
                0x28 WildcardSubscriptionAvailable 0x29 SubscriptionIdentifierAvailable
                0x2A SharedSubscriptionAvailable)
        })
        .collect()
}
