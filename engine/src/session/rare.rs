//! What few sessions need: it takes a pointer where it is not there.

use fleetwire_codec::{Auth, Properties, ReasonCode, TopicName, TopicNameBuf};

use super::held::Held;
use super::in_flight::InFlight;
use super::{Meaning, Role, Session, State, Violation, violation};

/// See the module.
#[derive(Debug)]
pub(super) struct Rare {
    /// Client: what waited for a session that the server has not got any more.
    pub(super) lost: InFlight,
    /// Acknowledgements that the application has taken over.
    pub(super) held: Held,
    /// The Authentication Method of the CONNECT.
    pub(super) method: Option<String>,
    /// The Topic Alias Maximum that this side has announced, and the topics by their alias, from 1. So the application
    /// decides how much memory a peer may take: so many topics of at most 64 KiB.
    alias_max: u16,
    aliases: Vec<Option<TopicNameBuf>>,
    /// The peer's Topic Alias Maximum, at most [`ALIASES_MAX`], and the topics that this side's aliases stand for, from 1.
    peer_alias_max: u16,
    own_aliases: Vec<TopicNameBuf>,
}

/// Aliases of one connection towards its peer, as many as AWS IoT Core takes; each publish that asks for one is compared
/// with the topics of all.
const ALIASES_MAX: u16 = 8;

