//! A packet's block of properties: validated once, then iterated in place.

use std::fmt;

use crate::property::{self, Carrier, Property};
use crate::wire::{REMAINING_LEN_MAX, Reader, Sink};
use crate::{DecodeError, QoS, TopicName, Version};

const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// A validated block of properties, borrowed from the packet. A packet of 3.1.1 has [`Properties::EMPTY`].
///
/// Encoding for 3.1.1 leaves the properties out.
#[derive(Clone, Copy)]
pub struct Properties<'a> {
    /// The block without its length prefix.
    bytes: &'a [u8],
    present: Present,
}

impl Properties<'static> {
    /// No properties.
    pub const EMPTY: Self = Self {
        bytes: &[],
        present: Present(0),
    };
}

impl<'a> Properties<'a> {
    /// Checks a block that lies there without its length prefix.
    ///
    /// # Errors
    ///
    /// If a property is unknown, cut off, out of place, repeated or has a forbidden value, v5 section 2.2.2.2; or if
    /// the block is longer than any packet.
    pub fn new(bytes: &'a [u8], carrier: Carrier) -> Result<Self, DecodeError> {
        if bytes.len() > REMAINING_LEN_MAX {
            return Err(DecodeError::FieldTooLong);
        }
        Ok(Self {
            bytes,
            present: Present::of_first(bytes, bytes.len(), carrier)?,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The block as it lies on the wire, without its length prefix.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All properties in their order.
    #[must_use]
    pub const fn iter(&self) -> PropertyIter<'a> {
        PropertyIter {
            reader: Reader::new(self.bytes),
        }
    }

    /// The Subscription Identifiers in their order; in SUBSCRIBE there is at most one, v5 section 3.8.2.1.2.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + Clone + 'a {
        self.of(SUBSCRIPTION_IDENTIFIER)
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(id) => Some(id),
                _ => None,
            })
    }

    /// The User Properties, names and values, in their order, v5 `[MQTT-3.3.2-18]`.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + 'a {
        self.of(USER_PROPERTY).filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        })
    }

    /// Whether a Topic Alias is among them.
    #[inline]
    pub(crate) const fn has_topic_alias(&self) -> bool {
        self.present.has(TOPIC_ALIAS)
    }

    /// Whether there is Authentication Data without an Authentication Method.
    pub(crate) const fn lack_authentication_method(&self) -> bool {
        self.present.lacks_authentication_method()
    }

    /// All properties if the one with this identifier is among them, else none: most are absent mostly.
    const fn of(&self, id: u8) -> PropertyIter<'a> {
        let bytes: &[u8] = if self.present.has(id) { self.bytes } else { &[] };
        PropertyIter {
            reader: Reader::new(bytes),
        }
    }

    /// Reads a block behind its length; 3.1.1 has none.
    #[inline(always)]
    pub(crate) fn decode(
        reader: &mut Reader<'a>,
        version: Version,
        carrier: Carrier,
    ) -> Result<Self, DecodeError> {
        if version == Version::V311 || reader.skip_zero() {
            return Ok(Properties::EMPTY);
        }
        let len = reader.varint()?;
        // A length of 28 bits fits into a usize of 32 bits and more.
        let all = reader.rest();
        let bytes = reader.bytes(len as usize)?;
        let present = Present::of_first(all, bytes.len(), carrier)?;
        Ok(Self { bytes, present })
    }

    /// Checks on the way out that the packet may carry them; 3.1.1 leaves them out.
    #[inline(always)]
    pub(crate) const fn check(&self, version: Version, carrier: Carrier) -> Result<(), DecodeError> {
        match version {
            Version::V5 if self.present.0 != 0 => self.present.check(carrier),
            _ => Ok(()),
        }
    }

    /// Writes the block behind its length, v5 `[MQTT-2.2.2-1]`; nothing in 3.1.1.
    #[inline(always)]
    pub(crate) fn encode(&self, version: Version, sink: &mut impl Sink) {
        if version == Version::V5 {
            sink.put_varint(self.bytes.len());
            if !self.bytes.is_empty() {
                sink.put(self.bytes);
            }
        }
    }
}

