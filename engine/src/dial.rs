//! What a handler says of one attempt to connect.

use std::fmt;
use std::time::Duration;

use fleetwire_codec::{
    Carrier, Connect, DecodeError, PropertiesBuf, Property, QoS, TopicName, TopicNameBuf, Version, Will,
};
use fleetwire_tls::Identity;

use crate::publish::lend_properties;

/// The form that [`Handler::on_dial`](crate::Handler::on_dial) fills in for one attempt. Nothing of it is kept once
/// the CONNECT is encoded and the handshake is over: certificates, passwords and wills may differ at each attempt.
#[derive(Debug)]
pub struct Dial<'a> {
    form: &'a mut ConnectForm,
    attempt: u32,
    has_session: bool,
}

impl<'a> Dial<'a> {
    pub(crate) fn new(form: &'a mut ConnectForm, attempt: u32, has_session: bool) -> Self {
        Self {
            form,
            attempt,
            has_session,
        }
    }

    /// Whether the link has a session that can be resumed: its last connection had one that was to outlive it, and its time is
    /// not over. It is
    /// resumed if the form has the same client identifier and version, and no Clean Start.
    pub fn has_session(&self) -> bool {
        self.has_session
    }

    /// Attempts since the last connection that lasted 30 s (from 1).
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Fills in everything from a ready form.
    pub fn template(&mut self, form: &ConnectForm) -> &mut Self {
        self.form.clone_from(form);
        self
    }

    /// The form itself.
    pub fn form(&mut self) -> &mut ConnectForm {
        self.form
    }

    /// The client identifier (v5 section 3.1.3.1).
    pub fn client_id(&mut self, client_id: &str) -> &mut Self {
        self.form.client_id.clear();
        self.form.client_id.push_str(client_id);
        self
    }

    /// The protocol version; 5.0 unless said otherwise.
    pub fn version(&mut self, version: Version) -> &mut Self {
        self.form.version = version;
        self
    }

    /// Keep-alive, rounded up to whole seconds, at most 65,535; zero switches it off (v5 section 3.1.2.10).
    pub fn keep_alive(&mut self, keep_alive: Duration) -> &mut Self {
        self.form.keep_alive = keep_alive;
        self
    }

    /// Whether to begin a new session (v5 section 3.1.2.4; Clean Session in 3.1.1); true unless said otherwise. With `false`
    /// the server resumes the session that it has, if it has one: also one that an earlier process has begun. After a session
    /// that [has expired](crate::DropReason::SessionExpired) on this side the next one is new in any case: the server may have
    /// seen the connection end later, and would mistake new messages for old ones.
    pub fn clean_start(&mut self, clean_start: bool) -> &mut Self {
        self.form.clean_start = clean_start;
        self
    }

    /// How long the session outlives its connection, rounded up to whole seconds (v5 section 3.1.2.11.2); zero unless said
    /// otherwise. The server's CONNACK may say otherwise. When no connection comes in time, the link's own half ends too, and
    /// what waits in it is [`DropReason::SessionExpired`](crate::DropReason::SessionExpired). 2^32 - 1 seconds and more have no
    /// end, and in 3.1.1 one without Clean Session has none.
    pub fn session_expiry(&mut self, expiry: Duration) -> &mut Self {
        self.form.session_expiry = expiry;
        self
    }

    /// The user name.
    pub fn username(&mut self, username: &str) -> &mut Self {
        self.form.username = Some(username.to_owned());
        self
    }

    /// The password.
    pub fn password(&mut self, password: &[u8]) -> &mut Self {
        self.form.password = Some(password.to_vec());
        self
    }

    /// The will message, without properties.
    pub fn will(&mut self, topic: TopicName<'_>, payload: &[u8], qos: QoS, retain: bool) -> &mut Self {
        self.will_form(WillForm::new(topic, payload).qos(qos).retain(retain))
    }

    /// The will message, with its properties: see [`WillForm`].
    pub fn will_form(&mut self, will: WillForm) -> &mut Self {
        self.form.will = Some(will);
        self
    }

    /// The certificate and key for mutual TLS.
    pub fn identity(&mut self, identity: &Identity) -> &mut Self {
        self.form.identity = Some(identity.clone());
        self
    }

    /// Properties of the CONNECT; left out in 3.1.1.
    pub fn properties(&mut self, properties: &PropertiesBuf) -> &mut Self {
        self.form.properties = Some(properties.clone());
        self
    }
}

