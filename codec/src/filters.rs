//! The lists of topic filters in SUBSCRIBE and UNSUBSCRIBE: validated once, then iterated in place.

use std::fmt;

use crate::wire::{REMAINING_LEN_MAX, Reader, Sink};
use crate::{DecodeError, QoS, TopicFilter, Version};

/// What a subscription asks for besides its filter, v5 section 3.8.3.1. 3.1.1 has only the QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS with which the server sends messages.
    pub qos: QoS,
    /// Whether the client's own messages are left out. Not for shared subscriptions.
    pub no_local: bool,
    /// Whether messages keep the RETAIN flag that they were published with.
    pub retain_as_published: bool,
    /// Whether retained messages are sent for the subscription.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription, v5 section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// With each SUBSCRIBE; what 3.1.1 does.
    #[default]
    SendAtSubscribe = 0,
    /// Only if the subscription was not there before.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

// The bits of the options, v5 section 3.8.3.1.
const QOS: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RETAIN_HANDLING_SHIFT: u32 = 4;
const RESERVED: u8 = 0b1100_0000;

impl SubscriptionOptions {
    /// Only a QoS; everything else as in 3.1.1.
    #[must_use]
    pub const fn new(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    const fn bits(self) -> u8 {
        self.qos.bits()
            | if self.no_local { NO_LOCAL } else { 0 }
            | if self.retain_as_published {
                RETAIN_AS_PUBLISHED
            } else {
                0
            }
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }

    const fn from_bits(bits: u8, version: Version) -> Result<Self, DecodeError> {
        let reserved = match version {
            Version::V311 => !QOS,
            Version::V5 => RESERVED,
        };
        // v5 [MQTT-3.8.3-5], v3.1.1 [MQTT-3-8.3-4].
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        // In 5.0 a Protocol Error, unlike the reserved bits: v5 section 3.8.3.1.
        let Ok(qos) = QoS::from_bits(bits) else {
            return Err(DecodeError::SubscriptionQoSReserved);
        };
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandlingReserved),
        };
        Ok(Self {
            qos,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }
}

/// A validated list of topic filters with their options, as in SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a> {
    bytes: &'a [u8],
    /// All options that are set anywhere, as bits: 3.1.1 has fewer than 5.0.
    options: u8,
}

impl<'a> Filters<'a> {
    /// The filters and options in their order.
    #[must_use]
    pub const fn iter(&self) -> FilterIter<'a> {
        FilterIter {
            reader: Reader::new(self.bytes),
        }
    }

    /// How many there are. Counting walks over the list.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let bytes = reader.take_rest();
        // v5 [MQTT-3.8.3-2], v3.1.1 [MQTT-3.8.3-3].
        if bytes.is_empty() {
            return Err(DecodeError::NoSubscriptions);
        }
        let (mut reader, mut options) = (Reader::new(bytes), 0);
        while !reader.is_empty() {
            let filter = TopicFilter::decode(&mut reader)?;
            let bits = reader.u8()?;
            // A QoS and nothing else is right in both versions.
            if bits > QoS::ExactlyOnce.bits() {
                check_options(filter, SubscriptionOptions::from_bits(bits, version)?)?;
            }
            options |= bits;
        }
        Ok(Self { bytes, options })
    }

    /// Checks on the way out what [`Filters::decode`] checks and building the list does not.
    pub(crate) const fn check(&self, version: Version) -> Result<(), DecodeError> {
        match version {
            _ if self.bytes.is_empty() => Err(DecodeError::NoSubscriptions),
            Version::V311 if self.options & !QOS != 0 => Err(DecodeError::SubscriptionOptionsReserved),
            _ => Ok(()),
        }
    }

    pub(crate) fn encode(&self, sink: &mut impl Sink) {
        sink.put(self.bytes);
    }
}

/// v5 `[MQTT-3.8.3-4]`.
fn check_options(filter: TopicFilter<'_>, options: SubscriptionOptions) -> Result<(), DecodeError> {
    if options.no_local && filter.shared().is_some() {
        Err(DecodeError::NoLocalOnShared)
    } else {
        Ok(())
    }
}