impl Session {
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                lost: InFlight::new(),
                held: Held::default(),
                method: None,
                alias_max: 0,
                aliases: Vec::new(),
                peer_alias_max: 0,
                own_aliases: Vec::new(),
            })
        })
    }

    pub(super) fn set_alias_max(&mut self, max: u16) {
        if max > 0 {
            self.rare().alias_max = max;
        }
    }

    pub(super) fn set_peer_alias_max(&mut self, max: u16) {
        if max > 0 {
            self.rare().peer_alias_max = max.min(ALIASES_MAX);
        }
    }

    /// An alias for a topic that is about to be published, and whether the peer knows it already. `None` when the peer takes
    /// none or when all stand for other topics: v5 [MQTT-3.3.2-9], [MQTT-3.3.2-11].
    pub(crate) fn begin_alias(&mut self, topic: TopicName<'_>) -> Option<(u16, bool)> {
        let rare = self.rare.as_mut()?;
        let own = &mut rare.own_aliases;
        if let Some(index) = own.iter().position(|known| known.as_topic_name() == topic) {
            return Some((index as u16 + 1, true));
        }
        if own.len() >= usize::from(rare.peer_alias_max) {
            return None;
        }
        own.push(topic.into());
        Some((own.len() as u16, false))
    }

    /// The publish that was to make the newest alias known was not sent.
    pub(crate) fn cancel_alias(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.own_aliases.pop();
        }
    }

    /// An AUTH has to have the method of CONNECT: v5 [MQTT-4.12.0-5], [MQTT-4.12.1-1].
    pub(super) fn handle_auth<'a>(&mut self, auth: Auth<'a>) -> Result<Meaning<'a>, Violation> {
        let method = self.rare.as_ref().and_then(|rare| rare.method.as_deref());
        if method.is_none() || auth.properties.authentication_method() != method {
            let (clause, text) = match (method, self.role) {
                (Some(_), _) => ("v5 [MQTT-4.12.0-5]", "an AUTH with another method than CONNECT"),
                (None, Role::Client) => ("v5 [MQTT-4.12.0-6]", "an AUTH although CONNECT named no method"),
                (None, Role::Server) => ("v5 [MQTT-4.12.0-7]", "an AUTH although CONNECT named no method"),
            };
            return Err(violation(ReasonCode::ProtocolError, clause, text));
        }
        // v5 table 3-11 with sections 4.12 and 4.12.1: only a client asks for it again, only a server ends it with success.
        let expected = match (self.role, auth.reason) {
            (_, ReasonCode::ContinueAuthentication) => true,
            (Role::Client, ReasonCode::Success) | (Role::Server, ReasonCode::ReAuthenticate) => self.is_up(),
            _ => false,
        };
        if !expected {
            return Err(violation(
                ReasonCode::ProtocolError,
                "v5 section 3.15.2.1",
                "an AUTH with a reason that is the other side's",
            ));
        }
        if self.state == State::Authenticating {
            self.state = State::Deciding;
        }
        Ok(Meaning::Auth(auth))
    }

    /// Whether an AUTH with these properties may be sent now. A server that sends one awaits the client's.
    pub(crate) fn begin_auth(&self, reason: ReasonCode, properties: &Properties<'_>) -> bool {
        let allowed = match (self.role, self.state) {
            (Role::Client, State::AwaitConnack) | (Role::Server, State::Deciding) => {
                reason == ReasonCode::ContinueAuthentication
            }
            (Role::Client, State::Up) => reason != ReasonCode::Success,
            (Role::Server, State::Up) => reason != ReasonCode::ReAuthenticate,
            _ => false,
        };
        allowed && self.has_method(properties) && properties.authentication_method().is_some()
    }

    /// The AUTH is on its way.
    pub(crate) fn auth_sent(&mut self) {
        if self.state == State::Deciding {
            self.state = State::Authenticating;
        }
    }

    /// Whether the Authentication Method of an answer is that of CONNECT.
    pub(crate) fn has_method(&self, properties: &Properties<'_>) -> bool {
        let method = self.rare.as_ref().and_then(|rare| rare.method.as_deref());
        properties.authentication_method() == method
    }

    pub(super) fn set_method(&mut self, properties: &Properties<'_>) {
        if let Some(method) = properties.authentication_method() {
            self.rare().method = Some(method.to_owned());
        }
    }

    /// A PUBLISH came with a Topic Alias, v5 section 3.3.2.3.4. All up to the maximum are taken, and mean a topic from the
    /// first time on that they come with one: [MQTT-3.3.2-10] of a client, [MQTT-3.3.2-12] of a server.
    pub(super) fn handle_alias(&mut self, alias: u16, topic: TopicName<'_>) -> Result<(), Violation> {
        let clause = match self.role {
            Role::Server => "v5 [MQTT-3.3.2-9]",
            Role::Client => "v5 [MQTT-3.3.2-11]",
        };
        let invalid = violation(
            ReasonCode::TopicAliasInvalid,
            clause,
            "a Topic Alias above the maximum that was announced",
        );
        let rare = self
            .rare
            .as_mut()
            .filter(|rare| (1..=rare.alias_max).contains(&alias));
        let aliases = &mut rare.ok_or(invalid)?.aliases;
        let index = usize::from(alias - 1);
        if topic.is_empty() {
            return match aliases.get(index) {
                Some(Some(_)) => Ok(()),
                _ => Err(violation(
                    ReasonCode::ProtocolError,
                    "v5 section 3.3.2.3.4",
                    "a Topic Alias that stands for no topic yet",
                )),
            };
        }
        if aliases.len() <= index {
            aliases.resize_with(index + 1, || None);
        }
        if let Some(place) = aliases.get_mut(index)
            && place.as_ref().is_none_or(|known| known.as_topic_name() != topic)
        {
            *place = Some(topic.into());
        }
        Ok(())
    }

    /// Takes the topic that an alias stands for, to be [put back](Self::put_back) when its message is delivered.
    pub(crate) fn take_topic(&mut self, alias: u16) -> Option<TopicNameBuf> {
        self.alias(alias)?.take()
    }

    pub(crate) fn put_back(&mut self, alias: u16, topic: TopicNameBuf) {
        if let Some(place) = self.alias(alias) {
            *place = Some(topic);
        }
    }

    fn alias(&mut self, alias: u16) -> Option<&mut Option<TopicNameBuf>> {
        let index = usize::from(alias.checked_sub(1)?);
        self.rare.as_mut()?.aliases.get_mut(index)
    }
}
