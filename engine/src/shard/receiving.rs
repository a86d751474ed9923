//! From received bytes to events.

use std::io;

use fleetwire_codec::buffer::{Block, Overload, RecvBuf};
use fleetwire_codec::{
    Connack, DecodeError, Disconnect, Packet, PacketId, PacketType, Puback, Publish, Pubrec, QoS, ReasonCode,
    Version,
};

use super::{How, ShardLoop};
use crate::connection::{OpenFailure, Step};
use crate::core::Core;
use crate::driver::{Driver, Key};
use crate::event::Taken;
use crate::failure::Cause;
use crate::link::{Link, Phase, closed_cause};
use crate::outbox::Outbox;
use crate::session::{Arrived, Meaning, State, Violation};
use crate::{Connected, Event, Handler, Message, Slug};

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    #[inline]
    pub(super) fn received(&mut self, key: Key, len: usize) {
        self.core.counters.bytes_in.add(len as u64);
        self.core.counters.reads.add(1);
        if !self.core.parking.is_empty() && self.received_more(key, len) {
            return;
        }
        let Some(mut hot) = self.core.hot.take() else {
            return;
        };
        hot.advance_received(len);
        if self.deliver_sole_message(key, &hot) {
            // Without a block to replace one that the application keeps, reading rests until there is one.
            let _ = hot.reset(&mut self.core.pool);
            self.core.hot = Some(hot);
            return;
        }
        self.received_any(key, hot);
    }

    /// Takes what was read into the parked buffer of that connection; false if it lies in the hot one.
    #[inline(never)]
    fn received_more(&mut self, key: Key, len: usize) -> bool {
        let lent = self.core.lent.take() == Some(key);
        let Some(mut parked) = self.core.parking.take(key) else {
            return false;
        };
        self.core.unreported = true;
        if lent {
            // A copy of it lies in the hot block, in front of what was read.
            parked.release(&mut self.core.pool);
            return false;
        }
        parked.advance_received(len);
        self.process_parked(key, parked);
        true
    }

    #[inline(never)]
    fn received_any(&mut self, key: Key, mut hot: Box<RecvBuf>) {
        self.core.unreported = true;
        let ended = self.process(key, &mut hot);
        let ended = self.put_hot_away(key, hot, ended);
        self.processed(key, ended);
    }

    /// Nearly all that a fleet receives without TLS is one message in a read. Delivers it and answers true if that is all
    /// there is to do; otherwise nothing has happened.
    #[inline]
    fn deliver_sole_message(&mut self, key: Key, hot: &RecvBuf) -> bool {
        let core = &mut self.core;
        let Some(link) = core.links.at_mut(key) else {
            return false;
        };
        if !link.takes_plain_messages() {
            return false;
        }
        let session = &mut link.connection.session;
        let Some(publish) = hot
            .sole_frame(core.limits.packet_len_max)
            .filter(|frame| frame.flags() & QOS == 0)
            .and_then(|frame| Publish::decode_usual(&frame, session.version()))
        else {
            return false;
        };
        core.counters.packets_in.add(PacketType::Publish);
        session.handle_message(core.moment);
        let at = link.at(core.now);
        let taken = Taken::new(publish.qos);
        let message = Message::new(publish, hot.block(), link.id, &taken);
        self.handler
            .on_event(at, Event::Message(message), &mut Outbox::new(core));
        self.core.unreported |= taken.kept.get();
        true
    }

    /// Takes up what was parked.
    #[inline(never)]
    pub(super) fn process_parked(&mut self, key: Key, mut parked: RecvBuf) {
        if let Some(hot) = &mut self.core.hot {
            parked.swap_memory(hot);
        }
        let ended = self.process(key, &mut parked);
        if let Some(hot) = &mut self.core.hot {
            parked.swap_memory(hot);
        }
        let parked = self.park_again(key, parked, ended.is_ok());
        self.processed(key, ended.and(parked));
    }

    /// Opens, splits and delivers what a buffer holds, if it is the connection's turn.
    fn process(&mut self, key: Key, buffer: &mut RecvBuf) -> Result<(), Box<Cause>> {
        let Some(link) = self.core.links.at(key) else {
            return Ok(());
        };
        let has_tls = link.connection.tls.is_some();
        if link.opening.is_some() && !self.core.count_opening(key) {
            return Ok(());
        }
        let opened = if has_tls {
            self.open(key, buffer)
        } else {
            buffer.expose();
            Ok(())
        };
        // What came whole before a fault is still delivered.
        self.parse(key, buffer).and(opened)
    }

    fn processed(&mut self, key: Key, ended: Result<(), Box<Cause>>) {
        match ended {
            // The answers of the packets, say, and a pause that they led to.
            Ok(()) if self.core.links.at(key).is_some_and(Link::needs_attention) => self.core.touch(key),
            Ok(()) => {}
            Err(cause) => self.end(key, *cause, How::Flush),
        }
    }

    #[inline(never)]
    fn open(&mut self, key: Key, buffer: &mut RecvBuf) -> Result<(), Box<Cause>> {
        loop {
            let Some((link, mut tools)) = self.core.connection(key) else {
                return Ok(());
            };
            if !link.phase.is_open() {
                return Ok(());
            }
            match link.connection.open(buffer, &mut tools) {
                Ok(Step::Done) => return Ok(()),
                Ok(Step::Established) => self.established(key),
                Ok(Step::CloseNotify) => return Err(closed_cause(link, None, tools.now).into()),
                Err(OpenFailure::Tls(error)) => {
                    return Err(Cause::new(Slug::of(error.slug()), error.to_string()).into());
                }
                Err(OpenFailure::Frame(error)) => return Err(self.malformed(key, error, &[]).into()),
                Err(OpenFailure::Send(error)) => {
                    return Err(Cause::new(Slug::OVERLOADED, error.to_string()).into());
                }
            }
        }
    }

    fn parse(&mut self, key: Key, buffer: &mut RecvBuf) -> Result<(), Box<Cause>> {
        let packet_len_max = self.core.limits.packet_len_max;
        // Most reads bring one packet, and behind it there is nothing to look for.
        while !buffer.is_drained() {
            let Some(link) = self.core.links.at_mut(key) else {
                return Ok(());
            };
            if link.is_stopped() {
                // Half a record of a handshake is no frame: nothing could be done with it before more is read.
                link.connection.frames_wait = !link.wants_reading();
                return Ok(());
            }
            let session = &mut link.connection.session;
            let version = session.version();
            let frame = match buffer.next_frame(packet_len_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.malformed(key, error, buffer.unparsed()).into()),
            };
            let len = frame.len();
            if session.is_up()
                && let Some(publish) = Publish::decode_usual(&frame, version)
            {
                self.core.counters.packets_in.add(PacketType::Publish);
                match session.handle_usual_publish(self.core.moment, &publish) {
                    Ok(Arrived::New) => self.message(key, publish, buffer.block())?,
                    Ok(Arrived::Known) => {}
                    Ok(Arrived::Again(packet_id)) => {
                        self.answer(key, &Packet::Pubrec(Pubrec::new(packet_id)))?;
                    }
                    Err(violation) => return Err(violated(violation).into()),
                }
            } else {
                match Packet::decode(frame, version) {
                    Ok(packet) => self.packet(key, packet, buffer.block())?,
                    Err(error) => return Err(self.malformed(key, error, buffer.unparsed()).into()),
                }
            }
            buffer.consume(len);
        }
        Ok(())
    }

    /// Parks what is left in the hot buffer, if the connection goes on, and makes it ready for the next one.
    fn put_hot_away(
        &mut self,
        key: Key,
        mut hot: Box<RecvBuf>,
        ended: Result<(), Box<Cause>>,
    ) -> Result<(), Box<Cause>> {
        let ended = if hot.is_drained() || ended.is_err() {
            ended
        } else {
            self.park(key, &mut hot)
        };
        // Without a block to replace one that the application keeps, reading rests until there is one.
        let _ = hot.reset(&mut self.core.pool);
        self.core.hot = Some(hot);
        ended
    }

    /// Parks what is left in the hot buffer, if the connection goes on.
    #[inline(never)]
    fn park(&mut self, key: Key, hot: &mut RecvBuf) -> Result<(), Box<Cause>> {
        let Core {
            links,
            pool,
            parking,
            limits,
            ..
        } = &mut self.core;
        if let Some(link) = links.at_mut(key).filter(|link| link.goes_on()) {
            let parked = hot
                .park(pool, link.protection(), limits.packet_len_max)
                .map_err(overloaded)?;
            if let Some(parked) = parked {
                parking.park(key, parked);
            }
        }
        Ok(())
    }

    /// Parks what is left of what was parked, if the connection goes on.
    fn park_again(&mut self, key: Key, buffer: RecvBuf, goes_on: bool) -> Result<(), Box<Cause>> {
        let Core {
            links,
            pool,
            parking,
            limits,
            ..
        } = &mut self.core;
        let Some(link) = links.at_mut(key).filter(|link| goes_on && link.goes_on()) else {
            buffer.release(pool);
            return Ok(());
        };
        let parked = buffer
            .repark(pool, link.protection(), limits.packet_len_max)
            .map_err(overloaded)?;
        if let Some(parked) = parked {
            parking.park(key, parked);
        }
        Ok(())
    }

    #[inline(never)]
    fn packet(&mut self, key: Key, packet: Packet<'_>, block: &Block) -> Result<(), Box<Cause>> {
        self.core.counters.packets_in.add(packet.packet_type());
        let Some((link, tools)) = self.core.connection(key) else {
            return Ok(());
        };
        let session = &mut link.connection.session;
        let meaning = session
            .handle(tools.moment, packet, tools.limits)
            .map_err(violated)?;
        if let Some(block) = session.take_spent() {
            tools.pool.put(block);
        }
        match meaning {
            Meaning::Nothing => {}
            Meaning::Message(publish) => self.message(key, publish, block)?,
            Meaning::Answer(packet) => self.answer(key, &packet)?,
            Meaning::Refused(ack) => self.deliver(key, Event::Refused(ack)),
            Meaning::Acked(ack) => self.deliver(key, Event::Acked(ack)),
            Meaning::Connack(connack) => self.connack(key, &connack)?,
            Meaning::Connect(connect) => self.deliver(key, Event::Connect(connect)),
            Meaning::Subscribed(suback) => self.deliver(key, Event::Subscribed(suback)),
            Meaning::Unsubscribed(unsuback) => self.deliver(key, Event::Unsubscribed(unsuback)),
            Meaning::Subscribe(subscribe) => self.deliver(key, Event::Subscribe(subscribe)),
            Meaning::Unsubscribe(unsubscribe) => self.deliver(key, Event::Unsubscribe(unsubscribe)),
            Meaning::Auth(auth) => self.deliver(key, Event::Auth(auth)),
            Meaning::Disconnect(disconnect) => return Err(goodbye(&disconnect).into()),
        }
        Ok(())
    }

    /// Delivers a message, and acknowledges it unless the application does that.
    fn message(&mut self, key: Key, publish: Publish<'_>, block: &Block) -> Result<(), Box<Cause>> {
        let Some(link) = self.core.links.at(key) else {
            return Ok(());
        };
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let taken = Taken::new(qos);
        if publish.topic.is_empty() {
            self.deliver_aliased(key, publish, block, &taken);
        } else {
            let at = link.at(self.core.now);
            let message = Message::new(publish, block, link.id, &taken);
            self.handler
                .on_event(at, Event::Message(message), &mut Outbox::new(&mut self.core));
        }
        if taken.held.get() {
            return Ok(());
        }
        self.acknowledge(key, qos, packet_id)
    }

    /// Delivers a message whose topic is what its alias stands for: without one nothing is decoded that has no topic.
    fn deliver_aliased(&mut self, key: Key, publish: Publish<'_>, block: &Block, taken: &Taken) {
        let Some(alias) = publish.properties.topic_alias() else {
            return;
        };
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        let id = link.id;
        let Some(topic) = link.connection.session.take_topic(alias) else {
            return;
        };
        let publish = Publish {
            topic: topic.as_topic_name(),
            ..publish
        };
        self.deliver(key, Event::Message(Message::new(publish, block, id, taken)));
        if let Some(link) = self.core.links.at_mut(key) {
            link.connection.session.put_back(alias, topic);
        }
    }

    /// Acknowledges a publish, in its turn if the application holds the acknowledgements of earlier ones.
    fn acknowledge(&mut self, key: Key, qos: QoS, packet_id: Option<PacketId>) -> Result<(), Box<Cause>> {
        let Some(packet_id) = packet_id else { return Ok(()) };
        if let Some(link) = self.core.links.at_mut(key)
            && link.connection.session.queue_ack(packet_id, qos)
        {
            return Ok(());
        }
        match qos {
            QoS::AtLeastOnce => self.answer(key, &Packet::Puback(Puback::new(packet_id))),
            QoS::ExactlyOnce => self.answer(key, &Packet::Pubrec(Pubrec::new(packet_id))),
            QoS::AtMostOnce => Ok(()),
        }
    }

    /// Sends an answer that the protocol owes. A peer that does not read its answers is cut off, for they have
    /// nowhere to wait.
    fn answer(&mut self, key: Key, packet: &Packet<'_>) -> Result<(), Box<Cause>> {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return Ok(());
        };
        if link.wishes.close.is_some() {
            return Ok(());
        }
        let sent = link.connection.send_packet(packet, &mut tools);
        sent.map_err(|error| {
            let text = format!("the peer does not take its acknowledgements: {error}");
            Box::new(Cause::new(Slug::OVERLOADED, text).with_reason(ReasonCode::QuotaExceeded))
        })
    }

    fn connack(&mut self, key: Key, connack: &Connack<'_>) -> Result<(), Box<Cause>> {
        let Some(link) = self.core.links.at_mut(key) else {
            return Ok(());
        };
        let version = link.connection.session.version();
        if connack.is_accepted() {
            self.drop_lost(key);
            let Some(opening) = self.core.mark_up(key) else {
                return Ok(());
            };
            if let Some(client) = self.core.links.at_mut(key).and_then(|link| link.client.as_mut()) {
                // A session that has expired on this side is over on both.
                client.session = None;
            }
            if let Some(peer) = opening.peer {
                let event = Connected {
                    session_present: connack.session_present,
                    version,
                    properties: connack.properties,
                    tls: opening.tls.as_ref(),
                    scheduled: opening.scheduled,
                    peer,
                };
                self.deliver(key, Event::Connected(event));
            }
            return Ok(());
        }
        let reason = connack.reason(version);
        let slug = match reason {
            ReasonCode::QuotaExceeded | ReasonCode::ConnectionRateExceeded => Slug::THROTTLED,
            _ => Slug::CONNACK_REFUSED,
        };
        let said = connack
            .properties
            .reason_string()
            .map(|text| format!(", \"{text}\""))
            .unwrap_or_default();
        let text = match version {
            Version::V5 => format!("CONNACK {reason}{said}"),
            Version::V311 => format!("CONNACK return code {} ({reason})", connack.code),
        };
        let mut cause = Cause::new(slug, text);
        cause.connack_code = Some(connack.code);
        // Only these may pass by themselves.
        cause.give_up = !matches!(
            reason,
            ReasonCode::ServerUnavailable
                | ReasonCode::ServerBusy
                | ReasonCode::QuotaExceeded
                | ReasonCode::ConnectionRateExceeded
                | ReasonCode::UnspecifiedError
        );
        Err(cause.into())
    }

    pub(super) fn closed(&mut self, key: Key, error: Option<&io::Error>) {
        let Some(link) = self.core.links.at(key) else {
            return;
        };
        match link.phase {
            Phase::Flushing(_) | Phase::Lingering(_) => {
                self.driver.close(key, false);
                self.after_close(key);
            }
            _ => {
                let cause = closed_cause(link, error, self.core.now);
                self.end(key, cause, How::Now);
            }
        }
    }

    /// A frame that is not one. A server says so to a client whose protocol version it does not know (v5 and v3.1.1
    /// [MQTT-3.1.2-2]), and in 3.1.1 to one that wants a session kept without saying whose (v3.1.1 [MQTT-3.1.3-8]).
    #[cold]
    fn malformed(&mut self, key: Key, error: DecodeError, start: &[u8]) -> Cause {
        let violation =
            || Cause::new(Slug::PROTOCOL_VIOLATION, error.to_string()).with_reason(error.reason_code());
        let Some((link, mut tools)) = self.core.connection(key) else {
            return violation();
        };
        match link.connection.session.state() {
            State::AwaitConnack if start.first() != Some(&CONNACK) => {
                Cause::new(Slug::NOT_MQTT, not_mqtt(error, start))
            }
            State::AwaitConnect
                if matches!(
                    error,
                    DecodeError::ProtocolLevel(_) | DecodeError::ClientIdMissing
                ) =>
            {
                let connack = Packet::Connack(Connack::refused(error.reason_code(), Version::V311));
                // If it cannot be sent the close alone has to say it.
                let _ = link
                    .connection
                    .send_packet_as(&connack, Version::V311, &mut tools);
                violation()
            }
            _ => violation(),
        }
    }
}

