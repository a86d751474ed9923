//! The command line: every flag with its default and its one sentence of help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::values;

/// Simulate fleets of MQTT devices: one identity each, mutual TLS, one port.
#[derive(Parser, Debug)]
#[command(name = "fleetwire", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Connect a fleet of devices, publish telemetry, and say what happened.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArguments>),
    /// Serve a local MQTT endpoint that behaves like AWS IoT Core's port 443, until Ctrl-C.
    #[command(after_help = ENDPOINT_EXAMPLES)]
    Endpoint(EndpointArguments),
    /// Make device certificates.
    #[command(subcommand)]
    Certs(CertsCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum CertsCommand {
    /// Issue one certificate and key per device, as CLIENT_ID.crt and CLIENT_ID.key in PEM.
    #[command(after_help = CERTS_EXAMPLES)]
    Issue(CertsIssueArguments),
}

#[derive(Args, Debug, Clone)]
pub(crate) struct RunArguments {
    /// Broker to connect to: `mqtt://HOST[:1883]` or `mqtts://HOST[:8883][?alpn=NAME,NAME&sni=NAME]`; without it an
    /// endpoint of our own is started.
    #[arg(long, value_name = "URL", help_heading = BROKER)]
    pub(crate) broker: Option<String>,
    /// ALPN protocol names to offer, in order of preference; the broker has to select one of them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', help_heading = BROKER)]
    pub(crate) alpn: Vec<String>,
    /// Server name to send as SNI and to verify the broker's certificate against [default: the URL's host].
    #[arg(long, value_name = "NAME", help_heading = BROKER)]
    pub(crate) sni: Option<String>,
    /// Dial this address instead of the URL's; SNI and verification stay those of the URL.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::host_port, help_heading = BROKER)]
    pub(crate) connect_to: Option<(String, u16)>,
    /// MQTT version to speak.
    #[arg(long, value_enum, value_name = "VERSION", default_value = "5", hide_possible_values = true, help_heading = BROKER, help = "MQTT version to speak: 5 or 3.1.1")]
    pub(crate) mqtt: MqttVersion,

    /// Number of devices.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = values::devices, allow_negative_numbers = true, help_heading = FLEET)]
    pub(crate) devices: u32,
    /// Index of the first device, so that several processes can share one fleet.
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::index_from, allow_negative_numbers = true, help_heading = FLEET)]
    pub(crate) index_from: u64,
    /// Client id of each device; {index} is its number.
    #[arg(long, value_name = "PATTERN", default_value = "device-{index}", help_heading = FLEET)]
    pub(crate) client_id: String,
    /// User name; may hold {client_id} and {index}.
    #[arg(long, value_name = "NAME", help_heading = FLEET)]
    pub(crate) username: Option<String>,
    /// Password, the same for all devices.
    #[arg(long, value_name = "PASSWORD", help_heading = FLEET)]
    pub(crate) password: Option<String>,
    /// Keep-alive in whole seconds, 0s for none.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::keep_alive, help_heading = FLEET)]
    pub(crate) keep_alive: u16,

    /// File with the CA certificates (PEM) that may have signed the broker's [default: the system's roots].
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) ca: Option<PathBuf>,
    /// Device certificate chain (PEM); the path may hold {client_id} and {index}.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    pub(crate) cert: Option<String>,
    /// Private key (PEM) of --cert; the path may hold {client_id} and {index}.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    pub(crate) key: Option<String>,
    /// Directory with CLIENT_ID.crt and CLIENT_ID.key for every device, as `fleetwire certs issue` writes them.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cert", "key"], help_heading = TLS)]
    pub(crate) identities: Option<PathBuf>,
    /// Do not verify the broker's certificate: anybody in between can read and change everything.
    #[arg(long, conflicts_with = "ca", help_heading = TLS)]
    pub(crate) insecure: bool,
    /// Allow only this TLS version, 1.2 or 1.3 [default: both, 1.3 preferred].
    #[arg(long, value_enum, value_name = "VERSION", hide_possible_values = true, help_heading = TLS)]
    pub(crate) tls: Option<TlsVersion>,

    /// New connections per second, of the whole fleet.
    #[arg(long, value_name = "PER_SECOND", default_value = "500", value_parser = values::rate, allow_negative_numbers = true, help_heading = CONNECTING)]
    pub(crate) connect_rate: f64,
    /// Time for one attempt to connect, from the dial to the CONNACK.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::time_above_zero, help_heading = CONNECTING)]
    pub(crate) connect_timeout: Duration,
    /// Whether a device connects again after a failure, 1 s to 120 s later: on or off.
    #[arg(long, value_enum, value_name = "SWITCH", default_value = "on", hide_possible_values = true, help_heading = CONNECTING)]
    pub(crate) reconnect: Switch,

    /// Time between two publishes of a device, or `off`.
    #[arg(long, value_name = "TIME|off", default_value = "1s", value_parser = values::period, help_heading = TRAFFIC)]
    pub(crate) period: Period,
    /// Payload of each publish, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = values::payload_size, allow_negative_numbers = true, help_heading = TRAFFIC)]
    pub(crate) payload_size: usize,
    /// Quality of service of publishes and subscriptions: 0, 1 or 2.
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = values::qos, allow_negative_numbers = true, help_heading = TRAFFIC)]
    pub(crate) qos: u8,
    /// Topic of each device; may hold {client_id} and {index}.
    #[arg(long, value_name = "PATTERN", default_value = "fleet/{client_id}/telemetry", help_heading = TRAFFIC)]
    pub(crate) topic: String,
    /// Topic filter that each device subscribes to once connected; may hold {client_id} and {index}.
    #[arg(long, value_name = "FILTER", help_heading = TRAFFIC)]
    pub(crate) subscribe: Option<String>,
    /// Age at which an unacknowledged publish is reported as late.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::time_above_zero, help_heading = TRAFFIC)]
    pub(crate) ack_timeout: Duration,

    /// Time to keep the fleet up once every device's first attempt to connect is decided.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::time, help_heading = RUN)]
    pub(crate) duration: Duration,
    /// Time to wait for the last acknowledgements after publishing has stopped.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time, help_heading = RUN)]
    pub(crate) drain: Duration,
    /// Threads that drive the devices; one is enough for 10,000 devices at one message a second [default: 1].
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, value_parser = values::threads, allow_negative_numbers = true, help_heading = RUN)]
    pub(crate) threads: usize,
    /// Seed of everything random (publishing phases, payloads, backoff) [default: random, printed].
    #[arg(long, value_name = "N", value_parser = values::seed, allow_negative_numbers = true, help_heading = RUN)]
    pub(crate) seed: Option<u64>,
    /// Check everything, print the plan, and connect to nobody.
    #[arg(long, conflicts_with = "json", help_heading = RUN)]
    pub(crate) dry_run: bool,
    /// Write the result as one JSON object to FILE, or to stdout (`-`) in place of the summary.
    #[arg(long, value_name = "FILE|-", help_heading = RUN)]
    pub(crate) json: Option<String>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct EndpointArguments {
    /// Address of the TLS listener; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8883", value_parser = values::listen)]
    pub(crate) listen: SocketAddr,
    /// Address of an additional listener for plain TCP, without any authentication.
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen)]
    pub(crate) plain: Option<SocketAddr>,
    /// Directory that keeps the CA and the server certificate (ca.crt, ca.key, server.crt, server.key) from run to
    /// run [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Further name or IP address for the server certificate, besides localhost, 127.0.0.1 and ::1 (repeatable).
    #[arg(long = "server-name", value_name = "NAME")]
    pub(crate) server_names: Vec<String>,
    /// Server name (SNI) with a certificate of its own, as PEM or DER files; `*.NAME` is each name of one label more
    /// (repeatable).
    #[arg(long = "domain", num_args = 3, value_names = ["NAME", "CERT", "KEY"])]
    pub(crate) domains: Vec<String>,
    /// User that may connect with ALPN `mqtt` (repeatable); without any, that way in is closed.
    #[arg(long = "user", value_name = "NAME:PASSWORD", value_parser = values::user)]
    pub(crate) users: Vec<(String, String)>,
    /// Highest quality of service: 0, 1 or 2; AWS IoT Core's is 1.
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = values::qos, allow_negative_numbers = true)]
    pub(crate) max_qos: u8,
    /// Speak with the `fleetwire run` that started this process.
    #[arg(long, hide = true, requires = "state")]
    pub(crate) child: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct CertsIssueArguments {
    /// Directory with the CA (ca.crt, ca.key), made if it is missing; the same as of `fleetwire endpoint --state`.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Number of identities.
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::devices, allow_negative_numbers = true)]
    pub(crate) count: u32,
    /// Index of the first device.
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::index_from, allow_negative_numbers = true)]
    pub(crate) index_from: u64,
    /// Client id of each device, which is the certificate's common name and the files' name; {index} is its number.
    #[arg(long, value_name = "PATTERN", default_value = "device-{index}")]
    pub(crate) client_id: String,
    /// Kind of key: p256 or rsa2048.
    #[arg(
        long,
        value_enum,
        value_name = "TYPE",
        default_value = "p256",
        hide_possible_values = true
    )]
    pub(crate) key_type: KeyType,
    /// Last day or moment of validity, as 2027-01-31 or 2027-01-31T12:00:00Z [default: in 1 year].
    #[arg(long, value_name = "DATE")]
    pub(crate) not_after: Option<String>,
    /// Directory to write to, made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Replace files that are there already.
    #[arg(long)]
    pub(crate) force: bool,
}

