//! What a run is to do: the command line, checked as a whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetwire_codec::{QoS, TopicFilter, TopicName, Version};

use crate::arguments::{MqttVersion, Period, RunArguments, Switch, TlsVersion};
use crate::broker::{Broker, BrokerFlags, MUTUAL_TLS_ALPN};
use crate::problem::Problem;
use crate::template::{Names, Template};
use crate::values;

/// A run whose command line makes sense. Files and names have not been looked at.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) target: Target,
    pub(crate) trust: Trust,
    pub(crate) identities: IdentitySource,
    pub(crate) tls_version: Option<TlsVersion>,

    pub(crate) devices: u32,
    pub(crate) index_from: u64,
    pub(crate) client_id: Template,
    pub(crate) username: Option<Template>,
    pub(crate) password: Option<String>,
    pub(crate) version: Version,
    pub(crate) keep_alive_secs: u16,

    pub(crate) connect_rate: f64,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect: bool,

    /// `None` when nothing is published.
    pub(crate) period: Option<Duration>,
    pub(crate) payload_size: usize,
    pub(crate) qos: QoS,
    pub(crate) topic: Template,
    pub(crate) subscribe: Option<Template>,
    pub(crate) ack_timeout: Duration,

    pub(crate) duration: Duration,
    pub(crate) drain: Duration,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
}

/// Whom the fleet connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The endpoint that this run starts as a child process.
    Child,
    /// Somebody else.
    Broker(Broker),
}

/// Who may have signed the broker's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The system's roots.
    System,
    /// The CAs of a file.
    File(PathBuf),
    /// Nobody is asked.
    Anybody,
}

/// Where the devices' certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// None are used.
    None,
    /// Made for this run, one per device.
    ThrowAway,
    /// Paths that may hold placeholders.
    Files { cert: Template, key: Template },
    /// `DIR/CLIENT_ID.crt` and `.key`.
    Directory(PathBuf),
}

impl Scenario {
    /// Checks the command line as a whole.
    pub(crate) fn new(arguments: &RunArguments) -> Result<Self, Problem> {
        let target = target(arguments)?;
        let identities = identity_source(arguments, &target)?;
        let scenario = Self {
            trust: match (&arguments.ca, arguments.insecure) {
                (_, true) => Trust::Anybody,
                (Some(file), false) => Trust::File(file.clone()),
                (None, false) => Trust::System,
            },
            target,
            identities,
            tls_version: arguments.tls,
            devices: arguments.devices,
            index_from: arguments.index_from,
            client_id: parse("--client-id", &arguments.client_id, Template::parse_client_id)?,
            username: optional("--username", arguments.username.as_deref())?,
            password: arguments.password.clone(),
            version: match arguments.mqtt {
                MqttVersion::V5 => Version::V5,
                MqttVersion::V3_1_1 => Version::V311,
            },
            keep_alive_secs: arguments.keep_alive,
            connect_rate: arguments.connect_rate,
            connect_timeout: arguments.connect_timeout,
            reconnect: arguments.reconnect == Switch::On,
            period: match arguments.period {
                Period::Off => None,
                Period::Every(period) => Some(period),
            },
            payload_size: arguments.payload_size,
            qos: values::quality(arguments.qos),
            topic: parse("--topic", &arguments.topic, Template::parse)?,
            subscribe: optional("--subscribe", arguments.subscribe.as_deref())?,
            ack_timeout: arguments.ack_timeout,
            duration: arguments.duration,
            drain: arguments.drain,
            threads: arguments.threads.min(arguments.devices as usize),
            seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..SEED_END)),
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// The index of a device from its place in this run.
    pub(crate) fn index(&self, place: usize) -> u64 {
        self.index_from + place as u64
    }

    /// The client id of a device.
    pub(crate) fn client_id(&self, place: usize) -> String {
        self.client_id.render_client_id(self.index(place))
    }

    /// A pattern's value for a device.
    pub(crate) fn render(&self, template: &Template, place: usize) -> String {
        let client_id = self.client_id(place);
        template.render(Names {
            index: self.index(place),
            client_id: &client_id,
        })
    }

    /// The places of the devices whose names are the shortest and the longest; what is in between only differs in
    /// digits, so what holds for both holds for all.
    fn extremes(&self) -> [usize; 2] {
        [0, self.devices as usize - 1]
    }

    fn check(&self) -> Result<(), Problem> {
        if self.devices > 1 && !self.client_id.varies() {
            return Err(Problem::usage(format!(
                "--client-id {} is the same for all {} devices, and a broker keeps only one of them: put {{index}} into it",
                self.client_id, self.devices
            )));
        }
        if self.version == Version::V311 && self.password.is_some() && self.username.is_none() {
            // v3.1.1 [MQTT-3.1.2-22]
            return Err(Problem::usage(
                "--password without --username needs --mqtt 5: MQTT 3.1.1 forbids it",
            ));
        }
        for place in self.extremes() {
            self.check_names(place)?;
        }
        Ok(())
    }

