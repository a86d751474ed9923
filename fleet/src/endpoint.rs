//! `fleetwire endpoint`, for people and as the child process of `fleetwire run`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use fleetwire_endpoint::pki::{Pki, PkiError};
use fleetwire_endpoint::{Counts, Endpoint, EndpointBuilder, EndpointError};
use fleetwire_tls::Identity;
use signal_hook::flag;

use crate::arguments::EndpointArguments;
use crate::broker::MUTUAL_TLS_ALPN;
use crate::child::{self, EndpointCounts, Line};
use crate::preflight;
use crate::prepare::temporary_directory;
use crate::problem::{Exit, Problem};
use crate::report::quoted;
use crate::signals::{ENDING, Interrupts};
use crate::values;

/// Carries out the command.
pub(crate) fn run(arguments: &EndpointArguments) -> Result<Exit, Problem> {
    // As many clients as the system allows; fewer descriptors are no reason not to serve.
    if let Err(error) = preflight::raise_open_files(u64::MAX) {
        crate::tell(format_args!(
            "warning: the limit of open files cannot be raised: {error}"
        ));
    }
    match &arguments.state {
        Some(state) if arguments.child => serve_parent(arguments, state),
        Some(state) => serve(arguments, state, &catch()?),
        None => {
            let interrupts = catch()?;
            let directory = temporary_directory()?;
            interrupts.remove_if_forced(Some(directory.path().to_owned()));
            serve(arguments, directory.path(), &interrupts)
        }
    }
}

/// Until Ctrl-C.
fn serve(arguments: &EndpointArguments, state: &Path, interrupts: &Interrupts) -> Result<Exit, Problem> {
    let endpoint = start(arguments, state)?;
    let listening = Listening {
        tls: endpoint.addr(),
        plain: endpoint.plain_addr(),
        state,
        domains: &arguments.domains,
        users: &arguments.users,
    };
    crate::print_text(&listening.text())?;
    while !interrupts.asked() {
        thread::sleep(LOOK_EVERY);
    }
    let drain = if interrupts.asked_twice() {
        Duration::ZERO
    } else {
        DRAIN_MAX
    };
    let counts = endpoint.shutdown(drain);
    crate::print_line(&format!("ended: {}", EndpointCounts::from(&counts)))?;
    match counts.failure {
        None => Ok(Exit::Done),
        Some(text) => Err(Problem::failed(format!("the endpoint {text}."))),
    }
}

/// Until the run that started this process closes our stdin.
fn serve_parent(arguments: &EndpointArguments, state: &Path) -> Result<Exit, Problem> {
    // The run still needs us when a terminal or a service manager signals every process; it says when to end.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        flag::register(signal, Arc::clone(&ignored))
            .map_err(|error| Problem::failed(format!("signals cannot be caught: {error}.")))?;
    }
    let endpoint = start(arguments, state)?;
    let told = |error| {
        Problem::failed(format!(
            "the run that started this endpoint cannot be told: {error}."
        ))
    };
    Line::Listening(endpoint.addr()).print().map_err(told)?;
    child::wait_for_parent();
    let counts = endpoint.shutdown(Duration::ZERO);
    match Line::Counted(EndpointCounts::from(&counts)).print() {
        // The run was killed: nobody wants to know.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(told)?,
    }
    match counts.failure {
        None => Ok(Exit::Done),
        Some(text) => Err(Problem::failed(format!("the endpoint {text}."))),
    }
}

fn start(arguments: &EndpointArguments, state: &Path) -> Result<Endpoint, Problem> {
    let refused = |text: String| Problem::refused("endpoint_start", format!("{text}."));
    let mut names = arguments.server_names.clone();
    if !arguments.listen.ip().is_unspecified() {
        names.push(arguments.listen.ip().to_string());
    }
    let pki = Pki::load_or_create(state, &names).map_err(|error| match error {
        PkiError::ServerName { .. } => Problem::usage(format!("--server-name: {error}")),
        error => refused(error.to_string()),
    })?;
    let mut builder: EndpointBuilder = Endpoint::builder()
        .listen(arguments.listen)
        .pki(pki)
        .qos_max(values::quality(arguments.max_qos));
    if let Some(plain) = arguments.plain {
        builder = builder.plain(plain);
    }
    for (name, cert, key) in domains(&arguments.domains) {
        let identity = Identity::from_files(cert.as_ref(), key.as_ref());
        builder = builder.domain(
            &[name],
            identity.map_err(|error| refused(format!("--domain {name}: {error}")))?,
        );
    }
    for (name, password) in &arguments.users {
        builder = builder.user(name, password.as_bytes());
    }
    builder.start().map_err(|error| match error {
        EndpointError::Tls(error) => Problem::usage(format!("--domain: {error}")),
        EndpointError::UserName { .. } => Problem::usage(format!("--user: {error}")),
        EndpointError::Listen {
            error: ref system, ..
        } => refused(match system.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{error}; is another endpoint running? Port 0 takes a free one")
            }
            io::ErrorKind::AddrNotAvailable => format!("{error}; this machine has no such address"),
            _ => error.to_string(),
        }),
        error => refused(error.to_string()),
    })
}

