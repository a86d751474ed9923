//! One connection: the only place where buffers, TLS and the MQTT session meet.
//!
//! In: received bytes are opened in place (TLS), split into frames and decoded where they lie. Out: packets are
//! encoded once into the send buffer and sealed there. An idle connection owns no buffer.

mod publishing;

use std::ops::Range;
use std::time::Instant;

use fleetwire_codec::buffer::{Block, Framing, HOT_BLOCK_LEN, Pool, RecvBuf, SendBuf, SendError};
use fleetwire_codec::{DecodeError, EncodeError, Packet, PacketId, PacketType, Version};
use fleetwire_tls::{Opened, Scratch, TlsError, TlsSession};

use crate::clock::Moment;
use crate::session::{Entry, Kind, Session};
use crate::stats::Counters;
use crate::{Limits, VerbError};

/// What all connections of a shard share while one of them is at work.
pub(crate) struct Tools<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) scratch: &'a mut Scratch,
    /// Handshake flights and alerts on their way into a send buffer, and properties beside an alias; empty between calls.
    pub(crate) flight: &'a mut Vec<u8>,
    pub(crate) random: &'a mut fastrand::Rng,
    /// Counts what is copied so that it can be sent again.
    pub(crate) kept_bytes: &'a mut u64,
    pub(crate) counters: &'a Counters,
    pub(crate) limits: &'a Limits,
    pub(crate) now: Instant,
    /// The same as `now`.
    pub(crate) moment: Moment,
}

impl Tools<'_> {
    /// Whether copies of publishes may be kept until they are acknowledged, with `len` more bytes of buffers in use.
    /// Copies stay as long as their receiver is away, and the connection that brings it back needs memory too: half of it
    /// is left for that.
    fn may_keep(&self, len: usize) -> bool {
        self.pool.stats().bytes_in_use + len as u64 <= (HOT_BLOCK_LEN + self.kept_bytes_max()) as u64
    }

    fn kept_bytes_max(&self) -> usize {
        self.limits.buffer_bytes_max.saturating_sub(HOT_BLOCK_LEN) / 2
    }
}

/// See the module. The order is that of [`Link`](crate::link::Link).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    pub(crate) tls: Option<Box<TlsSession>>,
    /// A verb answered `Full` for want of output room; the application is told when there is some.
    wants_output: bool,
    /// The same for want of a packet identifier or of room in the in-flight window.
    wants_window: bool,
    /// Whole frames may be parked, because reading was paused between two of them.
    pub(crate) frames_wait: bool,
    /// close_notify was queued.
    finished: bool,
    send: SendBuf,
    pub(crate) session: Session,
}

/// What [`Connection::open`] found, besides bytes.
#[derive(Debug)]
pub(crate) enum Step {
    /// All whole records are open.
    Done,
    /// The TLS handshake is over; to be called again for what lies behind it.
    Established,
    /// The peer has said close_notify (RFC 8446 section 6.1).
    CloseNotify,
}

impl Connection {
    pub(crate) fn new(session: Session, output_bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(output_bytes_max).unwrap_or(u32::MAX);
        Self {
            session,
            tls: None,
            send: SendBuf::new(Framing::PLAIN, bytes_max),
            wants_output: false,
            wants_window: false,
            frames_wait: false,
            finished: false,
        }
    }

    /// Opens the TLS records that were received, in place, up to the end or to something that the caller has to act upon.
    pub(crate) fn open(&mut self, buffer: &mut RecvBuf, tools: &mut Tools<'_>) -> Result<Step, OpenFailure> {
        let Some(tls) = &mut self.tls else {
            return Ok(Step::Done);
        };
        let step = loop {
            let sealed = buffer.sealed_bytes();
            if sealed.is_empty() {
                break Step::Done;
            }
            match tls.open(tools.scratch, sealed, tools.flight) {
                Ok(Opened::NeedMore) => break Step::Done,
                Ok(Opened::Data { consumed, plain }) => {
                    if let Err(error) = buffer.opened(consumed, plain, tools.limits.packet_len_max) {
                        let _ = self.send_flight(tools);
                        return Err(OpenFailure::Frame(error));
                    }
                }
                Ok(Opened::Handshake { consumed } | Opened::Nothing { consumed }) => buffer.skipped(consumed),
                Ok(Opened::Established { consumed }) => {
                    buffer.skipped(consumed);
                    break Step::Established;
                }
                Ok(Opened::Closed { consumed }) => {
                    buffer.skipped(consumed);
                    break Step::CloseNotify;
                }
                Err(error) => {
                    // The alert is still to be sent; it overtakes what is not sealed yet and never will be.
                    let _ = self.send_flight(tools);
                    return Err(OpenFailure::Tls(error));
                }
            }
        };
        self.send_flight(tools).map_err(OpenFailure::Send)?;
        Ok(step)
    }

