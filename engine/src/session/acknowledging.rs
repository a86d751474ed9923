//! The four acknowledgements of publishes, both ways: v5 and v3.1.1 section 4.3.

use fleetwire_codec::{Packet, PacketId, Pubcomp, Publish, Pubrec, Pubrel, QoS, ReasonCode, Version};

use super::in_flight::{Entry, Kind};
use super::received::{Arrival, Release};
use super::{Meaning, Session, Violation, violation};
use crate::Ack;
use crate::clock::Moment;

/// What becomes of a publish that has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrived {
    /// The application gets it.
    New,
    /// The application has it, and its PUBREC is sent in its turn.
    Known,
    /// The application has it, and its PUBREC is to be sent again.
    Again(PacketId),
}

impl Arrived {
    pub(crate) fn meaning(self, publish: Publish<'_>) -> Meaning<'_> {
        match self {
            Self::New => Meaning::Message(publish),
            Self::Known => Meaning::Nothing,
            Self::Again(packet_id) => Meaning::Answer(Packet::Pubrec(Pubrec::new(packet_id))),
        }
    }
}

impl Session {
    /// A publish from the peer, in whatever form.
    pub(super) fn handle_publish<'a>(&mut self, publish: Publish<'a>) -> Result<Meaning<'a>, Violation> {
        let arrived = self.arrived(publish.qos, publish.packet_id)?;
        Ok(arrived.meaning(publish))
    }

    /// A publish from the peer that has no properties, while the session is up: what [`handle`](Self::handle) does with it,
    /// without moving it. Nearly all that a fleet receives comes this way.
    #[inline]
    pub(crate) fn handle_usual_publish(
        &mut self,
        now: Moment,
        publish: &Publish<'_>,
    ) -> Result<Arrived, Violation> {
        debug_assert!(publish.properties.is_empty());
        self.handle_message(now);
        if publish.qos == QoS::AtMostOnce {
            return Ok(Arrived::New);
        }
        self.arrived(publish.qos, publish.packet_id)
    }

    /// A message from the peer at QoS 0, while the session is up.
    #[inline]
    pub(crate) fn handle_message(&mut self, now: Moment) {
        debug_assert!(self.is_up());
        self.last_received = now;
    }

    /// At QoS 2 a publish is delivered once: while its identifier is not released, every publish with it is the same
    /// message (v5 [MQTT-4.3.3-10], v3.1.1 [MQTT-4.3.3-2]).
    fn arrived(&mut self, qos: QoS, packet_id: Option<PacketId>) -> Result<Arrived, Violation> {
        if qos > self.receives_qos_max {
            return Err(violation(
                ReasonCode::QoSNotSupported,
                "v5 [MQTT-3.2.2-11]",
                "PUBLISH above the Maximum QoS that was announced",
            ));
        }
        let others = self.unacknowledged();
        let arrival = match (qos, packet_id) {
            (QoS::ExactlyOnce, Some(packet_id)) => self.received.exactly_once(packet_id, others),
            (QoS::AtLeastOnce, _) => self.received.at_least_once(others),
            _ => Arrival::New,
        };
        match (arrival, packet_id) {
            (Arrival::New, _) => Ok(Arrived::New),
            (Arrival::Unconfirmed, _) => Ok(Arrived::Known),
            // Its PUBREC has its turn too: v5 and v3.1.1 [MQTT-4.6.0-3].
            (Arrival::Again, Some(packet_id)) if self.queue_ack(packet_id, QoS::ExactlyOnce) => {
                Ok(Arrived::Known)
            }
            (Arrival::Again, Some(packet_id)) => Ok(Arrived::Again(packet_id)),
            _ => Err(violation(
                ReasonCode::ReceiveMaximumExceeded,
                "v5 section 3.3.4",
                "more publishes without acknowledgement than the Receive Maximum that was announced",
            )),
        }
    }

    /// PUBREL: the peer will not send that publish again (v5 [MQTT-4.3.3-11], v3.1.1 [MQTT-4.3.3-2]). One that releases
    /// nothing is answered too, or its sender would wait for ever.
    pub(super) fn handle_pubrel(&mut self, pubrel: &Pubrel<'_>) -> Result<Meaning<'static>, Violation> {
        let released = self.received.release(pubrel.packet_id);
        if released == Release::TooEarly {
            return Err(violation(
                ReasonCode::ProtocolError,
                "v5 and v3.1.1 section 4.3.3",
                "a PUBREL for a publish whose PUBREC was not sent",
            ));
        }
        let reason = self.found(released == Release::Done);
        Ok(Meaning::Answer(Packet::Pubcomp(Pubcomp::with_reason(
            pubrel.packet_id,
            reason,
        ))))
    }

    /// PUBREC: the message has arrived, or was refused (v5 [MQTT-4.3.3-4], v3.1.1 [MQTT-4.3.3-1]). A second one gets its
    /// PUBREL too; so does one that nothing stands for, with 0x92 in 5.0, so that its sender comes to an end.
    pub(super) fn handle_pubrec(&mut self, pubrec: &Pubrec<'_>) -> Result<Meaning<'static>, Violation> {
        let (packet_id, refused) = (pubrec.packet_id, pubrec.reason.is_error());
        match self.in_flight.kind(packet_id) {
            Some(Kind::ExactlyOnce | Kind::Released) => {}
            None if refused => return Ok(Meaning::Nothing),
            None => {
                let reason = self.found(false);
                return Ok(Meaning::Answer(Packet::Pubrel(Pubrel::with_reason(
                    packet_id, reason,
                ))));
            }
            Some(_) => return Err(MISTAKEN),
        }
        if refused {
            // v5 [MQTT-4.3.3-9]: the identifier is free again.
            let entry = self.in_flight.take(packet_id);
            return Ok(entry.map_or(Meaning::Nothing, |entry| {
                Meaning::Refused(self.ack(entry, packet_id, pubrec.reason))
            }));
        }
        let kept = self.in_flight.release(packet_id);
        self.spend(kept);
        Ok(Meaning::Answer(Packet::Pubrel(Pubrel::new(packet_id))))
    }

    /// PUBACK or PUBCOMP, which ends a publish of that kind. One that stands for nothing is passed over: v5 sections 3.4
    /// and 3.7 give no answer to it.
    pub(super) fn handle_last_ack(
        &mut self,
        packet_id: PacketId,
        kind: Kind,
        reason: ReasonCode,
    ) -> Result<Meaning<'static>, Violation> {
        match self.in_flight.kind(packet_id) {
            None => return Ok(Meaning::Nothing),
            Some(found) if found == kind => {}
            Some(_) => return Err(MISTAKEN),
        }
        let Some(entry) = self.in_flight.take(packet_id) else {
            return Ok(Meaning::Nothing);
        };
        let ack = self.ack(entry, packet_id, reason);
        // A PUBCOMP with 0x92 says that the exchange was over on that side before: its PUBREC had taken the message.
        let refused = kind == Kind::AtLeastOnce && reason.is_error();
        Ok(if refused {
            Meaning::Refused(ack)
        } else {
            Meaning::Acked(ack)
        })
    }

    /// What an answer says of an identifier that was found or not; 3.1.1 has one word for both.
    fn found(&self, found: bool) -> ReasonCode {
        if found || self.version == Version::V311 {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        }
    }

    fn ack(&mut self, entry: Entry, packet_id: PacketId, reason: ReasonCode) -> Ack {
        self.spend(entry.kept);
        Ack {
            token: entry.token,
            packet_id,
            intended: entry.intended,
            sent: entry.sent,
            reason,
        }
    }
}

/// Passed over, it would leave the publish that it was meant for, or the one that it hit, without its end.
const MISTAKEN: Violation = violation(
    ReasonCode::ProtocolError,
    "v5 and v3.1.1 section 4.3",
    "an acknowledgement of another kind than the packet that its identifier stands for",
);