/// Everything that one CONNECT and its TLS handshake need, owned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectForm {
    /// The client identifier.
    pub client_id: String,
    /// The protocol version.
    pub version: Version,
    /// Keep-alive; sent in whole seconds.
    pub keep_alive: Duration,
    /// See [`Dial::clean_start`].
    pub clean_start: bool,
    /// See [`Dial::session_expiry`].
    pub session_expiry: Duration,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// The will message.
    pub will: Option<WillForm>,
    /// The certificate and key for mutual TLS.
    pub identity: Option<Identity>,
    /// Properties of the CONNECT.
    pub properties: Option<PropertiesBuf>,
}

/// A will message, which the server publishes when the connection ends without the client's leave (v5 section 3.1.2.5), or
/// with a DISCONNECT of [`DisconnectWithWillMessage`](fleetwire_codec::ReasonCode::DisconnectWithWillMessage).
///
/// Whether a CONNECT can carry it is found out at each attempt: one with a payload of more than 65,535 bytes, or with
/// properties that were made for another [`Carrier`] and that a will has not got, ends as
/// [`Slug::DIAL_REFUSED`](crate::Slug::DIAL_REFUSED).
///
/// ```
/// use fleetwire_codec::{Carrier, PropertiesBuf, Property, QoS, TopicName};
/// use fleetwire_engine::{ConnectForm, WillForm};
///
/// let properties = PropertiesBuf::of(
///     Carrier::Will,
///     &[
///         Property::WillDelayInterval(30),
///         Property::PayloadFormatIndicator(true),
///         Property::MessageExpiryInterval(3600),
///         Property::ContentType("text/plain"),
///         Property::ResponseTopic(TopicName::new("devices/7/hello")?),
///         Property::CorrelationData(b"7"),
///         Property::UserProperty(("site", "north")),
///     ],
/// )?;
/// let will = WillForm::new(TopicName::new("devices/7/state")?, b"offline")
///     .qos(QoS::AtLeastOnce)
///     .retain(true)
///     .properties(properties);
/// let mut form = ConnectForm::new("device-7");
/// form.will = Some(will);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WillForm {
    /// Where it is published.
    pub topic: TopicNameBuf,
    /// What; at most 65,535 bytes.
    pub payload: Vec<u8>,
    /// At which quality of service.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Its properties, of [`Carrier::Will`] (v5 section 3.1.3.2); left out in 3.1.1.
    pub properties: Option<PropertiesBuf>,
}

impl WillForm {
    /// A will at QoS 0, not retained, without properties.
    pub fn new(topic: TopicName<'_>, payload: &[u8]) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.to_vec(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: None,
        }
    }

    /// At which quality of service it is published.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether it is retained.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Its properties: Will Delay Interval, Payload Format Indicator, Message Expiry Interval, Content Type, Response
    /// Topic, Correlation Data, User Properties (v5 section 3.1.3.2). Left out in 3.1.1.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuf) -> Self {
        self.properties = Some(properties);
        self
    }

    fn as_will(&self) -> Will<'_> {
        Will {
            topic: self.topic.as_topic_name(),
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: lend_properties(self.properties.as_ref()),
        }
    }
}

impl Default for ConnectForm {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            version: Version::V5,
            keep_alive: Duration::from_secs(60),
            clean_start: true,
            session_expiry: Duration::ZERO,
            username: None,
            password: None,
            will: None,
            identity: None,
            properties: None,
        }
    }
}

impl ConnectForm {
    /// A form with a client identifier and defaults otherwise: 5.0, keep-alive 60 s.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            ..Self::default()
        }
    }

    pub(crate) fn keep_alive_secs(&self) -> u16 {
        u16::try_from(whole_secs(self.keep_alive)).unwrap_or(u16::MAX)
    }

    /// All properties of the CONNECT.
    pub(crate) fn all_properties(&self) -> Result<PropertiesBuf, DecodeError> {
        let given = self.properties.clone();
        let mut properties = given.unwrap_or_else(|| PropertiesBuf::new(Carrier::Connect));
        if !self.session_expiry.is_zero() && self.version == Version::V5 {
            let secs = u32::try_from(whole_secs(self.session_expiry)).unwrap_or(u32::MAX);
            properties.push(Property::SessionExpiryInterval(secs))?;
        }
        Ok(properties)
    }

    /// The packet, with these properties.
    pub(crate) fn connect<'a>(&'a self, properties: &'a PropertiesBuf) -> Connect<'a> {
        Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive_secs: self.keep_alive_secs(),
            client_id: &self.client_id,
            will: self.will.as_ref().map(WillForm::as_will),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: properties.as_properties(),
        }
    }
}

fn whole_secs(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// An attempt that the handler does not want to be made; its text goes into the [`Failure`](crate::Failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    text: String,
}

impl DialError {
    /// Says why.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DialError {}