    /// Moves handshake bytes and alerts into the send buffer, behind what is there.
    pub(crate) fn send_flight(&mut self, tools: &mut Tools<'_>) -> Result<(), SendError> {
        if tools.flight.is_empty() {
            return Ok(());
        }
        let appended = self.send.append_raw(tools.pool, tools.flight);
        tools.flight.clear();
        appended
    }

    /// From here on packets go out in TLS records.
    pub(crate) fn switch_to_records(&mut self) {
        if let Some(tls) = &self.tls {
            let framing = tls.framing();
            self.send.set_framing(Framing {
                head: framing.head as u16,
                tail: framing.tail as u16,
                plain_max: framing.plain_max as u32,
            });
        }
    }

    /// Queues the CONNECT of this attempt, which is encoded already.
    pub(crate) fn send_connect(&mut self, connect: &[u8], tools: &mut Tools<'_>) -> Result<(), SendError> {
        self.send.append(tools.pool, connect)?;
        self.note_sent(PacketType::Connect, tools);
        Ok(())
    }

    /// A packet was encoded.
    fn note_sent(&mut self, packet_type: PacketType, tools: &Tools<'_>) {
        // An increment and a comparison, and nothing else but when a client has been silent.
        tools.counters.packets_out.add(packet_type);
        if let Some(silence) = self.session.ending_silence(tools.moment) {
            tools.counters.silence_ended(silence);
        }
        self.session.sent(tools.moment);
    }

    /// Encodes a packet into the send buffer.
    pub(crate) fn send_packet(
        &mut self,
        packet: &Packet<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), VerbError> {
        self.send_packet_as(packet, self.session.version(), tools)
    }

    /// Encodes a packet in the words of a version that may not be the session's.
    pub(crate) fn send_packet_as(
        &mut self,
        packet: &Packet<'_>,
        version: Version,
        tools: &mut Tools<'_>,
    ) -> Result<(), VerbError> {
        let sent = self.encode_packet(packet, version, tools.pool);
        self.wants_output |= sent == Err(VerbError::Full);
        sent?;
        self.note_sent(packet.packet_type(), tools);
        Ok(())
    }

    fn encode_packet(
        &mut self,
        packet: &Packet<'_>,
        version: Version,
        pool: &mut Pool,
    ) -> Result<(), VerbError> {
        let len = packet.encoded_len(version)?;
        if !self.session.peer_takes(len) {
            return Err(VerbError::TooLarge);
        }
        if len <= self.send.contiguous_max() {
            let room = self.send.reserve(pool, len)?;
            packet.encode(version, room)?;
            self.send.commit(len);
            Ok(())
        } else {
            self.append_long(pool, len, |bytes| packet.encode(version, bytes))
        }
    }

    /// More than one record takes, topics and properties of that length among it: rare enough to be encoded beside the send
    /// buffer first.
    fn append_long(
        &mut self,
        pool: &mut Pool,
        len: usize,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), VerbError> {
        self.send.check(len)?;
        let mut bytes = vec![0; len];
        encode(&mut bytes)?;
        Ok(self.send.append(pool, &bytes)?)
    }

    /// Sends the acknowledgements whose time has come, as far as the output allows. What finds no room is tried again by
    /// [`send_again`](Self::send_again).
    pub(crate) fn send_acks(&mut self, tools: &mut Tools<'_>) {
        let version = self.session.version();
        while let Some(packet) = self.session.next_ack() {
            if self.encode_packet(&packet, version, tools.pool).is_err() {
                return;
            }
            self.session.ack_sent();
            self.note_sent(packet.packet_type(), tools);
        }
    }

