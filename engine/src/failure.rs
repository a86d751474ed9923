//! Why an attempt or a connection ended: stable codes for programs, sentences for people.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use fleetwire_codec::ReasonCode;

/// A stable name for a cause, the same in events, logs and reports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slug(&'static str);

macro_rules! slugs {
    ($($name:ident $text:literal $doc:literal;)*) => {
        impl Slug {
            $(#[doc = $doc] pub const $name: Self = Self($text);)*

            /// Every cause that the engine itself names; TLS adds those of `fleetwire_tls`.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

slugs! {
    DIAL_REFUSED "dial_refused" "The handler's `on_dial` refused the attempt, or gave values that no CONNECT can carry.";
    TCP_REFUSED "tcp_refused" "The other side answered the TCP SYN with a reset: nothing listens there.";
    TCP_TIMEOUT "tcp_timeout" "No answer to the TCP SYN: something drops it.";
    TCP_UNREACHABLE "tcp_unreachable" "The network or host is unreachable from here.";
    TCP_RESET "tcp_reset" "The connection was reset before or during the TLS handshake.";
    TCP_ERROR "tcp_error" "Another error of the operating system while connecting.";
    SOURCE_PORTS_EXHAUSTED "source_ports_exhausted" "No free source port to this destination.";
    OPEN_FILES "open_files" "The process has no free file descriptor.";
    TLS_TIMEOUT "tls_timeout" "The TLS handshake did not end in time.";
    CLOSED_IN_HANDSHAKE "closed_in_handshake" "The other side closed during the TLS handshake without an alert.";
    CLOSED_BEFORE_CONNACK "closed_before_connack" "The other side closed after the handshake, before a CONNACK: often its refusal of a client certificate.";
    CONNACK_TIMEOUT "connack_timeout" "CONNECT was sent and no CONNACK came in time.";
    CONNACK_REFUSED "connack_refused" "The CONNACK carries a reason code that refuses the connection.";
    CONNECTION_LOST "connection_lost" "The connection ended without a DISCONNECT.";
    KEEP_ALIVE_TIMEOUT "keep_alive_timeout" "No PINGRESP (client) or no packet within 1.5 keep-alives (server).";
    THROTTLED "throttled" "CONNACK 0x97 or 0x9F: the broker limits how many may connect.";
    CLIENT_ID_TAKEN_OVER "client_id_taken_over" "DISCONNECT 0x8E: somebody else connected with this client id. In 3.1.1 inferred from three losses in a row within 2 s of CONNACK.";
    DISCONNECTED_BY_PEER "disconnected_by_peer" "The peer sent DISCONNECT.";
    NOT_MQTT "not_mqtt" "What answered CONNECT is another protocol; the text shows its first bytes.";
    PROTOCOL_VIOLATION "protocol_violation" "The peer broke a rule of MQTT; the text names the clause.";
    OVERLOADED "overloaded" "A bound of this side was reached; the text says which.";
    CLOSED_BY_US "closed_by_us" "The application closed the link.";
    CONNECT_TIMEOUT "connect_timeout" "Server role: no CONNECT came in time.";
}

impl Slug {
    /// A cause that another layer names.
    pub(crate) const fn of(name: &'static str) -> Self {
        Self(name)
    }

    /// The name as it stands in reports.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How far an attempt had come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// Before anything was sent.
    Dial,
    /// TCP connect.
    Tcp,
    /// TLS handshake.
    Tls,
    /// CONNECT sent, CONNACK awaited.
    Connack,
    /// Connected.
    Up,
}

impl Stage {
    /// The name as it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Connack => "connack",
            Self::Up => "up",
        }
    }
}

/// One attempt to connect ended without a connection.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How far it had come.
    pub stage: Stage,
    /// The cause.
    pub slug: Slug,
    /// The evidence, as a sentence for a person.
    pub text: String,
    /// The address that was dialled last.
    pub address: Option<SocketAddr>,
    /// Since the attempt was due.
    pub elapsed: Duration,
    /// The code of a CONNACK that refused, as on the wire.
    pub reason: Option<u8>,
    /// When the next attempt is due; `None` when the link gave up (its id stays until it is closed).
    pub retry_in: Option<Duration>,
}

/// A connection that was up has ended.
#[derive(Clone, Debug)]
pub struct Disconnected {
    /// The cause.
    pub slug: Slug,
    /// The evidence, as a sentence for a person.
    pub text: String,
    /// The reason code of the DISCONNECT that was received or sent, if there was one.
    pub reason: Option<ReasonCode>,
    /// Server role: the client said good-bye with DISCONNECT 0x00, so its will is not sent (v5 section 3.14.4).
    pub clean: bool,
    /// Server role: the Session Expiry Interval of the client's DISCONNECT, which replaces that of its CONNECT (v5 section
    /// 3.14.2.2.2).
    pub session_expiry_secs: Option<u32>,
    /// How long it was up.
    pub connected_for: Duration,
    /// When the next attempt is due; `None` when the link gave up or was closed.
    pub retry_in: Option<Duration>,
}

/// Why a connection ends, before it is known which event tells it.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) slug: Slug,
    pub(crate) text: String,
    pub(crate) reason: Option<ReasonCode>,
    pub(crate) connack_code: Option<u8>,
    pub(crate) clean: bool,
    pub(crate) session_expiry_secs: Option<u32>,
    /// Trying again cannot help.
    pub(crate) give_up: bool,
    /// The peer said it, so it need not be told.
    pub(crate) from_peer: bool,
    /// The peer has been told.
    pub(crate) told: bool,
}

