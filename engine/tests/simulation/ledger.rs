//! What was sent in one direction, what came of it, and the rules between the two.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fleetwire_codec::{PacketId, QoS, TopicName};
use fleetwire_engine::{Ack, LinkId, Message, Outbox, OwnedPublish, Publish, PublishError};

/// Messages of one device, at one quality of service, on one topic: these come in order (v5 [MQTT-4.6.0-1] to -4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub(crate) device: u32,
    pub(crate) topic: u8,
    pub(crate) qos: QoS,
}

#[derive(Debug)]
struct Pending {
    stream: Stream,
    seq: u64,
    /// The identifier that the packet has on the wire; a command's is not known.
    packet: Option<(String, PacketId)>,
}

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    all: BTreeSet<u64>,
}

/// See the module. One for each direction, shared by both sides, which is what makes it possible to compare.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    direction: &'static str,
    next_seq: HashMap<Stream, u64>,
    next_token: u64,
    pending: BTreeMap<u64, Pending>,
    in_use: BTreeSet<(String, PacketId)>,
    seen: HashMap<Stream, Seen>,
    pub(crate) accepted: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) received: u64,
    pub(crate) again: u64,
    /// Sessions outlive connections, so that messages may come again.
    pub(crate) redelivers: bool,
    /// Nothing is kept any more.
    at_end: bool,
    /// Payloads that are kept beyond their event.
    kept: VecDeque<(Bytes, Vec<u8>)>,
}

pub(crate) type Shared = Arc<Mutex<Ledger>>;

impl Ledger {
    pub(crate) fn shared(direction: &'static str) -> Shared {
        Arc::new(Mutex::new(Self {
            direction,
            ..Self::default()
        }))
    }

    /// Publishes the next message of a stream, if the link takes it. Identifiers are those of a session, which the
    /// caller names.
    pub(crate) fn publish(
        &mut self,
        out: &mut Outbox<'_>,
        link: LinkId,
        session: &str,
        stream: Stream,
        len: usize,
    ) -> Result<(), PublishError> {
        let (seq, token) = self.next(stream);
        let payload = payload_of(stream, seq, len);
        let name = self.topic(stream);
        let publish = Publish::new(TopicName::new(&name).unwrap(), &payload)
            .qos(stream.qos)
            .token(token);
        let packet_id = out.publish(link, publish)?;
        assert_eq!(packet_id.is_some(), stream.qos != QoS::AtMostOnce);
        self.took(stream);
        if let Some(packet_id) = packet_id {
            // v5 [MQTT-2.2.1-3]: an identifier that is not in use.
            assert!(
                self.in_use.insert((session.to_owned(), packet_id)),
                "{} {stream:?}: identifier {packet_id:?} of {session} is in use",
                self.direction
            );
            let packet = Some((session.to_owned(), packet_id));
            self.pending.insert(token, Pending { stream, seq, packet });
        }
        Ok(())
    }

    /// The next message of a stream, for a handle; `commit` says that the handle took it.
    pub(crate) fn command(&mut self, stream: Stream, len: usize, send: impl FnOnce(OwnedPublish) -> bool) {
        let (seq, token) = self.next(stream);
        let name = self.topic(stream);
        let publish = OwnedPublish::new(
            TopicName::new(&name).unwrap().into(),
            payload_of(stream, seq, len),
        );
        if send(publish.qos(stream.qos).token(token)) {
            self.took(stream);
            let packet = None;
            self.pending.insert(token, Pending { stream, seq, packet });
        }
    }

    /// The next message of a stream, for another implementation to send: topic, number and payload.
    pub(crate) fn send(&mut self, stream: Stream, len: usize) -> (String, u64, Vec<u8>) {
        let (seq, _) = self.next(stream);
        self.took(stream);
        (self.topic(stream), seq, payload_of(stream, seq, len))
    }

    /// What was acknowledged has arrived.
    pub(crate) fn assert_received(&self, stream: Stream, seq: u64) {
        let arrived = self.seen.get(&stream).is_some_and(|seen| seen.all.contains(&seq));
        assert!(
            arrived,
            "{} {stream:?} {seq}: acknowledged, and never received",
            self.direction
        );
    }

    fn next(&self, stream: Stream) -> (u64, u64) {
        (self.next_seq.get(&stream).copied().unwrap_or(0), self.next_token)
    }

    fn took(&mut self, stream: Stream) {
        *self.next_seq.entry(stream).or_default() += 1;
        self.next_token += 1;
        self.accepted += 1;
    }

    fn topic(&self, stream: Stream) -> String {
        format!("{}/{}/{}", self.direction, stream.device, stream.topic)
    }

