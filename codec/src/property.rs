//! One property of 5.0: the table of identifiers, types and places, v5 section 2.2.2.2.

use crate::wire::{Reader, Sink, check_field_len};
use crate::{DecodeError, PacketType, QoS, TopicName};

/// What carries a block of properties: a packet, or the will inside CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the packet of that name")]
pub enum Carrier {
    /// The will properties in the payload of CONNECT, v5 section 3.1.3.2.
    Will = 0,
    Connect = PacketType::Connect as u8,
    Connack = PacketType::Connack as u8,
    Publish = PacketType::Publish as u8,
    Puback = PacketType::Puback as u8,
    Pubrec = PacketType::Pubrec as u8,
    Pubrel = PacketType::Pubrel as u8,
    Pubcomp = PacketType::Pubcomp as u8,
    Subscribe = PacketType::Subscribe as u8,
    Suback = PacketType::Suback as u8,
    Unsubscribe = PacketType::Unsubscribe as u8,
    Unsuback = PacketType::Unsuback as u8,
    Disconnect = PacketType::Disconnect as u8,
    Auth = PacketType::Auth as u8,
}

/// Builds the enum, its identifiers, places, reading and writing from one table in the order of v5 table 2-4.
/// The lower-case word is the type on the wire: a function of the module `read` and one of the module `write`.
macro_rules! properties {
    ($($id:literal $variant:ident($value:ty) $wire:ident $name:literal [$($carrier:ident)+];)+) => {
        /// A property of 5.0, v5 section 2.2.2.2.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Property<'a> {
            $(#[doc = concat!($name, ", `", stringify!($id), "`.")] $variant($value),)+
        }

        impl<'a> Property<'a> {
            /// The identifier on the wire.
            #[must_use]
            pub const fn id(&self) -> u8 {
                match self {
                    $(Self::$variant(_) => $id,)+
                }
            }

            /// Reads the identifier and the value.
            #[inline]
            pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                // All identifiers are below 0x80, so each is one byte of the variable byte integer that it is.
                match reader.u8()? {
                    $($id => Ok(Self::$variant(read::$wire(reader, $id)?)),)+
                    id => Err(DecodeError::PropertyUnknown(id)),
                }
            }

            /// Checks the next property as [`Property::decode`] does and returns its identifier.
            #[inline(always)]
            pub(crate) fn check(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
                let id = reader.u8()?;
                Wire::of(id)?.check(reader, id)?;
                Ok(id)
            }

            /// Writes the identifier and the value. The value is not checked.
            pub(crate) fn encode(&self, sink: &mut impl Sink) -> Result<(), DecodeError> {
                sink.put_u8(self.id());
                match *self {
                    $(Self::$variant(value) => write::$wire(sink, value),)+
                }
            }
        }

        /// How the value of each property lies on the wire; there is an entry for every byte.
        static WIRES: [Option<Wire>; 256] = {
            let mut wires = [None; 256];
            $(wires[$id] = Some(Wire::$wire);)+
            wires
        };

        /// The properties that each carrier may carry: bit N stands for the property with identifier N.
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        pub(crate) const ALLOWED: [u64; 16] = {
            let mut allowed = [0; 16];
            $($(allowed[Carrier::$carrier as usize] |= 1 << $id;)+)+
            allowed
        };
    };
}