/// A look-up for each property that occurs at most once.
macro_rules! look_ups {
    ($($id:literal $name:ident $variant:ident -> $value:ty;)+) => {
        /// Look-ups of the properties that occur at most once; `None` if the sender left it out.
        impl<'a> Properties<'a> {
            $(
                #[doc = concat!("[`Property::", stringify!($variant), "`].")]
                #[must_use]
                pub fn $name(&self) -> Option<$value> {
                    self.of($id).find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

look_ups! {
    0x01 payload_format_indicator PayloadFormatIndicator -> bool;
    0x02 message_expiry_interval MessageExpiryInterval -> u32;
    0x03 content_type ContentType -> &'a str;
    0x08 response_topic ResponseTopic -> TopicName<'a>;
    0x09 correlation_data CorrelationData -> &'a [u8];
    0x11 session_expiry_interval SessionExpiryInterval -> u32;
    0x12 assigned_client_identifier AssignedClientIdentifier -> &'a str;
    0x13 server_keep_alive ServerKeepAlive -> u16;
    0x15 authentication_method AuthenticationMethod -> &'a str;
    0x16 authentication_data AuthenticationData -> &'a [u8];
    0x17 request_problem_information RequestProblemInformation -> bool;
    0x18 will_delay_interval WillDelayInterval -> u32;
    0x19 request_response_information RequestResponseInformation -> bool;
    0x1A response_information ResponseInformation -> &'a str;
    0x1C server_reference ServerReference -> &'a str;
    0x1F reason_string ReasonString -> &'a str;
    0x21 receive_maximum ReceiveMaximum -> u16;
    0x22 topic_alias_maximum TopicAliasMaximum -> u16;
    0x23 topic_alias TopicAlias -> u16;
    0x24 maximum_qos MaximumQoS -> QoS;
    0x25 retain_available RetainAvailable -> bool;
    0x27 maximum_packet_size MaximumPacketSize -> u32;
    0x28 wildcard_subscription_available WildcardSubscriptionAvailable -> bool;
    0x29 subscription_identifier_available SubscriptionIdentifierAvailable -> bool;
    0x2A shared_subscription_available SharedSubscriptionAvailable -> bool;
}

impl Default for Properties<'_> {
    fn default() -> Self {
        Properties::EMPTY
    }
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Properties<'_> {}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

/// The properties of a block in their order.
#[derive(Debug, Clone)]
pub struct PropertyIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        // The block was read wholly by the same code when it was validated, so this fails only at its end.
        Property::decode(&mut self.reader).ok()
    }
}

/// A block of properties that is built for the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
    present: Present,
    carrier: Carrier,
}

impl PropertiesBuf {
    /// An empty block for this packet.
    #[must_use]
    pub const fn new(carrier: Carrier) -> Self {
        Self {
            bytes: Vec::new(),
            present: Present(0),
            carrier,
        }
    }

    /// A block of these properties for this packet.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub fn of(carrier: Carrier, properties: &[Property<'_>]) -> Result<Self, DecodeError> {
        let mut block = Self::new(carrier);
        properties.iter().try_for_each(|property| block.push(*property))?;
        Ok(block)
    }

    /// A copy of a block, for this packet. Without properties it owns no memory.
    ///
    /// # Errors
    ///
    /// If the packet must not carry one of them.
    pub fn copy_of(carrier: Carrier, properties: Properties<'_>) -> Result<Self, DecodeError> {
        properties.present.check_places(carrier)?;
        Ok(Self {
            bytes: properties.bytes.to_vec(),
            present: properties.present,
            carrier,
        })
    }

    /// Appends a property.
    ///
    /// # Errors
    ///
    /// If the packet must not carry it, it is there already, its value is forbidden or too long, or the block would
    /// be longer than any packet. The block is then as before.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), DecodeError> {
        let len = self.bytes.len();
        match self.append(property) {
            Ok(present) => {
                self.present = present;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(len);
                Err(error)
            }
        }
    }

    fn append(&mut self, property: Property<'_>) -> Result<Present, DecodeError> {
        let start = self.bytes.len();
        property.encode(&mut self.bytes)?;
        if self.bytes.len() > REMAINING_LEN_MAX {
            return Err(DecodeError::FieldTooLong);
        }
        // Reading it back checks its value by the one set of rules.
        let mut reader = Reader::new(self.bytes.get(start..).unwrap_or_default());
        let id = Property::check(&mut reader)?;
        reader.finish()?;
        let mut present = self.present;
        present.add(id)?;
        present.check_places(self.carrier)?;
        Ok(present)
    }

    /// Forgets all properties and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.present = Present(0);
    }

    /// The block for a packet.
    #[must_use]
    pub fn as_properties(&self) -> Properties<'_> {
        Properties {
            bytes: &self.bytes,
            present: self.present,
        }
    }
}

