//! SUBSCRIBE and UNSUBSCRIBE of a client, and a server's answers to them.

use fleetwire_codec::{
    FiltersBuf, Packet, PacketId, Properties, QoS, Suback, Subscribe, SubscriptionOptions, TopicFilter,
    Unsuback, Unsubscribe, UnsubscribeFiltersBuf,
};

use super::Outbox;
use crate::session::Kind;
use crate::{LinkId, VerbError};

impl Outbox<'_> {
    /// Client role: subscribes; `Subscribed` follows with one code for each filter.
    ///
    /// # Errors
    /// See [`VerbError`]; nothing was queued then.
    pub fn subscribe(
        &mut self,
        link: LinkId,
        filters: &[(TopicFilter<'_>, QoS)],
    ) -> Result<PacketId, VerbError> {
        let filters = filters
            .iter()
            .map(|(filter, qos)| (*filter, SubscriptionOptions::new(*qos)));
        self.subscribe_to(link, filters, Properties::EMPTY)
    }

    /// As [`subscribe`](Self::subscribe), with all that 5.0 lets a subscription say: options for each filter (v5 section
    /// 3.8.3.1), and properties of the SUBSCRIBE.
    ///
    /// A [Subscription Identifier](fleetwire_codec::Property::SubscriptionIdentifier) among these, 1 to 268,435,455, comes
    /// back with each message that one of the filters matches (v5 section 3.8.2.1.2), in
    /// [`subscription_identifiers`](Properties::subscription_identifiers); other values and a second one are refused when the
    /// properties are made. User Properties are left out in 3.1.1.
    ///
    /// ```
    /// use fleetwire_codec::{Carrier, DecodeError, PropertiesBuf, Property, QoS, SubscriptionOptions, TopicFilter};
    /// use fleetwire_engine::{LinkId, Outbox};
    ///
    /// fn listen(link: LinkId, out: &mut Outbox<'_>) -> Result<(), Box<dyn std::error::Error>> {
    ///     let marked = PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(7)])?;
    ///     let filter = (TopicFilter::new("orders/#")?, SubscriptionOptions::new(QoS::AtLeastOnce));
    ///     out.subscribe_with(link, &[filter], marked.as_properties())?;
    ///     Ok(())
    /// }
    /// # let zero = PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(0)]);
    /// # assert_eq!(zero, Err(DecodeError::PropertyValue(0x0B)));
    /// ```
    ///
    /// # Errors
    /// See [`VerbError`]; nothing was queued then. [`Refused`](VerbError::Refused) when the server's CONNACK says that it
    /// takes no such filter or no Subscription Identifier (v5 sections 3.2.2.3.11 to 3.2.2.3.13), and for an identifier in
    /// 3.1.1; [`Invalid`](VerbError::Invalid) for no filter at all, for No Local on a shared subscription (v5
    /// `[MQTT-3.8.3-4]`), for other options than the QoS in 3.1.1, and for properties that SUBSCRIBE has not got.
    pub fn subscribe_with(
        &mut self,
        link: LinkId,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<PacketId, VerbError> {
        self.subscribe_to(link, filters.iter().copied(), properties)
    }

    fn subscribe_to<'f>(
        &mut self,
        link: LinkId,
        filters: impl Iterator<Item = (TopicFilter<'f>, SubscriptionOptions)>,
        properties: Properties<'_>,
    ) -> Result<PacketId, VerbError> {
        let (mut list, mut count) = (FiltersBuf::new(), 0);
        let (live, _) = self.live(link)?;
        let session = &live.connection.session;
        let mut refused =
            live.is_client() && session.is_up() && !session.peer_takes_identifiers_of(&properties);
        for (filter, options) in filters {
            count += 1;
            refused |= !session.peer_takes_filter(filter);
            list.push(filter, options).map_err(|_| VerbError::Invalid)?;
        }
        if refused {
            return Err(VerbError::Refused);
        }
        self.request(link, Kind::Subscribe, count, |packet_id| {
            Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                filters: list.as_filters(),
            })
        })
    }

    /// Client role: unsubscribes; `Unsubscribed` follows.
    ///
    /// # Errors
    /// See [`VerbError`]; nothing was queued then.
    pub fn unsubscribe(&mut self, link: LinkId, filters: &[TopicFilter<'_>]) -> Result<PacketId, VerbError> {
        let mut list = UnsubscribeFiltersBuf::new();
        for filter in filters {
            list.push(*filter).map_err(|_| VerbError::Invalid)?;
        }
        self.request(link, Kind::Unsubscribe, filters.len(), |packet_id| {
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: Properties::EMPTY,
                filters: list.as_filters(),
            })
        })
    }

    fn request<'p>(
        &mut self,
        link: LinkId,
        kind: Kind,
        filters: usize,
        packet: impl FnOnce(PacketId) -> Packet<'p>,
    ) -> Result<PacketId, VerbError> {
        let (live, mut tools) = self.live(link)?;
        if !live.is_client() {
            return Err(VerbError::Invalid);
        }
        let requested = live.connection.request(kind, filters, &mut tools, packet);
        if requested == Err(VerbError::Full) {
            self.core.note_full(link.slot);
        }
        let packet_id = requested?;
        self.core.touch(link.slot);
        self.core.arm(link.slot);
        Ok(packet_id)
    }

    /// Server role: answers a SUBSCRIBE, one code for each filter.
    ///
    /// # Errors
    /// See [`VerbError`]; nothing was queued then.
    pub fn suback(&mut self, link: LinkId, packet_id: PacketId, codes: &[u8]) -> Result<(), VerbError> {
        self.answer(
            link,
            &Packet::Suback(Suback {
                packet_id,
                properties: Properties::EMPTY,
                codes,
            }),
        )
    }

    /// Server role: answers an UNSUBSCRIBE, one code for each filter (none go out in 3.1.1).
    ///
    /// # Errors
    /// See [`VerbError`]; nothing was queued then.
    pub fn unsuback(&mut self, link: LinkId, packet_id: PacketId, codes: &[u8]) -> Result<(), VerbError> {
        self.answer(
            link,
            &Packet::Unsuback(Unsuback {
                packet_id,
                properties: Properties::EMPTY,
                codes,
            }),
        )
    }

    fn answer(&mut self, link: LinkId, packet: &Packet<'_>) -> Result<(), VerbError> {
        let (live, mut tools) = self.live(link)?;
        if live.is_client() {
            return Err(VerbError::Invalid);
        }
        if !live.connection.session.is_up() {
            return Err(VerbError::Offline);
        }
        let sent = live.connection.send_packet(packet, &mut tools);
        self.sent(link, sent)
    }
}
