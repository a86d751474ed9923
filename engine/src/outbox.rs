//! The verbs of a handler.

mod subscribing;

use std::time::{Duration, Instant};

use fleetwire_codec::{Auth, Connack, Disconnect, Packet, PacketId, Properties, ReasonCode, Version};

use crate::clock::after;
use crate::connection::Tools;
use crate::core::Core;
use crate::link::{CloseWish, Link};
use crate::schedule::Schedule;
use crate::session::{State, said_by};
use crate::{
    AckTicket, ConnectForm, LinkId, Message, OpenError, Plan, Publish, PublishError, SessionState, Shard,
    VerbError,
};

/// What a handler can do. All verbs work on any link of the handler's shard, answer at once and never call the
/// handler. Packets are encoded within the call, into the link's send buffer, and leave when the handler has
/// returned: what one pass of the loop makes for a connection goes out in as few writes as it fits in.
pub struct Outbox<'a> {
    core: &'a mut Core,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(core: &'a mut Core) -> Self {
        Self { core }
    }

    /// The shard's clock, as in [`At::now`](crate::At::now).
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// This shard.
    pub fn shard(&self) -> Shard {
        self.core.shard
    }

    /// Opens a client link. It dials later, at its turn in the connect rate, and asks `on_dial` then; all that
    /// becomes of it are events.
    ///
    /// # Errors
    /// The bound of links is reached, or the engine is shutting down.
    pub fn open(&mut self, plan: &Plan, token: u64) -> Result<LinkId, OpenError> {
        self.core.open(plan, token)
    }

    /// As [`open`](Self::open), with a form that is used at every attempt instead of asking `on_dial`.
    ///
    /// # Errors
    /// The bound of links is reached, or the engine is shutting down.
    pub fn open_with(&mut self, plan: &Plan, token: u64, form: ConnectForm) -> Result<LinkId, OpenError> {
        let id = self.core.open(plan, token)?;
        if let Some(client) = self.core.links.get_mut(id).and_then(|link| link.client.as_mut()) {
            client.template = Some(Box::new(form));
        }
        Ok(id)
    }

    /// Opens a link whose id a handle has reserved.
    pub(crate) fn open_reserved(
        &mut self,
        id: LinkId,
        plan: &Plan,
        token: u64,
        form: Option<Box<ConnectForm>>,
    ) {
        if self.core.draining {
            self.core.ids.release(id);
        } else {
            self.core.open_reserved(id, plan, token, form);
        }
    }

    /// Publishes. Above QoS 0 the packet identifier is answered, and exactly one of `Acked`, `Refused` and `Dropped`
    /// follows.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was queued then.
    pub fn publish(&mut self, link: LinkId, publish: Publish<'_>) -> Result<Option<PacketId>, PublishError> {
        let (live, mut tools) = self.live(link)?;
        let published = live.connection.publish(&publish, &mut tools);
        if published == Err(PublishError::Full) {
            self.core.note_full(link.slot);
        }
        let packet_id = published?;
        self.core.counters.published.add(1);
        self.core.counters.in_flight.add(u64::from(packet_id.is_some()));
        self.core.touch(link.slot);
        Ok(packet_id)
    }

    /// The link, if packets can be sent on it now, with what its connection works with.
    fn live(&mut self, link: LinkId) -> Result<(&mut Link, Tools<'_>), VerbError> {
        let (live, tools) = self.core.connection(link.slot).ok_or(VerbError::NoSuchLink)?;
        if live.id != link {
            return Err(VerbError::NoSuchLink);
        }
        if !live.phase.is_live() || live.wishes.close.is_some() {
            return Err(VerbError::Offline);
        }
        Ok((live, tools))
    }

    /// Takes over the acknowledgement of a message, to be called while its event is being handled. The peer gets its PUBACK or
    /// PUBREC when [`ack`](Self::ack) says so; reading goes on meanwhile. `None` for a message at QoS 0, and for one whose
    /// acknowledgement was taken over before.
    ///
    /// - *Order.* Acknowledgements go out in the order in which the messages came (v5 and v3.1.1 `[MQTT-4.6.0-2]`,
    ///   `[MQTT-4.6.0-3]`): one that is given early waits for those in front of it, and so do those that nobody holds.
    /// - *Bound.* What is not acknowledged counts against the Receive Maximum that this side has announced, in CONNECT or
    ///   CONNACK, and the peer stops there; one that does not ends with 0x93. Without that property it is 65,535, and 3.1.1
    ///   has no other: say how much you want to have to deal with.
    /// - *End of the connection.* Tickets end with their connection ([`VerbError::Stale`]). If the session is kept, the peer
    ///   sends the message again, and it is a new `Message` with DUP set, also at QoS 2: exactly once counts from `ack`. What
    ///   was acknowledged by then does not come again at QoS 2, even if the peer has not got the acknowledgement.
    /// - *Shutdown.* It waits for held acknowledgements as it does for those of the peer, up to its `drain`.
    #[must_use = "without its ticket the message is never acknowledged, and neither are those that come later"]
    pub fn hold_ack(&mut self, message: &Message<'_>) -> Option<AckTicket> {
        let (link, packet_id) = (message.link(), message.packet_id?);
        let live = self.core.links.get_mut(link)?;
        if !message.hold() {
            return None;
        }
        Some(AckTicket {
            link,
            epoch: live.epoch,
            number: live.connection.session.hold_ack(packet_id, message.qos),
        })
    }

    /// Acknowledges a message whose acknowledgement was taken over with [`hold_ack`](Self::hold_ack), now or, if earlier ones
    /// are still held, after them.
    ///
    /// # Errors
    /// [`Stale`](VerbError::Stale), [`NotHeld`](VerbError::NotHeld) or [`NoSuchLink`](VerbError::NoSuchLink); nothing has
    /// changed then.
    pub fn ack(&mut self, ticket: AckTicket) -> Result<(), VerbError> {
        self.ack_with(ticket, ReasonCode::Success)
    }

    /// As [`ack`](Self::ack), with a reason code of PUBACK or PUBREC (v5 sections 3.4.2.1 and 3.5.2.1). With 0x80 or more the
    /// message is refused: its sender will not send it again.
    ///
    /// # Errors
    /// As `ack`; also [`Invalid`](VerbError::Invalid) for a reason that the packet cannot carry, in 3.1.1 each that refuses,
    /// and [`TooLarge`](VerbError::TooLarge) for a peer whose Maximum Packet Size has no room for a reason. The
    /// acknowledgement is still held then.
    pub fn ack_with(&mut self, ticket: AckTicket, reason: ReasonCode) -> Result<(), VerbError> {
        let (live, mut tools) = match self.live(ticket.link) {
            Err(VerbError::Offline) => return Err(VerbError::Stale),
            live => live?,
        };
        if live.epoch != ticket.epoch {
            return Err(VerbError::Stale);
        }
        live.connection.session.decide_ack(ticket.number, reason)?;
        live.connection.send_acks(&mut tools);
        self.core.note_full(ticket.link.slot);
        self.core.touch(ticket.link.slot);
        Ok(())
    }

    /// Gives the link a schedule, instead of the one it has: `Due` comes at `first` and at every `period` after it,
    /// also while the link is offline, until it is cancelled or the link is closed.
    ///
    /// # Errors
    /// There is no such link, or the period is zero.
    pub fn every(&mut self, link: LinkId, first: Instant, period: Duration) -> Result<(), VerbError> {
        if period.is_zero() {
            return Err(VerbError::Invalid);
        }
        let live = self.core.links.get_mut(link).ok_or(VerbError::NoSuchLink)?;
        live.schedule = Some(Box::new(Schedule::new(first, period)));
        self.core.arm(link.slot);
        Ok(())
    }

    /// A moment within the next `period`, drawn evenly from the engine's seed: the first slot for [`every`](Self::every)
    /// of a fleet that starts at once and is not to publish at once.
    pub fn phase(&mut self, period: Duration) -> Instant {
        after(self.core.now, period.mul_f64(self.core.random.f64()))
    }

    /// Ends the link's schedule.
    pub fn cancel_schedule(&mut self, link: LinkId) {
        if let Some(live) = self.core.links.get_mut(link) {
            live.schedule = None;
        }
    }

    /// Ends the link: a client says DISCONNECT 0x00 (no will is sent) and does not come back; a server flushes and
    /// closes. `Disconnected` follows if the connection was up, `Failed` if an attempt was under way, nothing if the link
    /// was waiting for one.
    pub fn close(&mut self, link: LinkId) {
        self.core.wish_close(link, CloseWish::Orderly(None), true);
    }

    /// Ends the connection with a reason: DISCONNECT with that code in 5.0, a mere close by a 3.1.1 server. A client
    /// link dials again by its plan. A Session Expiry Interval in its properties is in force from then on (v5 section
    /// 3.14.2.2.2); with one of 0 its session ends too. Properties with one that the standard forbids are left out: any
    /// of a server (v5 `[MQTT-3.14.2-2]`), and one above 0 after a CONNECT without (v5 section 3.14.2.2.2). So are
    /// properties that DISCONNECT has not got, or for which the peer's Maximum Packet Size has no room. A reason that
    /// is the other side's (v5 table 3-10) is said as 0x80; one that no DISCONNECT has is not said.
    pub fn disconnect(&mut self, link: LinkId, reason: ReasonCode, properties: Properties<'_>) {
        let Some((live, mut tools)) = self.core.connection(link.slot) else {
            return;
        };
        if live.id != link || !live.phase.is_live() || live.wishes.close.is_some() {
            return;
        }
        let expiry = properties.session_expiry_interval();
        let is_client = live.is_client();
        let properties = match expiry {
            Some(secs) if !is_client || !live.connection.session.may_set_expiry(secs) => Properties::EMPTY,
            _ => properties,
        };
        let said = said_by(is_client, reason);
        let disconnect = |properties| {
            Packet::Disconnect(Disconnect {
                reason: said,
                properties,
            })
        };
        // 3.1.1 knows one DISCONNECT only, the client's good-bye.
        let speakable = live.connection.session.version() == Version::V5
            || (live.is_client() && reason == ReasonCode::NORMAL_DISCONNECTION);
        let mut is_said = false;
        if speakable && live.connection.session.is_up() {
            let sent = live.connection.send_packet(&disconnect(properties), &mut tools);
            is_said = sent.is_ok();
            if matches!(sent, Err(VerbError::Invalid | VerbError::TooLarge)) {
                // Without room for it the peer sees the end of the stream instead.
                let bare = disconnect(Properties::EMPTY);
                let _ = live.connection.send_packet(&bare, &mut tools);
            }
        }
        if let Some(secs) = properties.session_expiry_interval() {
            live.connection.session.set_expiry(secs, is_said);
        }
        self.core
            .wish_close(link, CloseWish::Orderly(Some(reason)), false);
    }

    /// Breaks the connection with a TCP reset, as a device does that loses power behind a firewall. A client link
    /// dials again by its plan.
    pub fn abort(&mut self, link: LinkId) {
        self.core.wish_close(link, CloseWish::Abort, false);
    }

    /// Stops reading from the link, across reconnects: the peer's output waits in the network, and in the end at the
    /// peer. A client still hears its CONNACK.
    pub fn pause_reading(&mut self, link: LinkId) {
        self.set_paused(link, true);
    }

    /// Reads again.
    pub fn resume_reading(&mut self, link: LinkId) {
        self.set_paused(link, false);
    }

    fn set_paused(&mut self, link: LinkId, paused: bool) {
        if let Some(live) = self.core.links.get_mut(link)
            && live.paused != paused
        {
            live.paused = paused;
            self.core.touch(link.slot);
        }
    }

    /// As pausing and resuming, apart from what the application wants.
    pub(crate) fn hold_reading(&mut self, link: LinkId, held: bool) {
        if let Some(live) = self.core.links.get_mut(link)
            && live.held != held
        {
            live.held = held;
            self.core.touch(link.slot);
        }
    }

    /// Changes the application's 64 bits.
    pub fn set_token(&mut self, link: LinkId, token: u64) {
        if let Some(live) = self.core.links.get_mut(link) {
            live.token = token;
        }
    }

    /// Server role: CONNACK with code 0. `keep_alive_secs` is what is in force, 0 for none; say it in `properties`
    /// (Server Keep Alive) if it is not what the client asked for.
    ///
    /// # Errors
    /// See [`VerbError`]; `Invalid` when the link does not wait for an answer to CONNECT.
    pub fn accept(
        &mut self,
        link: LinkId,
        session_present: bool,
        properties: Properties<'_>,
        keep_alive_secs: u16,
    ) -> Result<(), VerbError> {
        self.answer_connect(
            link,
            &Connack {
                session_present,
                code: 0,
                properties,
            },
        )?;
        if let Some(live) = self.core.links.get_mut(link) {
            live.connection.session.accepted(&properties, keep_alive_secs);
        }
        self.core.mark_up(link.slot);
        Ok(())
    }

    /// As [`accept`](Self::accept), with a session that may outlive the connection. With the state of an earlier connection
    /// the CONNACK says Session Present, and what that one left unacknowledged is sent again.
    ///
    /// From here on publishes above QoS 0 are copied until they are acknowledged. At the end of the connection the state
    /// is to be [taken](Self::take_session); how long it is worth keeping is the application's matter.
    ///
    /// # Errors
    /// See [`VerbError`]; the state comes back. `Invalid` also when it was begun in another version of the protocol.
    pub fn accept_session(
        &mut self,
        link: LinkId,
        state: Option<SessionState>,
        properties: Properties<'_>,
        keep_alive_secs: u16,
    ) -> Result<(), (VerbError, Option<SessionState>)> {
        let version = self
            .core
            .links
            .get_mut(link)
            .map(|live| live.connection.session.version());
        if state
            .as_ref()
            .is_some_and(|state| Some(state.version()) != version)
        {
            return Err((VerbError::Invalid, state));
        }
        let connack = Connack {
            session_present: state.is_some(),
            code: 0,
            properties,
        };
        if let Err(error) = self.answer_connect(link, &connack) {
            return Err((error, state));
        }
        let publishes = state.as_ref().map_or(0, SessionState::publishes);
        self.core.counters.in_flight.add(publishes as u64);
        if let Some(live) = self.core.links.get_mut(link) {
            let session = &mut live.connection.session;
            session.accepted_to_keep(state, &properties, keep_alive_secs);
        }
        self.core.mark_up(link.slot);
        Ok(())
    }

    /// Server role: takes the state of a session that was accepted with [`accept_session`](Self::accept_session), as it is
    /// now, for the client's next connection. Meant for the moment when `Disconnected` is told, or before the connection is
    /// ended because another one takes over. What is not taken then is `Dropped`. Of what is taken no event comes until it
    /// is given back.
    pub fn take_session(&mut self, link: LinkId) -> Option<SessionState> {
        let now = self.core.now;
        let live = self.core.links.get_mut(link)?;
        if live.is_client() {
            return None;
        }
        let state = live.connection.session.suspend(now)?;
        // They are the application's now, until they come back.
        self.core.counters.in_flight.sub(state.publishes() as u64);
        Some(state)
    }

    /// Server role: CONNACK with a reason that refuses, in the words of the client's version, and the end of the
    /// connection. Without a CONNECT so far it is the end alone; one that was accepted already is
    /// [disconnected](Self::disconnect) with that reason. A client link is left alone.
    pub fn refuse(&mut self, link: LinkId, reason: ReasonCode) {
        let Some(live) = self.core.links.get_mut(link).filter(|live| !live.is_client()) else {
            return;
        };
        if live.connection.session.is_up() {
            return self.disconnect(link, reason, Properties::EMPTY);
        }
        let version = live.connection.session.version();
        let connack = Connack::refused(reason, version);
        // If it cannot be sent the close alone has to say it.
        let _ = self.answer_connect(link, &connack);
        self.core.wish_close(link, CloseWish::Orderly(Some(reason)), true);
    }

    /// Sends AUTH, a step of an authentication whose method the CONNECT has named (v5 section 4.12): a client's before
    /// its CONNACK or, with 0x19, later; a server's in answer to CONNECT or AUTH, and with 0x00 at the end of a
    /// re-authentication. A server that has sent one before its CONNACK reads on, and gets the client's as `Auth`.
    ///
    /// # Errors
    /// See [`VerbError`]; `Invalid` when it is not the time for it, or not the method of the CONNECT.
    pub fn auth(
        &mut self,
        link: LinkId,
        reason: ReasonCode,
        properties: Properties<'_>,
    ) -> Result<(), VerbError> {
        let (live, mut tools) = self.live(link)?;
        if !live.connection.session.begin_auth(reason, &properties) {
            return Err(VerbError::Invalid);
        }
        let sent = live
            .connection
            .send_packet(&Packet::Auth(Auth { reason, properties }), &mut tools);
        if sent.is_ok() {
            live.connection.session.auth_sent();
        }
        self.sent(link, sent)
    }

    fn answer_connect(&mut self, link: LinkId, connack: &Connack<'_>) -> Result<(), VerbError> {
        let (live, mut tools) = self.live(link)?;
        let session = &live.connection.session;
        // v5 [MQTT-4.12.0-5], [MQTT-4.12.0-6].
        let names_method = connack.code != 0 || session.has_method(&connack.properties);
        if session.state() != State::Deciding || !names_method {
            return Err(VerbError::Invalid);
        }
        let sent = live
            .connection
            .send_packet(&Packet::Connack(*connack), &mut tools);
        self.sent(link, sent)
    }

    /// What a verb answers that has sent something, or has found no room for it: then `Writable` comes.
    fn sent(&mut self, link: LinkId, sent: Result<(), VerbError>) -> Result<(), VerbError> {
        if sent == Err(VerbError::Full) {
            self.core.note_full(link.slot);
        }
        self.core.touch(link.slot);
        sent
    }
}
