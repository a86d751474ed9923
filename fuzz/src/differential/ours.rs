//! What our codec reads.

use fleetwire_codec::{Packet, Properties, Property, Version};

use super::said::{self, Said, Value};

pub(super) fn said(packet: &Packet<'_>) -> Said {
    let said = Said::new(packet.packet_type());
    match packet {
        Packet::Connect(packet) => {
            let said = said
                .with("version", packet.version == Version::V5)
                .with("clean start", packet.clean_start)
                .with("keep alive", packet.keep_alive_secs)
                .with_properties("properties", properties(packet.properties))
                .with("client id", packet.client_id)
                .with("will", packet.will.is_some());
            let said = match packet.will {
                None => said,
                Some(will) => said
                    .with("will", will.qos.bits())
                    .with("will", will.retain)
                    .with_properties("will properties", properties(will.properties))
                    .with("will topic", will.topic.as_str())
                    .with("will payload", will.payload),
            };
            // Some cannot tell a name that is empty from one that is not there.
            said.with("user name", packet.username.unwrap_or_default())
                .with("password", packet.password.unwrap_or_default())
        }
        Packet::Connack(packet) => said
            .with("session present", packet.session_present)
            .with("reason code", packet.code)
            .with_properties("properties", properties(packet.properties)),
        Packet::Publish(packet) => said
            .with("dup", packet.dup)
            .with("qos", packet.qos.bits())
            .with("retain", packet.retain)
            .with("topic", packet.topic.as_str())
            .with("packet id", packet.packet_id.map_or(0, |id| id.value()))
            .with_properties("properties", properties(packet.properties))
            .with("payload", packet.payload),
        Packet::Puback(packet) => said
            .with("packet id", packet.packet_id.value())
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
        Packet::Pubrec(packet) => said
            .with("packet id", packet.packet_id.value())
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
        Packet::Pubrel(packet) => said
            .with("packet id", packet.packet_id.value())
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
        Packet::Pubcomp(packet) => said
            .with("packet id", packet.packet_id.value())
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
        Packet::Subscribe(packet) => packet.filters.iter().fold(
            said.with("packet id", packet.packet_id.value())
                .with_properties("properties", properties(packet.properties)),
            |said, (filter, options)| {
                said.with("filter", filter.as_str())
                    .with("options", options.qos.bits())
                    .with("options", options.no_local)
                    .with("options", options.retain_as_published)
                    .with("options", options.retain_handling as u8)
            },
        ),
        Packet::Suback(packet) => said
            .with("packet id", packet.packet_id.value())
            .with_properties("properties", properties(packet.properties))
            .with_all("reason code", packet.codes.iter().copied()),
        Packet::Unsubscribe(packet) => said
            .with("packet id", packet.packet_id.value())
            .with_properties("properties", properties(packet.properties))
            .with_all("filter", packet.filters.iter().map(|filter| filter.as_str())),
        Packet::Unsuback(packet) => said
            .with("packet id", packet.packet_id.value())
            .with_properties("properties", properties(packet.properties))
            .with_all("reason code", packet.codes.iter().copied()),
        Packet::Pingreq | Packet::Pingresp => said,
        Packet::Disconnect(packet) => said
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
        Packet::Auth(packet) => said
            .with("reason code", packet.reason.value())
            .with_properties("properties", properties(packet.properties)),
    }
}

fn properties(properties: Properties<'_>) -> Vec<said::Property> {
    properties
        .iter()
        .map(|property| (property.id(), value(&property)))
        .collect()
}

fn value(property: &Property<'_>) -> Value {
    use Property as P;
    match *property {
        P::PayloadFormatIndicator(value)
        | P::RequestProblemInformation(value)
        | P::RequestResponseInformation(value)
        | P::RetainAvailable(value)
        | P::WildcardSubscriptionAvailable(value)
        | P::SubscriptionIdentifierAvailable(value)
        | P::SharedSubscriptionAvailable(value) => value.into(),
        P::MaximumQoS(value) => value.bits().into(),
        P::ServerKeepAlive(value)
        | P::ReceiveMaximum(value)
        | P::TopicAliasMaximum(value)
        | P::TopicAlias(value) => value.into(),
        P::MessageExpiryInterval(value)
        | P::SessionExpiryInterval(value)
        | P::WillDelayInterval(value)
        | P::MaximumPacketSize(value)
        | P::SubscriptionIdentifier(value) => value.into(),
        P::ContentType(value)
        | P::AssignedClientIdentifier(value)
        | P::AuthenticationMethod(value)
        | P::ResponseInformation(value)
        | P::ServerReference(value)
        | P::ReasonString(value) => value.into(),
        P::ResponseTopic(value) => value.as_str().into(),
        P::CorrelationData(value) | P::AuthenticationData(value) => value.into(),
        P::UserProperty(pair) => pair.into(),
        ref unknown => panic!("{unknown:?} is not compared"),
    }
}