properties! {
    0x01 PayloadFormatIndicator(bool) flag "Payload Format Indicator; true: the payload is UTF-8" [Publish Will];
    0x02 MessageExpiryInterval(u32) four_bytes "Message Expiry Interval, in seconds" [Publish Will];
    0x03 ContentType(&'a str) string "Content Type" [Publish Will];
    0x08 ResponseTopic(TopicName<'a>) topic "Response Topic" [Publish Will];
    0x09 CorrelationData(&'a [u8]) binary "Correlation Data" [Publish Will];
    0x0B SubscriptionIdentifier(u32) positive_varint "Subscription Identifier, 1 to 268,435,455" [Publish Subscribe];
    0x11 SessionExpiryInterval(u32) four_bytes "Session Expiry Interval, in seconds"
        [Connect Connack Disconnect];
    0x12 AssignedClientIdentifier(&'a str) string "Assigned Client Identifier" [Connack];
    0x13 ServerKeepAlive(u16) two_bytes "Server Keep Alive, in seconds" [Connack];
    0x15 AuthenticationMethod(&'a str) string "Authentication Method" [Connect Connack Auth];
    0x16 AuthenticationData(&'a [u8]) binary "Authentication Data" [Connect Connack Auth];
    0x17 RequestProblemInformation(bool) flag "Request Problem Information" [Connect];
    0x18 WillDelayInterval(u32) four_bytes "Will Delay Interval, in seconds" [Will];
    0x19 RequestResponseInformation(bool) flag "Request Response Information" [Connect];
    0x1A ResponseInformation(&'a str) string "Response Information" [Connack];
    0x1C ServerReference(&'a str) string "Server Reference" [Connack Disconnect];
    0x1F ReasonString(&'a str) string "Reason String"
        [Connack Puback Pubrec Pubrel Pubcomp Suback Unsuback Disconnect Auth];
    0x21 ReceiveMaximum(u16) positive_two_bytes "Receive Maximum, above zero" [Connect Connack];
    0x22 TopicAliasMaximum(u16) two_bytes "Topic Alias Maximum" [Connect Connack];
    0x23 TopicAlias(u16) topic_alias "Topic Alias, above zero" [Publish];
    0x24 MaximumQoS(QoS) maximum_qos "Maximum QoS, 0 or 1" [Connack];
    0x25 RetainAvailable(bool) flag "Retain Available" [Connack];
    0x26 UserProperty((&'a str, &'a str)) pair "User Property, a name and a value; may be repeated"
        [Connect Connack Publish Will Puback Pubrec Pubrel Pubcomp Subscribe Suback Unsubscribe Unsuback
            Disconnect Auth];
    0x27 MaximumPacketSize(u32) positive_four_bytes "Maximum Packet Size in bytes, above zero" [Connect Connack];
    0x28 WildcardSubscriptionAvailable(bool) flag "Wildcard Subscription Available" [Connack];
    0x29 SubscriptionIdentifierAvailable(bool) flag "Subscription Identifier Available" [Connack];
    0x2A SharedSubscriptionAvailable(bool) flag "Shared Subscription Available" [Connack];
}

/// Builds the types of values from their names, which are those of the functions of the module `read`.
macro_rules! wires {
    ($($wire:ident)+) => {
        /// A type of value on the wire. There are far fewer than properties, so that checking one is little code, all
        /// of it in line.
        #[derive(Clone, Copy)]
        #[expect(non_camel_case_types, reason = "named as what reads them")]
        enum Wire {
            $($wire,)+
        }

        impl Wire {
            /// Passes over a value if it is sound.
            #[inline(always)]
            fn check(self, reader: &mut Reader<'_>, id: u8) -> Result<(), DecodeError> {
                match self {
                    $(Self::$wire => read::$wire(reader, id).map(|_| ()),)+
                }
            }
        }
    };
}

wires! {
    flag maximum_qos two_bytes positive_two_bytes topic_alias four_bytes positive_four_bytes positive_varint string topic
        binary pair
}

impl Wire {
    /// That of the property with this identifier.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]
    fn of(id: u8) -> Result<Self, DecodeError> {
        WIRES[usize::from(id)].ok_or(DecodeError::PropertyUnknown(id))
    }
}

/// Reading each type of value. Values outside the range that v5 section 2.2.2.2 and the packet's section allow
/// are refused here.
mod read {
    use super::{DecodeError, QoS, Reader, TopicName};

    #[inline(always)]
    pub(super) fn flag(reader: &mut Reader<'_>, id: u8) -> Result<bool, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue(id)),
        }
    }

    #[inline(always)]
    pub(super) fn maximum_qos(reader: &mut Reader<'_>, id: u8) -> Result<QoS, DecodeError> {
        Ok(if flag(reader, id)? {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        })
    }

    #[inline(always)]
    pub(super) fn two_bytes(reader: &mut Reader<'_>, _: u8) -> Result<u16, DecodeError> {
        reader.u16()
    }

    #[inline(always)]
    pub(super) fn positive_two_bytes(reader: &mut Reader<'_>, id: u8) -> Result<u16, DecodeError> {
        match reader.u16()? {
            0 => Err(DecodeError::PropertyValue(id)),
            value => Ok(value),
        }
    }

    #[inline(always)]
    pub(super) fn topic_alias(reader: &mut Reader<'_>, _: u8) -> Result<u16, DecodeError> {
        match reader.u16()? {
            0 => Err(DecodeError::TopicAliasZero),
            value => Ok(value),
        }
    }

    #[inline(always)]
    pub(super) fn four_bytes(reader: &mut Reader<'_>, _: u8) -> Result<u32, DecodeError> {
        reader.u32()
    }

    #[inline(always)]
    pub(super) fn positive_four_bytes(reader: &mut Reader<'_>, id: u8) -> Result<u32, DecodeError> {
        match reader.u32()? {
            0 => Err(DecodeError::PropertyValue(id)),
            value => Ok(value),
        }
    }

    #[inline(always)]
    pub(super) fn positive_varint(reader: &mut Reader<'_>, id: u8) -> Result<u32, DecodeError> {
        match reader.varint()? {
            0 => Err(DecodeError::PropertyValue(id)),
            value => Ok(value),
        }
    }

    #[inline(always)]
    pub(super) fn string<'a>(reader: &mut Reader<'a>, _: u8) -> Result<&'a str, DecodeError> {
        reader.string()
    }

    /// v5 `[MQTT-3.3.2-13]` and `[MQTT-3.3.2-14]`.
    #[inline(always)]
    pub(super) fn topic<'a>(reader: &mut Reader<'a>, _: u8) -> Result<TopicName<'a>, DecodeError> {
        TopicName::decode(reader)
    }

    #[inline(always)]
    pub(super) fn binary<'a>(reader: &mut Reader<'a>, _: u8) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }

    #[inline(always)]
    pub(super) fn pair<'a>(reader: &mut Reader<'a>, _: u8) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((reader.string()?, reader.string()?))
    }
}