    /// Sends SUBSCRIBE or UNSUBSCRIBE with a packet identifier of its own.
    pub(crate) fn request<'p>(
        &mut self,
        kind: Kind,
        filters: usize,
        tools: &mut Tools<'_>,
        packet: impl FnOnce(PacketId) -> Packet<'p>,
    ) -> Result<PacketId, VerbError> {
        if !self.session.is_up() {
            return Err(VerbError::Offline);
        }
        let entry = Entry {
            kind,
            token: filters as u64,
            intended: tools.now,
            sent: tools.now,
            kept: None,
            waits: false,
        };
        let Some(packet_id) = self.session.begin(entry) else {
            self.wants_window = true;
            return Err(VerbError::Full);
        };
        self.send_packet(&packet(packet_id), tools)
            .inspect_err(|_| self.session.cancel(packet_id, kind))?;
        Ok(packet_id)
    }

    /// The next block for the driver, sealed; `None` while it has one, or when there is nothing.
    pub(crate) fn take_ready(
        &mut self,
        tools: &mut Tools<'_>,
    ) -> Result<Option<(Block, Range<usize>)>, TlsError> {
        let tls = &mut self.tls;
        let ready = self.send.take_ready(|block, plain| match tls {
            Some(tls) => tls.seal(tools.scratch, block, plain),
            None => Ok(plain),
        });
        if ready.is_err() {
            // Nothing can be sealed any more, so nothing of it can be sent.
            self.send.clear(tools.pool);
        }
        ready
    }

    /// The driver has sent its block.
    pub(crate) fn sent(&mut self, block: Block, pool: &mut Pool) {
        self.send.sent(pool, block);
        self.session.output_moved();
    }

    /// Output waits for its turn, or the application or a resumed session for room.
    pub(crate) fn has_more_to_do(&self) -> bool {
        !self.send.is_empty() || self.wants_output || self.wants_window || self.owes()
    }

    /// Whether everything has left for the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.send.in_flight_len() == 0 && self.send.is_empty()
    }

    /// Everything is flushed: says good-bye in TLS, once. Answers whether there is nothing left to send.
    ///
    /// Only now, because records are sealed when they leave, and nothing may be sealed after close_notify.
    pub(crate) fn finish(&mut self, tools: &mut Tools<'_>) -> bool {
        if !std::mem::replace(&mut self.finished, true) {
            if let Some(tls) = &mut self.tls {
                tls.close_notify(tools.flight);
            }
            // Without room for it the peer sees the end of the stream instead.
            let _ = self.send_flight(tools);
        }
        self.is_flushed()
    }

    /// Gives every buffer back; the connection is not used any more.
    pub(crate) fn release(mut self, pool: &mut Pool, scratch: &mut Scratch) {
        if let Some(mut tls) = self.tls.take() {
            tls.release(scratch);
        }
        self.send.clear(pool);
    }

    /// Whether the application is to be told that there is room again; true once.
    pub(crate) fn has_room_again(&mut self, tools: &mut Tools<'_>) -> bool {
        let window = self.wants_window && self.session.window_has_room();
        let output = self.wants_output
            && self.output_has_room(tools.limits)
            && tools.pool.has_room(self.send.contiguous_max())
            && (!self.session.keeps() || tools.may_keep(self.send.contiguous_max()));
        if output {
            self.session.output_moved();
        }
        if window || output {
            self.wants_window = false;
            self.wants_output = false;
        }
        window || output
    }

    /// A verb answered `Full`, or something waits to be sent, though nothing of this connection is on its way: only the
    /// shard's memory can have been the reason, and no event of this connection will tell when there is some.
    pub(crate) fn is_starved(&self, limits: &Limits) -> bool {
        (self.wants_output || self.owes()) && self.is_flushed() && self.output_has_room(limits)
    }

    /// Something that is to be sent has found no room: see [`send_again`](Self::send_again).
    fn owes(&self) -> bool {
        self.session.again().is_some() || self.session.next_ack().is_some()
    }

    fn output_has_room(&self, limits: &Limits) -> bool {
        self.send.in_flight_len() + self.send.len() <= limits.output_bytes_max / 2
    }
}

/// Why received bytes could not be opened.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    Tls(TlsError),
    Frame(DecodeError),
    Send(SendError),
}
