//! How packets lie on the wire, written down once more from the specification and without a single check.

use fleetwire_codec::{Connect, Properties, Property, QoS, ReasonCode, SubscriptionOptions, Version, Will};

use super::packet::put_varint;

/// The bytes of a packet's body. `None` as soon as a field is too long for its length prefix.
pub(super) struct Body(Option<Vec<u8>>);

impl Body {
    pub(super) const fn new() -> Self {
        Self(Some(Vec::new()))
    }

    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        self.0
    }

    pub(super) fn put(mut self, bytes: &[u8]) -> Self {
        if let Some(body) = &mut self.0 {
            body.extend_from_slice(bytes);
        }
        self
    }

    /// Bytes behind their length, v5 sections 1.5.4 and 1.5.6.
    pub(super) fn field(mut self, bytes: &[u8]) -> Self {
        if let Ok(len) = u16::try_from(bytes.len()) {
            self.put(&len.to_be_bytes()).put(bytes)
        } else {
            self.0 = None;
            self
        }
    }

    pub(super) fn id(self, id: u16) -> Self {
        self.put(&id.to_be_bytes())
    }

    /// v5 section 2.2.2; 3.1.1 has no properties.
    pub(super) fn properties(self, properties: Properties<'_>, version: Version) -> Self {
        if version == Version::V311 {
            return self;
        }
        let mut len = Vec::new();
        put_varint(&mut len, properties.as_bytes().len());
        self.put(&len).put(properties.as_bytes())
    }

    /// A reason code and properties that may be left out, v5 sections 3.4.2.1 and 3.4.2.2.1.
    pub(super) fn outcome(self, reason: ReasonCode, properties: Properties<'_>, version: Version) -> Self {
        match (version, reason.value(), properties.is_empty()) {
            (Version::V311, ..) | (Version::V5, 0, true) => self,
            (Version::V5, reason, true) => self.put(&[reason]),
            (Version::V5, reason, false) => self.put(&[reason]).properties(properties, version),
        }
    }
}

/// v5 section 3.1.2 and 3.1.3, v3.1.1 the same without properties.
pub(super) fn connect(packet: &Connect<'_>) -> Option<Vec<u8>> {
    let bit = |set: bool, bit: u32| u8::from(set) << bit;
    let will_qos = packet.will.map_or(0, |will| will.qos as u8);
    let flags = bit(packet.username.is_some(), 7)
        | bit(packet.password.is_some(), 6)
        | bit(packet.will.is_some_and(|will| will.retain), 5)
        | will_qos << 3
        | bit(packet.will.is_some(), 2)
        | bit(packet.clean_start, 1);
    let level = if packet.version == Version::V5 { 5 } else { 4 };
    let mut body = Body::new()
        .field(b"MQTT")
        .put(&[level, flags])
        .put(&packet.keep_alive_secs.to_be_bytes())
        .properties(packet.properties, packet.version)
        .field(packet.client_id.as_bytes());
    if let Some(Will {
        topic,
        payload,
        properties,
        ..
    }) = packet.will
    {
        body = body
            .properties(properties, packet.version)
            .field(topic.as_bytes())
            .field(payload);
    }
    if let Some(username) = packet.username {
        body = body.field(username.as_bytes());
    }
    if let Some(password) = packet.password {
        body = body.field(password);
    }
    body.into_bytes()
}

/// v5 section 3.8.3.1.
pub(super) const fn options(options: SubscriptionOptions) -> u8 {
    options.qos as u8
        | (options.no_local as u8) << 2
        | (options.retain_as_published as u8) << 3
        | (options.retain_handling as u8) << 4
}

/// v5 section 2.2.2.2, table 2-4. `None` for a kind of property that this does not know, too.
pub(super) fn property(property: &Property<'_>) -> Option<Vec<u8>> {
    use Property as P;
    let body = Body::new().put(&[property.id()]);
    match *property {
        P::PayloadFormatIndicator(value)
        | P::RequestProblemInformation(value)
        | P::RequestResponseInformation(value)
        | P::RetainAvailable(value)
        | P::WildcardSubscriptionAvailable(value)
        | P::SubscriptionIdentifierAvailable(value)
        | P::SharedSubscriptionAvailable(value) => body.put(&[u8::from(value)]),
        P::MaximumQoS(QoS::AtMostOnce) => body.put(&[0]),
        P::MaximumQoS(QoS::AtLeastOnce) => body.put(&[1]),
        P::MaximumQoS(QoS::ExactlyOnce) => body.put(&[2]),
        P::ServerKeepAlive(value)
        | P::ReceiveMaximum(value)
        | P::TopicAliasMaximum(value)
        | P::TopicAlias(value) => body.put(&value.to_be_bytes()),
        P::MessageExpiryInterval(value)
        | P::SessionExpiryInterval(value)
        | P::WillDelayInterval(value)
        | P::MaximumPacketSize(value) => body.put(&value.to_be_bytes()),
        P::SubscriptionIdentifier(value) => {
            let mut varint = Vec::new();
            put_varint(&mut varint, value as usize);
            body.put(&varint)
        }
        P::ContentType(value)
        | P::AssignedClientIdentifier(value)
        | P::AuthenticationMethod(value)
        | P::ResponseInformation(value)
        | P::ServerReference(value)
        | P::ReasonString(value) => body.field(value.as_bytes()),
        P::ResponseTopic(value) => body.field(value.as_bytes()),
        P::CorrelationData(value) | P::AuthenticationData(value) => body.field(value),
        P::UserProperty((name, value)) => body.field(name.as_bytes()).field(value.as_bytes()),
        _ => return None,
    }
    .into_bytes()
}