/// Which properties a block holds: bit N stands for identifier N, which is below 64 for all of them. Bit 0, which no
/// property has, says that there is more than one Subscription Identifier, which only PUBLISH may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Present(u64);

impl Present {
    const SEVERAL_SUBSCRIPTION_IDENTIFIERS: u64 = 1;

    const fn has(self, id: u8) -> bool {
        self.0 >> id & 1 == 1
    }

    /// Checks the block that the first `len` of the bytes are.
    ///
    /// Behind a block there is nearly always more of the packet, and a text is checked fastest if it does not end the
    /// bytes.
    #[inline]
    fn of_first(bytes: &[u8], len: usize, carrier: Carrier) -> Result<Self, DecodeError> {
        match Self::of_sound(bytes, len, carrier) {
            Some(present) => Ok(present),
            None => Self::of_any(bytes.get(..len).ok_or(DecodeError::Truncated)?, carrier),
        }
    }

    /// The same for a block that is sound; `None` if anything is wrong with it: then [`of_any`](Self::of_any) knows what.
    ///
    /// A property that reaches past the end of the block is found when all are read: the next one does not begin at that
    /// end.
    #[inline(never)]
    fn of_sound(bytes: &[u8], len: usize, carrier: Carrier) -> Option<Self> {
        let behind_len = bytes.len().checked_sub(len)?;
        let mut present = Self(0);
        let mut reader = Reader::new(bytes);
        while reader.rest().len() > behind_len {
            present.add(Property::check(&mut reader).ok()?).ok()?;
        }
        present.check(carrier).ok()?;
        (reader.rest().len() == behind_len).then_some(present)
    }

    /// Reads a whole block and says what is wrong with it.
    #[cold]
    #[inline(never)]
    fn of_any(bytes: &[u8], carrier: Carrier) -> Result<Self, DecodeError> {
        let mut present = Self(0);
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            present.add(Property::check(&mut reader)?)?;
        }
        present.check(carrier)?;
        Ok(present)
    }

    /// Notes a property, v5 section 2.2.2.2: all but two may occur once only.
    #[inline]
    const fn add(&mut self, id: u8) -> Result<(), DecodeError> {
        if self.has(id) {
            match id {
                USER_PROPERTY => {}
                SUBSCRIPTION_IDENTIFIER => self.0 |= Self::SEVERAL_SUBSCRIPTION_IDENTIFIERS,
                _ => return Err(DecodeError::PropertyRepeated(id)),
            }
        }
        self.0 |= 1 << id;
        Ok(())
    }

    /// Checks what only the whole block shows.
    #[inline]
    const fn check(self, carrier: Carrier) -> Result<(), DecodeError> {
        // v5 section 3.1.2.11.10; v5 section 3.15.2.2.2 needs the method in AUTH anyway. Of CONNACK only one that
        // accepts must have it, v5 [MQTT-4.12.0-5], which the block does not show.
        if self.lacks_authentication_method() && !matches!(carrier, Carrier::Connack) {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        self.check_places(carrier)
    }

    const fn lacks_authentication_method(self) -> bool {
        self.has(AUTHENTICATION_DATA) && !self.has(AUTHENTICATION_METHOD)
    }

    /// The carrier must be allowed to carry each.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the table has an entry for every carrier")]
    const fn check_places(self, carrier: Carrier) -> Result<(), DecodeError> {
        static ALLOWED: [u64; 16] = {
            let mut allowed = property::ALLOWED;
            allowed[Carrier::Publish as usize] |= Present::SEVERAL_SUBSCRIPTION_IDENTIFIERS;
            allowed
        };
        let allowed = ALLOWED[carrier as usize];
        let out_of_place = self.0 & !allowed;
        if out_of_place == 0 {
            return Ok(());
        }
        Err(match out_of_place.trailing_zeros() {
            0 => DecodeError::PropertyRepeated(SUBSCRIPTION_IDENTIFIER),
            id => DecodeError::PropertyOutOfPlace(id as u8),
        })
    }
}

#[cfg(test)]
mod tests;