    fn check_names(&self, place: usize) -> Result<(), Problem> {
        let client_id = self.client_id(place);
        if client_id.is_empty() {
            return Err(Problem::usage("--client-id is empty: each device needs a name"));
        }
        let username = self
            .username
            .as_ref()
            .map(|username| self.render(username, place))
            .unwrap_or_default();
        let password = self.password.as_deref().unwrap_or_default();
        for (flag, text) in [
            ("--client-id", client_id.as_str()),
            ("--username", &username),
            ("--password", password),
        ] {
            if text.len() > STRING_LEN_MAX {
                let text = format!("{flag} has {} bytes: MQTT allows {STRING_LEN_MAX}", text.len());
                return Err(Problem::usage(text));
            }
        }
        let topic = self.render(&self.topic, place);
        TopicName::new(&topic).map_err(|error| Problem::usage(format!("--topic {topic}: {error}")))?;
        if let Some(filter) = &self.subscribe {
            let filter = self.render(filter, place);
            TopicFilter::new(&filter)
                .map_err(|error| Problem::usage(format!("--subscribe {filter}: {error}")))?;
        }
        if self.identities == IdentitySource::ThrowAway && client_id.chars().count() > COMMON_NAME_CHARS_MAX {
            return Err(Problem::usage(format!(
                "--client-id {client_id}: at most {COMMON_NAME_CHARS_MAX} characters fit into the certificates that \
                 are made for this run; with --broker and certificates of yours it may be longer"
            )));
        }
        if matches!(self.identities, IdentitySource::Directory(_)) && !is_file_name(&client_id) {
            return Err(Problem::usage(format!(
                "--identities: the client id {client_id} cannot be a file name; use --cert and --key with placeholders"
            )));
        }
        Ok(())
    }
}

/// Whether a client id can be the stem of a file's name, inside its directory.
pub(crate) fn is_file_name(client_id: &str) -> bool {
    !client_id.starts_with('.')
        && !client_id.contains(['/', '\\'])
        && !client_id.contains(char::is_control)
        && Path::new(client_id).is_relative()
}

fn target(arguments: &RunArguments) -> Result<Target, Problem> {
    let tls_flags = [
        ("--alpn", !arguments.alpn.is_empty()),
        ("--tls", arguments.tls.is_some()),
        ("--sni", arguments.sni.is_some()),
        ("--ca", arguments.ca.is_some()),
        ("--cert", arguments.cert.is_some()),
        ("--identities", arguments.identities.is_some()),
        ("--insecure", arguments.insecure),
        ("--connect-to", arguments.connect_to.is_some()),
    ];
    let Some(url) = &arguments.broker else {
        // Our own endpoint has its own CA and certificates; only what is offered to it can be chosen.
        if let Some((flag, _)) = tls_flags.iter().skip(2).find(|(_, given)| *given) {
            let text = format!(
                "{flag} needs --broker: without it the endpoint is our own, with its own certificates"
            );
            return Err(Problem::usage(text));
        }
        if let Some(name) = arguments.alpn.iter().find(|name| *name != MUTUAL_TLS_ALPN) {
            let text = format!(
                "--alpn {name} needs --broker: without it the endpoint is our own, where each device has a certificate \
                 and the name is {MUTUAL_TLS_ALPN}. For user name and password start `fleetwire endpoint --user \
                 NAME:PASSWORD`, and use the --broker that it prints"
            );
            return Err(Problem::usage(text));
        }
        return Ok(Target::Child);
    };
    let flags = BrokerFlags {
        alpn: &arguments.alpn,
        sni: arguments.sni.as_deref(),
        connect_to: arguments.connect_to.as_ref(),
        authenticates_by_password: arguments.username.is_some()
            && arguments.cert.is_none()
            && arguments.identities.is_none(),
        tls_only_flag: tls_flags
            .iter()
            .find_map(|(flag, given)| (*given && *flag != "--connect-to").then_some(*flag)),
    };
    Ok(Target::Broker(Broker::parse(url, flags)?))
}

fn identity_source(arguments: &RunArguments, target: &Target) -> Result<IdentitySource, Problem> {
    match (target, &arguments.cert, &arguments.key, &arguments.identities) {
        (Target::Child, ..) => Ok(IdentitySource::ThrowAway),
        (_, Some(cert), Some(key), _) => {
            let cert = parse("--cert", cert, Template::parse)?;
            let key = parse("--key", key, Template::parse)?;
            Ok(IdentitySource::Files { cert, key })
        }
        (_, _, _, Some(directory)) => Ok(IdentitySource::Directory(directory.clone())),
        _ => Ok(IdentitySource::None),
    }
}

fn parse<E: std::fmt::Display>(
    flag: &str,
    text: &str,
    parser: impl Fn(&str) -> Result<Template, E>,
) -> Result<Template, Problem> {
    parser(text).map_err(|error| Problem::usage(format!("{flag} {text}: {error}")))
}

fn optional(flag: &str, text: Option<&str>) -> Result<Option<Template>, Problem> {
    text.map(|text| parse(flag, text, Template::parse)).transpose()
}

/// The longest string that MQTT's two bytes of length allow (v5 section 1.5.4).
const STRING_LEN_MAX: usize = 65_535;
/// A client id stands in a certificate as its common name: RFC 5280 appendix A, ub-common-name.
pub(crate) const COMMON_NAME_CHARS_MAX: usize = 64;
/// A seed that programs which read JSON numbers as doubles do not change: below 2^53.
const SEED_END: u64 = 1 << 53;

#[cfg(test)]
mod tests;
