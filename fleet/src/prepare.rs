//! Everything before the first dial: identities, trust, addresses, limits, and the endpoint if it is our own.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use fleetwire_endpoint::pki::Pki;
use fleetwire_engine::{Plan, Way};
use fleetwire_tls::{ClientConfig, ClientConfigBuilder, Roots, ServerName, Versions};
use tempfile::TempDir;

use crate::advice::{self, Circumstances};
use crate::arguments::TlsVersion;
use crate::broker::{Broker, BrokerTls, MUTUAL_TLS_ALPN};
use crate::child::Child;
use crate::identities::Identities;
use crate::preflight::{self, Preflight};
use crate::problem::Problem;
use crate::scenario::{IdentitySource, Scenario, Target, Trust};
use crate::signals::Interrupts;

/// A run that is ready to dial.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) identities: Identities,
    pub(crate) endpoint: Option<Child>,
    pub(crate) preflight: Preflight,
    /// Where the fleet connects to, in words.
    pub(crate) broker: String,
    /// What a failure's advice depends on, as far as it is known now.
    pub(crate) circumstances: Circumstances,
}

/// Prepares the run against the broker of the command line, or against an endpoint that is started here.
pub(crate) fn prepare(scenario: &Scenario, interrupts: &Interrupts) -> Result<Prepared, Problem> {
    match &scenario.target {
        Target::Child => with_own_endpoint(scenario, interrupts),
        Target::Broker(broker) => with_broker(scenario, broker, interrupts),
    }
}

fn with_own_endpoint(scenario: &Scenario, interrupts: &Interrupts) -> Result<Prepared, Problem> {
    let preflight = preflight::check(scenario.devices, scenario.threads, 1)?;
    let refused = |text: String| Problem::refused("endpoint_start", text);
    let directory = temporary_directory()?;
    interrupts.remove_if_forced(Some(directory.path().to_owned()));
    let pki =
        Pki::load_or_create::<&str>(directory.path(), []).map_err(|error| refused(format!("{error}.")))?;
    let identities = Identities::issue(scenario, &pki, interrupts)?;
    let roots = Roots::from_pem(pki.ca_pem().as_bytes()).map_err(config_problem)?;
    let alpn = vec![MUTUAL_TLS_ALPN.to_owned()];
    let config = client_config(scenario, &alpn, Some(roots))?;
    let child = Child::start(directory.path(), scenario.qos, interrupts)?;
    // The endpoint has read what it needs: nothing of it outlives a run that is killed.
    drop(directory);
    interrupts.remove_if_forced(None);
    let address = child.address();
    let name = ServerName::parse(OWN_ENDPOINT_NAME).map_err(config_problem)?;
    let mut way = Way::tls(&address.ip().to_string(), address.port(), config, name);
    resolve(&mut way, "127.0.0.1", "the own endpoint")?;
    Ok(Prepared {
        plan: plan(scenario, way),
        identities,
        endpoint: Some(child),
        preflight,
        broker: format!("own endpoint (child process) at {address}, ALPN {MUTUAL_TLS_ALPN}"),
        circumstances: Circumstances {
            broker: address.to_string(),
            host: address.ip().to_string(),
            alpn,
            tls: true,
            identities: true,
            connect_rate: scenario.connect_rate,
            ..Circumstances::default()
        },
    })
}