/// `--mqtt`
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MqttVersion {
    #[value(name = "5", alias = "5.0")]
    V5,
    #[value(name = "3.1.1")]
    V3_1_1,
}

/// `--tls`
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TlsVersion {
    #[value(name = "1.2")]
    V1_2,
    #[value(name = "1.3")]
    V1_3,
}

/// `--reconnect`
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    On,
    Off,
}

/// `--key-type`
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyType {
    P256,
    Rsa2048,
}

/// `--period`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Period {
    /// Devices connect and publish nothing.
    Off,
    /// One publish in each period.
    Every(Duration),
}

const BROKER: &str = "Broker";
const FLEET: &str = "Devices";
const TLS: &str = "TLS and identities";
const CONNECTING: &str = "Connecting";
const TRAFFIC: &str = "Traffic";
const RUN: &str = "Run and report";

const EXIT_CODES: &str = "\
Exit codes:
  0    done: for `run`, all devices connected and nothing was lost
  1    a device did not connect, a publish was lost, or the command failed
  2    the command line is wrong
  3    refused to start: open files, ports, identities or a name, with the arithmetic shown
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP";

const RUN_EXAMPLES: &str = "\
Without --broker an endpoint is started as a child process on a free loopback
port, and each device gets a throw-away certificate of its own: nothing has to
be installed or configured. Times are written as 500ms, 10s or 1m30s.

