//! Rules that a peer has broken, and which side may say which reason.

use fleetwire_codec::ReasonCode;

/// A rule that the peer broke, with the clause and the reason code that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) reason: ReasonCode,
    pub(crate) clause: &'static str,
    pub(crate) text: &'static str,
}

pub(super) const fn violation(reason: ReasonCode, clause: &'static str, text: &'static str) -> Violation {
    Violation { reason, clause, text }
}

/// Whether table 3-10 of 5.0 keeps a reason of DISCONNECT for servers.
pub(super) fn is_for_servers(reason: ReasonCode) -> bool {
    use ReasonCode as Code;
    matches!(
        reason,
        Code::NotAuthorized
            | Code::ServerBusy
            | Code::ServerShuttingDown
            | Code::KeepAliveTimeout
            | Code::SessionTakenOver
            | Code::TopicFilterInvalid
            | Code::RetainNotSupported
            | Code::QoSNotSupported
            | Code::UseAnotherServer
            | Code::ServerMoved
            | Code::SharedSubscriptionsNotSupported
            | Code::ConnectionRateExceeded
            | Code::MaximumConnectTime
            | Code::SubscriptionIdentifiersNotSupported
            | Code::WildcardSubscriptionsNotSupported
    )
}

/// Whoever looks up the code of a filter by its place would find another's, or none.
pub(super) const MISCOUNTED: Violation = violation(
    ReasonCode::ProtocolError,
    "v5 [MQTT-3.8.4-6], [MQTT-3.11.3-1]",
    "a SUBACK or UNSUBACK without one code for each filter",
);

/// A reason as that side may say it: one that table 3-10 of 5.0 keeps for the other is an unspecified error.
pub(crate) fn said_by(is_client: bool, reason: ReasonCode) -> ReasonCode {
    let others = if is_client {
        is_for_servers(reason)
    } else {
        reason == ReasonCode::DisconnectWithWillMessage
    };
    if others {
        ReasonCode::UnspecifiedError
    } else {
        reason
    }
}

pub(super) const WRONG_SIDE: Violation = violation(
    ReasonCode::ProtocolError,
    "v5 table 3-10",
    "a DISCONNECT with a reason that is the other side's",
);