/// Name, certificate and key of each `--domain`.
fn domains(values: &[String]) -> impl Iterator<Item = (&str, &str, &str)> {
    values.chunks_exact(3).filter_map(|domain| match domain {
        [name, cert, key] => Some((name.as_str(), cert.as_str(), key.as_str())),
        _ => None,
    })
}

fn catch() -> Result<Interrupts, Problem> {
    Interrupts::catch().map_err(|error| {
        let text = format!("signals cannot be caught: {error}.");
        if preflight::is_out_of_descriptors(&error) {
            Problem::refused(
                "open_files",
                format!("{text} Raise the hard limit: `ulimit -Hn`."),
            )
        } else {
            Problem::failed(text)
        }
    })
}

/// What to say once the endpoint listens.
struct Listening<'a> {
    tls: SocketAddr,
    plain: Option<SocketAddr>,
    state: &'a Path,
    domains: &'a [String],
    users: &'a [(String, String)],
}

impl Listening<'_> {
    fn text(&self) -> String {
        let by_password = match self.users {
            [] => "closed without --user",
            _ => "user name and password",
        };
        let mut text = format!(
            "listening on {} with TLS: ALPN {MUTUAL_TLS_ALPN} (client certificate), mqtt ({by_password})\n",
            self.tls
        );
        for (name, cert, _) in domains(self.domains) {
            text += &format!("  to clients that ask for {name} (SNI) with the certificate in {cert}\n");
        }
        if let Some(plain) = self.plain {
            text += &format!("listening on {plain} without TLS\n");
        }
        let path = |name: &str| quoted(self.state.join(name).display().to_string());
        let (state, ca, devices) = (
            quoted(self.state.display().to_string()),
            path("ca.crt"),
            path("devices"),
        );
        let tls = reachable(self.tls);
        text += &format!(
            "\nTo connect a fleet, each device with its own certificate:\n  \
             fleetwire certs issue --state {state} --count 1000 --out {devices}\n  \
             fleetwire run --broker 'mqtts://{tls}?alpn={MUTUAL_TLS_ALPN}' --ca {ca} --identities {devices}\n"
        );
        let credentials = self.users.first().map(|(name, password)| {
            format!(
                " --username {} --password {}",
                quoted(name.clone()),
                quoted(password.clone())
            )
        });
        if let Some(credentials) = &credentials {
            text += &format!(
                "With user name and password:\n  fleetwire run --broker 'mqtts://{tls}?alpn=mqtt' --ca {ca}{credentials}\n"
            );
        }
        if let Some(plain) = self.plain {
            let credentials = credentials.unwrap_or_default();
            text += &format!(
                "Without TLS:\n  fleetwire run --broker mqtt://{}{credentials}\n",
                reachable(plain)
            );
        }
        text
    }
}

/// The address by which this machine reaches a listener.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

impl From<&Counts> for EndpointCounts {
    fn from(counts: &Counts) -> Self {
        Self {
            client_certificates: counts.client_certificates,
            connections: counts.broker.connects,
            refused: counts.refused + counts.tls_failures.values().sum::<u64>(),
            publishes: counts.broker.published_in,
            deliveries: counts.broker.delivered_out,
            dropped: counts.broker.dropped(),
        }
    }
}

/// How soon Ctrl-C is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For acknowledgements of messages that are on their way to subscribers.
const DRAIN_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_can_be_pasted() {
        let users = [("ann".to_owned(), "it's".to_owned())];
        let listening = |users, plain: Option<&str>| {
            Listening {
                tls: "0.0.0.0:8883".parse().unwrap(),
                plain: plain.map(|plain| plain.parse().unwrap()),
                state: Path::new("my state"),
                domains: &["iot.example", "a.crt", "a.key"].map(str::to_owned),
                users,
            }
            .text()
        };
        let text = listening(&users[..], Some("[::1]:1883"));
        for line in [
            "listening on 0.0.0.0:8883 with TLS: ALPN x-amzn-mqtt-ca (client certificate), mqtt (user name and password)",
            "  to clients that ask for iot.example (SNI) with the certificate in a.crt",
            "listening on [::1]:1883 without TLS",
            "  fleetwire certs issue --state 'my state' --count 1000 --out 'my state/devices'",
            "  fleetwire run --broker 'mqtts://127.0.0.1:8883?alpn=x-amzn-mqtt-ca' --ca 'my state/ca.crt' --identities \
             'my state/devices'",
            r"  fleetwire run --broker 'mqtts://127.0.0.1:8883?alpn=mqtt' --ca 'my state/ca.crt' --username ann --password 'it'\''s'",
            r"  fleetwire run --broker mqtt://[::1]:1883 --username ann --password 'it'\''s'",
        ] {
            assert!(
                text.lines().any(|printed| printed == line),
                "no {line:?} in\n{text}"
            );
        }
        let without = listening(&[], None);
        assert!(
            without.contains("mqtt (closed without --user)") && !without.contains("alpn=mqtt"),
            "{without}"
        );
    }
}