Examples:
  1,000 devices over mutual TLS to an endpoint of our own:
    fleetwire run
  50 devices to AWS IoT Core through port 443, with ALPN x-amzn-mqtt-ca:
    fleetwire run --devices 50 --identities certs \\
      --broker mqtts://HOST-ats.iot.eu-west-1.amazonaws.com:443
  100 devices over plain TCP, 1,000 messages a second:
    fleetwire run --broker mqtt://127.0.0.1 --devices 100 --period 100ms --qos 0
  Check addresses, identities and limits, and print the plan:
    fleetwire run --broker 'mqtts://localhost?alpn=x-amzn-mqtt-ca' \\
      --ca state/ca.crt --identities certs --dry-run

Exit codes: 0 all connected and nothing lost, 1 otherwise, 2 usage,
3 refused to start, 130 interrupted.";

const ENDPOINT_EXAMPLES: &str = "\
ALPN decides the authentication: x-amzn-mqtt-ca asks for a client certificate of
this endpoint's CA, mqtt for a user name and password. Without --state the CA
lives in a temporary directory.

Examples:
  fleetwire endpoint --state state --server-name broker.example
  fleetwire endpoint --listen 127.0.0.1:0 --plain 127.0.0.1:1883 --user ann:secret";

const CERTS_EXAMPLES: &str = "\
Examples:
  fleetwire certs issue --state state --out certs --count 1000
  fleetwire certs issue --state state --out certs --index-from 1000 \\
    --not-after 2027-01-31";

#[cfg(test)]
mod tests;