/// Writing each type of value; only lengths can fail. [`PropertiesBuf`](crate::PropertiesBuf) reads back what was
/// written, and so checks the values by the code above.
mod write {
    use super::{DecodeError, QoS, Sink, TopicName, check_field_len};

    pub(super) fn flag(sink: &mut impl Sink, value: bool) -> Result<(), DecodeError> {
        sink.put_u8(u8::from(value));
        Ok(())
    }

    pub(super) fn maximum_qos(sink: &mut impl Sink, value: QoS) -> Result<(), DecodeError> {
        sink.put_u8(value.bits());
        Ok(())
    }

    pub(super) fn two_bytes(sink: &mut impl Sink, value: u16) -> Result<(), DecodeError> {
        sink.put_u16(value);
        Ok(())
    }

    pub(super) fn four_bytes(sink: &mut impl Sink, value: u32) -> Result<(), DecodeError> {
        sink.put_u32(value);
        Ok(())
    }

    /// A value above four bytes of seven bits comes out with a fifth byte, which reading refuses.
    pub(super) fn positive_varint(sink: &mut impl Sink, value: u32) -> Result<(), DecodeError> {
        sink.put_varint(value as usize);
        Ok(())
    }

    pub(super) fn string(sink: &mut impl Sink, value: &str) -> Result<(), DecodeError> {
        binary(sink, value.as_bytes())
    }

    pub(super) fn topic(sink: &mut impl Sink, value: TopicName<'_>) -> Result<(), DecodeError> {
        binary(sink, value.as_bytes())
    }

    pub(super) fn binary(sink: &mut impl Sink, value: &[u8]) -> Result<(), DecodeError> {
        check_field_len(value)?;
        sink.put_field(value);
        Ok(())
    }

    pub(super) fn pair(sink: &mut impl Sink, (name, value): (&str, &str)) -> Result<(), DecodeError> {
        string(sink, name)?;
        string(sink, value)
    }

    pub(super) use {
        four_bytes as positive_four_bytes, two_bytes as positive_two_bytes, two_bytes as topic_alias,
    };
}
