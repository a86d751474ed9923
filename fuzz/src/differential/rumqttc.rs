//! What rumqttc reads; its codecs for 3.1.1 and 5.0 have types of their own.

use std::fmt::Debug;

use bytes::BytesMut;
use fleetwire_codec::{PacketType, Version};
use rumqttc::mqttbytes::{Protocol, v4};
use rumqttc::v5::mqttbytes::v5;

use super::Read;
use super::said::{Property, Said};

pub(super) const NAME: &str = "rumqttc";

/// Above every input.
const PACKET_LEN_MAX: u32 = 1 << 28;

pub(super) fn read(bytes: &[u8], version: Version) -> Read {
    let mut stream = BytesMut::from(bytes);
    Some(match version {
        Version::V311 => v4::Packet::read(&mut stream, PACKET_LEN_MAX as usize)
            .map(said_by_v4)
            .map_err(name),
        Version::V5 => v5::Packet::read(&mut stream, Some(PACKET_LEN_MAX))
            .map(said_by_v5)
            .map_err(name),
    })
}

/// The name of a variant, without what is in it.
fn name(variant: impl Debug) -> String {
    let text = format!("{variant:?}");
    let end = text.find(['(', ' ']).unwrap_or(text.len());
    text[..end].to_owned()
}

fn said_by_v4(packet: v4::Packet) -> Said {
    use v4::Packet as P;
    match packet {
        P::Connect(packet) => {
            let said = Said::new(PacketType::Connect)
                .with("version", packet.protocol == Protocol::V5)
                .with("clean start", packet.clean_session)
                .with("keep alive", packet.keep_alive)
                .with("client id", &packet.client_id[..])
                .with("will", packet.last_will.is_some());
            let said = match packet.last_will {
                None => said,
                Some(will) => said
                    .with("will", will.qos as u8)
                    .with("will", will.retain)
                    .with("will topic", &will.topic[..])
                    .with("will payload", &will.message[..]),
            };
            let login = packet
                .login
                .map_or_else(Default::default, |login| (login.username, login.password));
            said.with("user name", &login.0[..])
                .with("password", &login.1[..])
        }
        P::ConnAck(packet) => Said::new(PacketType::Connack)
            .with("session present", packet.session_present)
            .with("reason code", packet.code as u8),
        P::Publish(packet) => Said::new(PacketType::Publish)
            .with("dup", packet.dup)
            .with("qos", packet.qos as u8)
            .with("retain", packet.retain)
            .with("topic", &packet.topic[..])
            .with("packet id", packet.pkid)
            .with("payload", &packet.payload[..]),
        P::PubAck(packet) => bare_ack(PacketType::Puback, packet.pkid),
        P::PubRec(packet) => bare_ack(PacketType::Pubrec, packet.pkid),
        P::PubRel(packet) => bare_ack(PacketType::Pubrel, packet.pkid),
        P::PubComp(packet) => bare_ack(PacketType::Pubcomp, packet.pkid),
        P::Subscribe(packet) => packet.filters.iter().fold(
            Said::new(PacketType::Subscribe).with("packet id", packet.pkid),
            |said, filter| {
                said.with("filter", &filter.path[..])
                    .with("options", filter.qos as u8)
                    .with_all("options", [0_u8; 3])
            },
        ),
        P::SubAck(packet) => Said::new(PacketType::Suback)
            .with("packet id", packet.pkid)
            .with_all("reason code", packet.return_codes.iter().map(code)),
        P::Unsubscribe(packet) => Said::new(PacketType::Unsubscribe)
            .with("packet id", packet.pkid)
            .with_all("filter", packet.topics.iter().map(|topic| &topic[..])),
        P::UnsubAck(packet) => Said::new(PacketType::Unsuback).with("packet id", packet.pkid),
        P::PingReq => Said::new(PacketType::Pingreq),
        P::PingResp => Said::new(PacketType::Pingresp),
        P::Disconnect => Said::new(PacketType::Disconnect).with("reason code", 0_u8),
    }
}