impl Cause {
    pub(crate) fn new(slug: Slug, text: impl Into<String>) -> Self {
        Self {
            slug,
            text: text.into(),
            reason: None,
            connack_code: None,
            clean: false,
            session_expiry_secs: None,
            give_up: false,
            from_peer: false,
            told: false,
        }
    }

    pub(crate) fn with_reason(mut self, reason: ReasonCode) -> Self {
        self.reason = Some(reason);
        self
    }
}

/// Names what the operating system says of a TCP connect.
pub(crate) fn connect_cause(error: &io::Error, address: Option<SocketAddr>) -> Cause {
    use io::ErrorKind as Kind;
    let at = address.map_or_else(|| "the broker".to_owned(), |address| address.to_string());
    let (slug, what) = match error.kind() {
        Kind::ConnectionRefused => (Slug::TCP_REFUSED, "nothing listens there"),
        Kind::ConnectionReset | Kind::ConnectionAborted => (Slug::TCP_RESET, "it reset the connection"),
        Kind::TimedOut => (Slug::TCP_TIMEOUT, "no answer, neither refused nor reset"),
        Kind::HostUnreachable | Kind::NetworkUnreachable => (Slug::TCP_UNREACHABLE, "no route to it"),
        Kind::AddrNotAvailable | Kind::AddrInUse => (
            Slug::SOURCE_PORTS_EXHAUSTED,
            "no free source port to this destination",
        ),
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => (Slug::OPEN_FILES, "no free file descriptor"),
        _ => (Slug::TCP_ERROR, "the system refused"),
    };
    Cause::new(slug, format!("{at}: {what} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The numbers are Linux's, errno(3).
    #[test]
    fn what_the_system_says_of_a_connect_has_a_name() {
        for (errno, slug) in [
            (111, Slug::TCP_REFUSED),
            (104, Slug::TCP_RESET),
            (110, Slug::TCP_TIMEOUT),
            (113, Slug::TCP_UNREACHABLE),
            (101, Slug::TCP_UNREACHABLE),
            // EADDRNOTAVAIL and EADDRINUSE: source ports are used up.
            (99, Slug::SOURCE_PORTS_EXHAUSTED),
            (98, Slug::SOURCE_PORTS_EXHAUSTED),
            // EMFILE and ENFILE.
            (24, Slug::OPEN_FILES),
            (23, Slug::OPEN_FILES),
            (13, Slug::TCP_ERROR),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let address = Some(SocketAddr::from(([10, 0, 0, 1], 8883)));
            let cause = connect_cause(&error, address);
            assert_eq!(cause.slug, slug, "{error}");
            assert!(cause.text.starts_with("10.0.0.1:8883: "), "{}", cause.text);
        }
    }
}