/// The bits of a PUBLISH's flags that are its QoS, v5 section 3.3.1.2.
const QOS: u8 = 0b0110;
/// The first byte of every CONNACK, v5 section 3.2.1.
const CONNACK: u8 = 0x20;

/// What answered CONNECT, if it is not MQTT: most often another protocol on a port that was mistaken.
fn not_mqtt(error: DecodeError, start: &[u8]) -> String {
    let shown = start.get(..16).unwrap_or(start).escape_ascii();
    let what = match start {
        // Content types of RFC 8446 section 5.1 in front of a record version.
        [0x14..=0x17, 0x03, ..] => "this is TLS",
        [b'H', b'T', b'T', b'P', ..] => "this is HTTP",
        [b'S', b'S', b'H', b'-', ..] => "this is SSH",
        _ => return format!("the answer to CONNECT begins with \"{shown}\": {error}"),
    };
    format!("the answer to CONNECT begins with \"{shown}\": {what}")
}

fn overloaded(why: Overload) -> Cause {
    Cause::new(
        Slug::OVERLOADED,
        format!("no room to keep a partial packet: {why}"),
    )
}

#[cold]
fn violated(violation: Violation) -> Cause {
    Cause::new(
        Slug::PROTOCOL_VIOLATION,
        format!("{} ({})", violation.text, violation.clause),
    )
    .with_reason(violation.reason)
}

fn goodbye(disconnect: &Disconnect<'_>) -> Cause {
    let reason = disconnect.reason;
    let slug = match reason {
        ReasonCode::SessionTakenOver => Slug::CLIENT_ID_TAKEN_OVER,
        _ => Slug::DISCONNECTED_BY_PEER,
    };
    let said = disconnect
        .properties
        .reason_string()
        .map(|text| format!(", \"{text}\""))
        .unwrap_or_default();
    let mut cause = Cause::new(slug, format!("DISCONNECT {reason}{said}")).with_reason(reason);
    cause.session_expiry_secs = disconnect.properties.session_expiry_interval();
    cause.clean = reason == ReasonCode::NORMAL_DISCONNECTION;
    cause.from_peer = true;
    cause
}