    /// Exactly one completion for each.
    fn complete(&mut self, token: u64) -> Pending {
        let direction = self.direction;
        let pending = self
            .pending
            .remove(&token)
            .unwrap_or_else(|| panic!("{direction}: a completion of {token}, which is not pending"));
        if let Some(packet) = &pending.packet {
            assert!(self.in_use.remove(packet));
        }
        pending
    }

    pub(crate) fn acked(&mut self, session: &str, ack: &Ack) {
        let pending = self.complete(ack.token);
        if let Some(packet) = pending.packet {
            assert_eq!(packet, (session.to_owned(), ack.packet_id));
        }
        self.acked += 1;
        self.assert_received(pending.stream, pending.seq);
    }

    pub(crate) fn refused(&mut self, ack: &Ack) {
        self.complete(ack.token);
        self.refused += 1;
    }

    /// A session's state is thrown away, and what was under way in it ends without a word.
    pub(crate) fn forget(&mut self, session: &str) {
        let of_session =
            |packet: &Option<(String, PacketId)>| packet.as_ref().is_some_and(|packet| packet.0 == session);
        self.pending.retain(|_, pending| !of_session(&pending.packet));
        self.in_use.retain(|packet| packet.0 != session);
    }

    pub(crate) fn dropped(&mut self, token: u64) {
        self.complete(token);
        self.dropped += 1;
    }

    /// A message has arrived: it is whole, the right one, and in order.
    pub(crate) fn receive(&mut self, message: &Message<'_>, keep: bool) -> Stream {
        if keep && !self.at_end {
            self.kept.push_back((message.retain(), message.payload.to_vec()));
        }
        self.take(message.topic.as_str(), message.qos, message.dup, message.payload)
    }

    /// The same of a message that another implementation has received.
    pub(crate) fn take(&mut self, topic: &str, qos: QoS, dup: bool, payload: &[u8]) -> Stream {
        let (stream, seq) = read(payload);
        let direction = self.direction;
        let what = format!("{direction} {stream:?} {seq}");
        assert_eq!(topic, self.topic(stream), "{what}");
        assert_eq!(qos, stream.qos, "{what}");
        assert!(
            payload == payload_of(stream, seq, payload.len()),
            "{what}: the payload is not the one that was sent"
        );
        let sent = self.next_seq.get(&stream).copied().unwrap_or(0);
        assert!(seq < sent, "{what}: only {sent} were sent");
        let seen = self.seen.entry(stream).or_default();
        if seen.all.contains(&seq) {
            // v5 section 4.3.2: at least once; [MQTT-3.3.1-1]: and it says so. At QoS 0 and 2 never twice.
            assert!(
                self.redelivers && qos == QoS::AtLeastOnce && dup,
                "{what}: twice, DUP {dup}"
            );
            self.again += 1;
            return stream;
        }
        assert!(seq >= seen.next, "{what}: after {} of the same stream", seen.next);
        seen.next = seq + 1;
        seen.all.insert(seq);
        self.received += 1;
        stream
    }

    /// Lets go of all kept payloads but the last `most`; they are what they were.
    pub(crate) fn let_go(&mut self, most: usize) {
        while self.kept.len() > most {
            if let Some((kept, copy)) = self.kept.pop_front() {
                assert!(kept == copy, "{}: a kept payload has changed", self.direction);
            }
        }
    }

    /// The end is near: nothing is kept any more.
    pub(crate) fn keep_nothing(&mut self) {
        self.at_end = true;
        self.let_go(0);
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Nothing is open any more.
    pub(crate) fn assert_settled(&self) {
        assert!(
            self.pending.is_empty(),
            "{}: never completed: {:?}",
            self.direction,
            self.pending
        );
        assert!(self.in_use.is_empty());
    }
}

const HEAD_LEN: usize = 14;

pub(crate) fn payload_of(stream: Stream, seq: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len.max(HEAD_LEN));
    bytes.extend(stream.device.to_be_bytes());
    bytes.push(stream.topic);
    bytes.push(stream.qos as u8);
    bytes.extend(seq.to_be_bytes());
    let start = seq.wrapping_mul(31) as usize + usize::from(stream.topic);
    bytes.extend((HEAD_LEN..len).map(|index| (start + index) as u8));
    bytes
}

fn read(payload: &[u8]) -> (Stream, u64) {
    let (head, _) = payload
        .split_first_chunk::<HEAD_LEN>()
        .expect("a payload of ours");
    let stream = Stream {
        device: u32::from_be_bytes(head[..4].try_into().unwrap()),
        topic: head[4],
        qos: match head[5] {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => panic!("quality of service {other}"),
        },
    };
    (stream, u64::from_be_bytes(head[6..].try_into().unwrap()))
}