fn bare_ack(packet_type: PacketType, packet_id: u16) -> Said {
    Said::new(packet_type)
        .with("packet id", packet_id)
        .with("reason code", 0_u8)
}

/// The properties of a packet; each field is an `Option` or a `Vec`.
macro_rules! properties {
    ($properties:expr; $($id:literal $field:ident)*) => {{
        let mut list: Vec<Property> = Vec::new();
        if let Some(properties) = $properties {
            $(for value in properties.$field.iter() {
                list.push(($id, value.clone().into()));
            })*
            for (name, value) in &properties.user_properties {
                list.push((0x26, (&name[..], &value[..]).into()));
            }
        }
        list
    }};
}

/// An acknowledgement with a reason code.
macro_rules! ack {
    ($packet_type:ident $packet:ident) => {
        Said::new(PacketType::$packet_type)
            .with("packet id", $packet.pkid)
            .with("reason code", code(&$packet.reason))
            .with_properties("properties", properties!($packet.properties; 0x1F reason_string))
    };
}

fn said_by_v5(packet: v5::Packet) -> Said {
    use v5::Packet as P;
    match packet {
        P::Connect(packet, will, login) => connect(packet, will, login),
        P::ConnAck(packet) => Said::new(PacketType::Connack)
            .with("session present", packet.session_present)
            .with("reason code", code(&packet.code))
            .with_properties(
                "properties",
                properties!(packet.properties; 0x11 session_expiry_interval
                    0x12 assigned_client_identifier 0x13 server_keep_alive 0x15 authentication_method
                    0x16 authentication_data 0x1A response_information 0x1C server_reference 0x1F reason_string
                    0x21 receive_max 0x22 topic_alias_max 0x24 max_qos 0x25 retain_available 0x27 max_packet_size
                    0x28 wildcard_subscription_available 0x29 subscription_identifiers_available
                    0x2A shared_subscription_available),
            ),
        P::Publish(packet) => Said::new(PacketType::Publish)
            .with("dup", packet.dup)
            .with("qos", packet.qos as u8)
            .with("retain", packet.retain)
            .with("topic", &packet.topic[..])
            .with("packet id", packet.pkid)
            .with_properties(
                "properties",
                properties!(packet.properties; 0x01 payload_format_indicator 0x02 message_expiry_interval
                    0x03 content_type 0x08 response_topic 0x09 correlation_data 0x0B subscription_identifiers
                    0x23 topic_alias),
            )
            .with("payload", &packet.payload[..]),
        P::PubAck(packet) => ack!(Puback packet),
        P::PubRec(packet) => ack!(Pubrec packet),
        P::PubRel(packet) => ack!(Pubrel packet),
        P::PubComp(packet) => ack!(Pubcomp packet),
        P::Subscribe(packet) => packet.filters.iter().fold(
            Said::new(PacketType::Subscribe)
                .with("packet id", packet.pkid)
                .with_properties("properties", properties!(packet.properties; 0x0B id)),
            |said, filter| {
                said.with("filter", &filter.path[..])
                    .with("options", filter.qos as u8)
                    .with("options", filter.nolocal)
                    .with("options", filter.preserve_retain)
                    .with("options", filter.retain_forward_rule.clone() as u8)
            },
        ),
        P::SubAck(packet) => Said::new(PacketType::Suback)
            .with("packet id", packet.pkid)
            .with_properties("properties", properties!(packet.properties; 0x1F reason_string))
            .with_all("reason code", packet.return_codes.iter().map(code)),
        P::Unsubscribe(packet) => Said::new(PacketType::Unsubscribe)
            .with("packet id", packet.pkid)
            .with_properties("properties", properties!(packet.properties;))
            .with_all("filter", packet.filters.iter().map(|filter| &filter[..])),
        P::UnsubAck(packet) => Said::new(PacketType::Unsuback)
            .with("packet id", packet.pkid)
            .with_properties("properties", properties!(packet.properties; 0x1F reason_string))
            .with_all("reason code", packet.reasons.iter().map(code)),
        P::PingReq(_) => Said::new(PacketType::Pingreq),
        P::PingResp(_) => Said::new(PacketType::Pingresp),
        P::Disconnect(packet) => Said::new(PacketType::Disconnect)
            .with("reason code", packet.reason_code as u8)
            .with_properties(
                "properties",
                properties!(packet.properties; 0x11 session_expiry_interval 0x1C server_reference
                    0x1F reason_string),
            ),
        P::Auth(packet) => Said::new(PacketType::Auth)
            .with("reason code", code(&packet.code))
            .with_properties(
                "properties",
                properties!(packet.properties; 0x15 method 0x16 data 0x1F reason),
            ),
    }
}

