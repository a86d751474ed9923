//! PUBLISH on its way out: aliased, copied if it may have to be sent again, and sent again.

use fleetwire_codec::buffer::Pool;
use fleetwire_codec::{Carrier, PacketId, PacketType, Properties, Pubrel, QoS, TopicName, Version};

use super::{Connection, Tools};
use crate::session::{Again, Entry, Kept, Kind};
use crate::{Publish, PublishError, VerbError};

impl Connection {
    /// Encodes a PUBLISH: its header and, behind it, its payload, both once.
    pub(crate) fn publish(
        &mut self,
        publish: &Publish<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<Option<PacketId>, PublishError> {
        let mut packet = self.session.prepare_publish(publish).inspect_err(|error| {
            self.wants_window |= *error == PublishError::Full;
        })?;
        let whole = packet;
        let mut alias = None;
        if publish.aliased && self.session.version() == Version::V5 {
            alias = self.session.begin_alias(publish.topic);
        }
        let Some((alias, known)) = alias else {
            return self.publish_as(publish, packet, whole, tools);
        };
        let mut others = std::mem::take(tools.flight);
        let bytes = AliasBytes::new(alias, publish.properties, &mut others);
        let sent = bytes.properties().and_then(|properties| {
            packet.properties = properties;
            if known {
                packet.topic = TopicName::ALIASED;
            }
            self.publish_as(publish, packet, whole, tools)
        });
        if sent.is_err() && !known {
            self.session.cancel_alias();
        }
        others.clear();
        *tools.flight = others;
        sent
    }

    /// Encodes it as `packet`; as `whole` it can be sent on another connection.
    fn publish_as(
        &mut self,
        publish: &Publish<'_>,
        mut packet: fleetwire_codec::Publish<'_>,
        mut whole: fleetwire_codec::Publish<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<Option<PacketId>, PublishError> {
        let version = self.session.version();
        let len = packet.encoded_len(version).map_err(VerbError::from)?;
        if !self.session.peer_takes(len) {
            return Err(PublishError::TooLarge);
        }
        if packet.qos != QoS::AtMostOnce {
            let entry = Entry {
                kind: Kind::of(packet.qos),
                token: publish.token,
                intended: publish.intended.unwrap_or(tools.now),
                sent: tools.now,
                kept: None,
                waits: false,
            };
            packet.packet_id = self.session.begin(entry);
            if packet.packet_id.is_none() {
                self.wants_window = true;
                return Err(PublishError::Full);
            }
        }
        let sent = match packet.packet_id.filter(|_| self.session.keeps()) {
            None => self.encode_publish(&packet, len, tools.pool),
            Some(packet_id) => {
                whole.packet_id = Some(packet_id);
                self.keep_publish(&packet, len, &whole, tools)
            }
        };
        match sent {
            Ok(()) => {
                self.note_sent(PacketType::Publish, tools);
                Ok(packet.packet_id)
            }
            Err(error) => {
                if let Some(packet_id) = packet.packet_id {
                    self.session.cancel(packet_id, Kind::of(packet.qos));
                }
                self.wants_output |= error == VerbError::Full;
                Err(error.into())
            }
        }
    }

    fn encode_publish(
        &mut self,
        packet: &fleetwire_codec::Publish<'_>,
        len: usize,
        pool: &mut Pool,
    ) -> Result<(), VerbError> {
        let version = self.session.version();
        if len <= self.send.contiguous_max() {
            let room = self.send.reserve(pool, len)?;
            packet.encode(version, room)?;
            self.send.commit(len);
            return Ok(());
        }
        // Longer than one record: the header in one piece, then the payload over as many as it takes.
        self.send.check(len)?;
        let header_len = len - packet.payload.len();
        if header_len > self.send.contiguous_max() {
            return self.append_long(pool, len, |bytes| packet.encode(version, bytes));
        }
        let room = self.send.reserve(pool, header_len)?;
        packet.encode_header(version, room)?;
        self.send.commit(header_len);
        self.send.append(pool, packet.payload).map_err(|error| {
            self.send.retract(pool, header_len);
            error.into()
        })
    }

    /// The same, and a copy that can be sent again if the session outlives the connection.
    fn keep_publish(
        &mut self,
        packet: &fleetwire_codec::Publish<'_>,
        len: usize,
        whole: &fleetwire_codec::Publish<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), VerbError> {
        let version = self.session.version();
        let whole_len = whole.encoded_len(version)?;
        let mut block = tools.pool.take(whole_len).ok_or(VerbError::Full)?;
        if !tools.may_keep(0) {
            let ever = block.len() <= tools.kept_bytes_max();
            tools.pool.put(block);
            return Err(if ever {
                VerbError::Full
            } else {
                VerbError::TooLarge
            });
        }
        let room = block.bytes_mut().and_then(|bytes| bytes.get_mut(..whole_len));
        let encoded = room.ok_or(VerbError::Full).and_then(|room| {
            whole.encode(version, room)?;
            self.encode_publish(packet, len, tools.pool)
        });
        match (encoded, whole.packet_id) {
            (Ok(()), Some(packet_id)) => {
                *tools.kept_bytes += whole_len as u64;
                self.session.keep(packet_id, Kept::new(block, whole_len));
                Ok(())
            }
            (encoded, _) => {
                tools.pool.put(block);
                encoded
            }
        }
    }

    /// Sends what is late: acknowledgements that found no room, and what a resumed session has not seen acknowledged, as far
    /// as window and output allow. Answers a publish that the peer does not take any more, which has ended; then there may
    /// be more.
    pub(crate) fn send_again(&mut self, tools: &mut Tools<'_>) -> Option<(Entry, PublishError)> {
        self.send_acks(tools);
        let version = self.session.version();
        while let Some((packet_id, again)) = self.session.again() {
            let (packet_type, sent) = match again {
                Again::Publish(packet) => {
                    if let Err(error) = self.session.peer_takes_again(packet) {
                        return Some((self.session.give_up(packet_id)?, error));
                    }
                    (PacketType::Publish, self.send.append(tools.pool, packet))
                }
                Again::Pubrel(packet_id) => {
                    let pubrel = Pubrel::new(packet_id);
                    let mut bytes = [0; 4];
                    let len = pubrel.encode(version, &mut bytes).ok()?;
                    let bytes = bytes.get(..len).unwrap_or_default();
                    (PacketType::Pubrel, self.send.append(tools.pool, bytes))
                }
            };
            if sent.is_err() {
                // There is output on its way, or no memory: what is sent next, or `Core::starved`, comes back here.
                return None;
            }
            self.note_sent(packet_type, tools);
            self.session.sent_again(packet_id, tools.now);
        }
        None
    }
}

/// The properties of a PUBLISH with its Topic Alias in front.
struct AliasBytes<'a> {
    alone: [u8; 3],
    with_others: &'a [u8],
}

impl<'a> AliasBytes<'a> {
    /// `with_others` is empty, and has what memory there may be for it.
    fn new(alias: u16, others: Properties<'_>, with_others: &'a mut Vec<u8>) -> Self {
        let [high, low] = alias.to_be_bytes();
        let alone = [TOPIC_ALIAS, high, low];
        if !others.is_empty() {
            with_others.extend_from_slice(&alone);
            with_others.extend_from_slice(others.as_bytes());
        }
        Self { alone, with_others }
    }

    /// # Errors
    /// The others are no properties of PUBLISH. That they come with an alias of their own was looked at before.
    fn properties(&self) -> Result<Properties<'_>, PublishError> {
        let bytes = if self.with_others.is_empty() {
            &self.alone[..]
        } else {
            self.with_others
        };
        Properties::new(bytes, Carrier::Publish).map_err(|_| PublishError::Invalid)
    }
}

/// The identifier of the property, v5 section 2.2.2.2.
const TOPIC_ALIAS: u8 = 0x23;