fn with_broker(scenario: &Scenario, broker: &Broker, interrupts: &Interrupts) -> Result<Prepared, Problem> {
    let identities = Identities::load(scenario, interrupts)?;
    let mut way = match &broker.tls {
        None => Way::tcp(&broker.host, broker.port),
        Some(tls) => {
            let roots = match &scenario.trust {
                Trust::System => Some(Roots::system().map_err(config_problem)?),
                Trust::File(file) => Some(Roots::from_file(file).map_err(config_problem)?),
                Trust::Anybody => None,
            };
            let config = client_config(scenario, &tls.alpn, roots)?;
            Way::tls(&broker.host, broker.port, config, server_name(broker, tls)?)
        }
    };
    let (host, port) = broker.dialled();
    if broker.connect_to.is_some() {
        way = way.connect_to(host, port);
    }
    let origin = match &broker.connect_to {
        Some(_) => "--connect-to",
        None => "--broker",
    };
    resolve(&mut way, host, origin)?;
    let addresses = way.addresses().to_vec();
    let preflight = preflight::check(scenario.devices, scenario.threads, addresses.len())?;
    Ok(Prepared {
        plan: plan(scenario, way),
        identities,
        endpoint: None,
        preflight,
        broker: format!(
            "{broker} ({}){}",
            list(&addresses),
            broker.tls.as_ref().map(offer).unwrap_or_default()
        ),
        circumstances: Circumstances {
            broker: format!("{host}:{port}"),
            host: host.to_owned(),
            alpn: broker
                .tls
                .as_ref()
                .map(|tls| tls.alpn.clone())
                .unwrap_or_default(),
            tls: broker.tls.is_some(),
            identities: scenario.identities != IdentitySource::None,
            connect_rate: scenario.connect_rate,
            ..Circumstances::default()
        },
    })
}

/// For a CA and its keys, so nobody else may look into it.
pub(crate) fn temporary_directory() -> Result<TempDir, Problem> {
    tempfile::Builder::new()
        .prefix("fleetwire-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| {
            let text = format!(
                "no temporary directory can be made: {error}. Set TMPDIR to a directory that you can write to."
            );
            Problem::refused("endpoint_start", text)
        })
}

/// What is worth saying before anything happens.
pub(crate) fn notes(scenario: &Scenario) -> Vec<String> {
    let mut notes = Vec::new();
    if let Target::Broker(Broker {
        host,
        port,
        tls: Some(tls),
        ..
    }) = &scenario.target
    {
        if tls.alpn_by_aws_rule {
            notes.push(format!(
                "note: {host} on port {port} is AWS IoT Core: offering ALPN {} (--alpn chooses another)",
                tls.alpn.join(",")
            ));
        }
        if scenario.trust == Trust::Anybody {
            notes.push("warning: --insecure: the broker's certificate is not verified".to_owned());
        }
    }
    notes
}

/// The addresses of a way, in the order in which they are tried.
pub(crate) fn list(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn offer(tls: &BrokerTls) -> String {
    let alpn = if tls.alpn.is_empty() {
        "none".to_owned()
    } else {
        tls.alpn.join(",")
    };
    format!(", name {}, ALPN {alpn}", tls.server_name)
}

fn plan(scenario: &Scenario, way: Way) -> Plan {
    Plan::new(way)
        .connect_timeout(scenario.connect_timeout)
        .reconnect(scenario.reconnect)
}

fn resolve(way: &mut Way, host: &str, origin: &str) -> Result<(), Problem> {
    way.resolve().map_err(|error| {
        let around = Circumstances {
            host: host.to_owned(),
            ..Circumstances::default()
        };
        Problem::refused(
            "dns_failed",
            format!(
                "{origin}: {error}. {}",
                advice::next_step("dns_failed", None, &around)
            ),
        )
    })
}

fn client_config(
    scenario: &Scenario,
    alpn: &[String],
    roots: Option<Roots>,
) -> Result<ClientConfig, Problem> {
    let builder = ClientConfigBuilder::new()
        .alpn(alpn.iter().map(|name| name.as_bytes().to_vec()).collect())
        .versions(match scenario.tls_version {
            None => Versions::Both,
            Some(TlsVersion::V1_2) => Versions::Tls12,
            Some(TlsVersion::V1_3) => Versions::Tls13,
        });
    let builder = match roots {
        Some(roots) => builder.roots(roots),
        None => builder.dangerous_no_server_verification(),
    };
    builder.build().map_err(config_problem)
}

fn server_name(broker: &Broker, tls: &BrokerTls) -> Result<ServerName, Problem> {
    let origin = if tls.server_name == broker.host {
        "the host of --broker"
    } else {
        "--sni"
    };
    ServerName::parse(&tls.server_name).map_err(|error| Problem::usage(format!("{origin}: {error}")))
}

fn config_problem(error: fleetwire_tls::ConfigError) -> Problem {
    Problem::refused("tls_config", format!("{error}."))
}

/// In the endpoint's certificate, and what a broker on this machine is called.
const OWN_ENDPOINT_NAME: &str = "localhost";