fn connect(packet: v5::Connect, will: Option<v5::LastWill>, login: Option<v5::Login>) -> Said {
    let said = Said::new(PacketType::Connect)
        .with("version", true)
        .with("clean start", packet.clean_start)
        .with("keep alive", packet.keep_alive)
        .with_properties(
            "properties",
            properties!(packet.properties; 0x11 session_expiry_interval 0x15 authentication_method
                0x16 authentication_data 0x17 request_problem_info 0x19 request_response_info
                0x21 receive_maximum 0x22 topic_alias_max 0x27 max_packet_size),
        )
        .with("client id", &packet.client_id[..])
        .with("will", will.is_some());
    let said = match will {
        None => said,
        Some(will) => said
            .with("will", will.qos as u8)
            .with("will", will.retain)
            .with_properties(
                "will properties",
                properties!(will.properties; 0x01 payload_format_indicator 0x02 message_expiry_interval
                    0x03 content_type 0x08 response_topic 0x09 correlation_data 0x18 delay_interval),
            )
            .with("will topic", &will.topic[..])
            .with("will payload", &will.message[..]),
    };
    let login = login.map_or_else(Default::default, |login| (login.username, login.password));
    said.with("user name", &login.0[..])
        .with("password", &login.1[..])
}

/// The value of a reason code, which most of their types keep to themselves, by its name.
fn code(reason: &impl Debug) -> u8 {
    match &format!("{reason:?}")[..] {
        "Success" | "Success(AtMostOnce)" => 0x00,
        "Success(AtLeastOnce)" => 0x01,
        "Success(ExactlyOnce)" => 0x02,
        "NoMatchingSubscribers" => 0x10,
        "NoSubscriptionExisted" => 0x11,
        "Continue" => 0x18,
        "ReAuthentivate" => 0x19,
        "Failure" | "Unspecified" | "UnspecifiedError" => 0x80,
        "MalformedPacket" => 0x81,
        "ProtocolError" => 0x82,
        "ImplementationSpecific" | "ImplementationSpecificError" => 0x83,
        "UnsupportedProtocolVersion" => 0x84,
        "ClientIdentifierNotValid" => 0x85,
        "BadUserNamePassword" => 0x86,
        "NotAuthorized" => 0x87,
        "ServerUnavailable" => 0x88,
        "ServerBusy" => 0x89,
        "Banned" => 0x8A,
        "BadAuthenticationMethod" => 0x8C,
        "TopicFilterInvalid" => 0x8F,
        "TopicNameInvalid" => 0x90,
        "PkidInUse" | "PacketIdentifierInUse" => 0x91,
        "PacketIdentifierNotFound" => 0x92,
        "PacketTooLarge" => 0x95,
        "QuotaExceeded" => 0x97,
        "PayloadFormatInvalid" => 0x99,
        "RetainNotSupported" => 0x9A,
        "QoSNotSupported" => 0x9B,
        "UseAnotherServer" => 0x9C,
        "ServerMoved" => 0x9D,
        "SharedSubscriptionsNotSupported" => 0x9E,
        "ConnectionRateExceeded" => 0x9F,
        "SubscriptionIdNotSupported" => 0xA1,
        "WildcardSubscriptionsNotSupported" => 0xA2,
        other => panic!("no value of {other} is known"),
    }
}