impl<'a> IntoIterator for Filters<'a> {
    type Item = (TopicFilter<'a>, SubscriptionOptions);
    type IntoIter = FilterIter<'a>;

    fn into_iter(self) -> FilterIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The filters of a SUBSCRIBE with their options.
#[derive(Debug, Clone)]
pub struct FilterIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for FilterIter<'a> {
    type Item = (TopicFilter<'a>, SubscriptionOptions);

    fn next(&mut self) -> Option<Self::Item> {
        // The list was read wholly when it was validated, so this fails only at its end.
        let filter = TopicFilter::reread(&mut self.reader)?;
        let options = SubscriptionOptions::from_bits(self.reader.u8().ok()?, Version::V5).ok()?;
        Some((filter, options))
    }
}

/// A list of topic filters with their options that is built for a SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FiltersBuf {
    bytes: Vec<u8>,
    options: u8,
}

impl FiltersBuf {
    /// An empty list. A SUBSCRIBE needs at least one filter.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            options: 0,
        }
    }

    /// Appends a filter.
    ///
    /// # Errors
    ///
    /// [`DecodeError::NoLocalOnShared`], and [`DecodeError::FieldTooLong`] if the list would be longer than any
    /// packet. The list is then as before.
    pub fn push(&mut self, filter: TopicFilter<'_>, options: SubscriptionOptions) -> Result<(), DecodeError> {
        check_options(filter, options)?;
        push_filter(&mut self.bytes, filter, 1)?;
        self.bytes.put_u8(options.bits());
        self.options |= options.bits();
        Ok(())
    }

    /// The list for a packet.
    #[must_use]
    pub fn as_filters(&self) -> Filters<'_> {
        Filters {
            bytes: &self.bytes,
            options: self.options,
        }
    }
}

/// A validated list of topic filters, as in UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
}

impl<'a> UnsubscribeFilters<'a> {
    /// The filters in their order.
    #[must_use]
    pub const fn iter(&self) -> UnsubscribeFilterIter<'a> {
        UnsubscribeFilterIter {
            reader: Reader::new(self.bytes),
        }
    }

    /// How many there are. Counting walks over the list.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let filters = Self {
            bytes: reader.take_rest(),
        };
        filters.check()?;
        let mut reader = Reader::new(filters.bytes);
        while !reader.is_empty() {
            TopicFilter::decode(&mut reader)?;
        }
        Ok(filters)
    }

    pub(crate) fn encode(&self, sink: &mut impl Sink) {
        sink.put(self.bytes);
    }

    /// `[MQTT-3.10.3-2]` of both versions.
    pub(crate) const fn check(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Err(DecodeError::NoUnsubscriptions)
        } else {
            Ok(())
        }
    }
}

impl<'a> IntoIterator for UnsubscribeFilters<'a> {
    type Item = TopicFilter<'a>;
    type IntoIter = UnsubscribeFilterIter<'a>;

    fn into_iter(self) -> UnsubscribeFilterIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The filters of an UNSUBSCRIBE.
#[derive(Debug, Clone)]
pub struct UnsubscribeFilterIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for UnsubscribeFilterIter<'a> {
    type Item = TopicFilter<'a>;

    fn next(&mut self) -> Option<TopicFilter<'a>> {
        TopicFilter::reread(&mut self.reader)
    }
}

/// A list of topic filters that is built for an UNSUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnsubscribeFiltersBuf {
    bytes: Vec<u8>,
}

impl UnsubscribeFiltersBuf {
    /// An empty list. An UNSUBSCRIBE needs at least one filter.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a filter.
    ///
    /// # Errors
    ///
    /// [`DecodeError::FieldTooLong`] if the list would be longer than any packet. The list is then as before.
    pub fn push(&mut self, filter: TopicFilter<'_>) -> Result<(), DecodeError> {
        push_filter(&mut self.bytes, filter, 0)
    }

    /// The list for a packet.
    #[must_use]
    pub fn as_filters(&self) -> UnsubscribeFilters<'_> {
        UnsubscribeFilters { bytes: &self.bytes }
    }
}

/// Appends a filter if it and `more` bytes still fit into a packet.
fn push_filter(bytes: &mut Vec<u8>, filter: TopicFilter<'_>, more: usize) -> Result<(), DecodeError> {
    if bytes.len() + 2 + filter.len() + more > REMAINING_LEN_MAX {
        return Err(DecodeError::FieldTooLong);
    }
    // A topic filter has at most 65,535 bytes.
    bytes.put_field(filter.as_bytes());
    Ok(())
}
