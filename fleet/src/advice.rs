//! For every cause of a failure, what to do next: the table behind the failure lines.

use crate::text::count;

/// What the advice depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Circumstances {
    /// `host:port` of the broker.
    pub(crate) broker: String,
    pub(crate) host: String,
    pub(crate) alpn: Vec<String>,
    pub(crate) tls: bool,
    /// The devices have certificates.
    pub(crate) identities: bool,
    /// Client id of the device that was hit first.
    pub(crate) client_id: String,
    /// Nobody has connected.
    pub(crate) nobody_connected: bool,
    /// Connections per second that were asked for.
    pub(crate) connect_rate: f64,
    /// What has connected per second during the ramp.
    pub(crate) connected_per_second: f64,
}

/// The next step for a cause, as sentences; `reason` is the CONNACK's or DISCONNECT's code if there was one.
/// Empty for a cause that is not in the table.
pub(crate) fn next_step(slug: &str, reason: Option<u8>, around: &Circumstances) -> String {
    let host = &around.host;
    match slug {
        "dial_refused" => "The device's own values cannot make a CONNECT: check --client-id, --username and --password.".into(),
        "dns_failed" => format!(
            "Is {host} written correctly? AWS: `aws iot describe-endpoint --endpoint-type iot:Data-ATS` prints the name."
        ),
        "tcp_refused" => format!("Is the broker running, and is {} where it listens?", around.broker),
        "tcp_timeout" => format!(
            "A firewall drops it. Try port 443: `--broker 'mqtts://{host}:443?alpn=x-amzn-mqtt-ca'`."
        ),
        "tcp_unreachable" => "Check this machine's network, VPN and routes; for an IPv6 address, whether it has IPv6.".into(),
        "tcp_reset" if around.tls && around.nobody_connected => {
            "Does this port speak TLS? A plain MQTT port resets a TLS hello: try mqtt:// or another port. Otherwise a \
             proxy or firewall in between does it."
                .into()
        }
        "tcp_reset" => "A proxy or firewall in between may do this, or a broker at its limit: lower --connect-rate.".into(),
        "tcp_error" => "The system's own words stand above.".into(),
        "source_ports_exhausted" => {
            "Widen the range by `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or share the fleet among machines.".into()
        }
        "open_files" => "Raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`), or use fewer --devices per process.".into(),
        "tls_timeout" => "The broker is overloaded or does not speak TLS on this port: lower --connect-rate, check the port.".into(),
        "closed_in_handshake" => "It closed without an alert: a wrong port, a front that knows no such SNI, or a broker at its limit.".into(),
        "closed_before_connack" => closed_before_connack(around),
        "connack_timeout" if !around.tls => {
            "The port takes connections and does not answer MQTT: check the port; if it is right, the broker is overloaded."
                .into()
        }
        "connack_timeout" => "TLS works but MQTT does not answer: on port 443 without ALPN the other side may speak HTTP; else it is overloaded.".into(),
        "connack_refused" => connack_refused(reason, around),
        "throttled" => format!(
            "Asked for {:.0} connections per second, {:.0} succeeded: try `--connect-rate {:.0}`. AWS allows 500/s per \
             account, 100/s in small regions.",
            around.connect_rate,
            around.connected_per_second,
            (around.connected_per_second * 0.9).floor().max(1.0)
        ),
        "connection_lost" => "The broker, or something in between, ended it without a word: see the broker's log at that time.".into(),
        "keep_alive_timeout" => "The broker did not answer a PINGREQ: it is overloaded, or the path is gone.".into(),
        "client_id_taken_over" => {
            "Someone else uses this client id: a second generator? Use --index-from or --client-id.".into()
        }
        "disconnected_by_peer" => disconnected_by_peer(reason),
        "not_mqtt" => "Another protocol answers on this port. If it is TLS, write mqtts:// instead of mqtt://; otherwise check the port.".into(),
        "protocol_violation" => "The other side broke a rule of MQTT, or is none: check the port, and report it with --seed.".into(),
        "overloaded" => "A bound on this side was reached: use more --threads, fewer --devices or a longer --period.".into(),
        "closed_by_us" => "The run closed it.".into(),
        "connect_timeout" => "No CONNECT came in time.".into(),
        _ => tls_next_step(slug, around),
    }
}

fn tls_next_step(slug: &str, around: &Circumstances) -> String {
    let offered = around.alpn.join(",");
    match slug {
        "alpn_not_selected" => format!(
            "A plain TLS broker ignores ALPN: drop {offered}. AWS: if the issuer is not Amazon, something in between \
             terminates TLS."
        ),
        "alpn_refused" => format!("The server does not serve {offered}: check the name, or whether it has to be another port."),
        "alpn_missing" => "Offer a name: `--alpn x-amzn-mqtt-ca`, or `mqtt` with user name and password.".into(),
        "server_ca_unknown" => {
            "Own broker: pass the CA that signed its certificate (not the certificate itself) with --ca. Inspection \
             proxy: add its CA. It is not about your device certificate."
                .into()
        }
        "server_cert_expired" => "Renew the broker's certificate, and check this machine's clock.".into(),
        "server_cert_not_yet_valid" => "Check this machine's clock, and the dates of the broker's certificate.".into(),
        "server_name_mismatch" => "Use a name that the certificate carries: in the URL, or by --sni.".into(),
        "server_cert_invalid" => "The broker's certificate is not one for a server: it has to be issued anew.".into(),
        "client_cert_required" if around.identities => {
            "The server did not take the certificate as one: it may want another CA's or another key type.".into()
        }
        "client_cert_required" => "Give each device one: --identities DIR, or --cert and --key.".into(),
        "client_cert_unknown_ca" => {
            "The server does not know the CA that signed this device's certificate: register that CA, or issue the \
             certificate by the server's (`fleetwire certs issue`)."
                .into()
        }
        "client_cert_expired" => "Renew it; `openssl x509 -enddate -noout -in FILE` shows the date. Check the server's clock too.".into(),
        "client_cert_refused" => "The server knows this certificate and does not want it: revoked, inactive, or not for client authentication.".into(),
        "not_tls" => "The other side does not speak TLS on this port: use mqtt:// or another port.".into(),
        "tls_version" => "Drop --tls, or allow on the broker what it asks for.".into(),
        "tls_handshake_failure" => "No common parameters: compare key types, cipher suites and TLS versions of both sides.".into(),
        "tls_alert" => "The alert's name says what the server did not like; its log has more.".into(),
        "tls_truncated" => "The stream was cut: by the broker's end, or by something in between.".into(),
        "tls_bad_record" => "Something in between changes the bytes, or the broker is broken.".into(),
        "tls_protocol" => "The other side breaks the TLS protocol: is it a TLS server at all?".into(),
        "server_name_missing" | "server_name_unknown" => "The client must name a server that is served here (SNI).".into(),
        "tls_keys_exhausted" => "TLS 1.2 has no way to new keys but a new connection, which comes; TLS 1.3 has one.".into(),
        "tls_closed" => "The TLS session was over already.".into(),
        "tls_internal" => "This is a fault of fleetwire: please report it with the command line and --seed.".into(),
        _ => String::new(),
    }
}

fn closed_before_connack(around: &Circumstances) -> String {
    let offer = if around.tls && around.alpn.is_empty() {
        "No ALPN name was offered: try `--alpn x-amzn-mqtt-ca`. Otherwise: "
    } else {
        ""
    };
    format!("{offer}{}", closed_before_connack_with_alpn(around))
}

fn closed_before_connack_with_alpn(around: &Circumstances) -> String {
    if around.nobody_connected && around.identities {
        "None got in: the certificates are not registered or not active, or their CA is unknown to the server.".into()
    } else if around.nobody_connected {
        "None got in: the server may want a client certificate (--identities, --cert and --key) or another ALPN.".into()
    } else {
        format!(
            "Others got in: this device's certificate or policy (AWS: iot:Connect on client/{}), or throttling at {}/s.",
            around.client_id,
            count(around.connect_rate as u64)
        )
    }
}

/// Codes of 5.0 (section 3.2.2.2), and below 0x80 those of 3.1.1 (section 3.2.2.3).
fn connack_refused(reason: Option<u8>, around: &Circumstances) -> String {
    match reason {
        Some(0x01 | 0x84) => {
            "The server does not speak this version: try `--mqtt 3.1.1` or `--mqtt 5`.".into()
        }
        Some(0x02 | 0x85) => {
            "The server does not accept this client id: change its form by --client-id.".into()
        }
        Some(0x04 | 0x86) => "User name or password is wrong: check --username and --password.".into(),
        Some(0x05 | 0x07 | 0x87) if around.identities => format!(
            "The certificate was accepted; its policy does not allow it to connect as this client. AWS: allow \
             iot:Connect on client/{}.",
            around.client_id
        ),
        Some(0x05 | 0x07 | 0x87) => {
            "Not authorized: it may want --username and --password, or a certificate.".into()
        }
        Some(0x03 | 0x88) => "The server is not available: try again later.".into(),
        Some(0x89) => "The server is busy: lower --connect-rate.".into(),
        Some(0x8A) => "This client is banned: see the server's administrator.".into(),
        Some(0x95) => "The CONNECT is too big for the server: shorten user name and password.".into(),
        Some(0x9C | 0x9D) => "The server sends clients elsewhere: use the name that it gives.".into(),
        _ => "The reason code is the server's: see its log.".into(),
    }
}

fn disconnected_by_peer(reason: Option<u8>) -> String {
    match reason {
        Some(0x87) => {
            "A policy forbids what was done: check its publish and subscribe rules for these topics.".into()
        }
        Some(0x8B) => "The server is going down.".into(),
        Some(0x8D) => "The server saw no packet in time: check --keep-alive and this machine's load.".into(),
        Some(0x93 | 0x96 | 0x97) => {
            "More than the server takes: use a longer --period or fewer --devices.".into()
        }
        Some(0x95) => "A packet was too big for the server: lower --payload-size.".into(),
        _ => "The reason code is the server's: see its log.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS_SLUGS: [&str; 24] = [
        "alpn_not_selected",
        "alpn_refused",
        "alpn_missing",
        "server_ca_unknown",
        "server_cert_expired",
        "server_cert_not_yet_valid",
        "server_name_mismatch",
        "server_cert_invalid",
        "client_cert_required",
        "client_cert_unknown_ca",
        "client_cert_expired",
        "client_cert_refused",
        "not_tls",
        "tls_version",
        "tls_handshake_failure",
        "tls_alert",
        "tls_truncated",
        "tls_bad_record",
        "tls_protocol",
        "server_name_missing",
        "server_name_unknown",
        "tls_keys_exhausted",
        "tls_closed",
        "tls_internal",
    ];

    #[test]
    fn every_cause_of_engine_and_tls_has_a_next_step() {
        let around = Circumstances::default();
        let ours = ["dns_failed"].into_iter();
        let engine = fleetwire_engine::Slug::ALL.iter().map(|slug| slug.as_str());
        for slug in ours.chain(engine).chain(TLS_SLUGS) {
            let text = next_step(slug, None, &around);
            assert!(text.ends_with('.') || text.ends_with('?'), "{slug}: {text:?}");
        }
        assert_eq!(next_step("no_such_slug", None, &around), "");
    }

    #[test]
    fn the_next_step_knows_the_circumstances() {
        let mut around = Circumstances {
            identities: true,
            client_id: "d-1".into(),
            ..Circumstances::default()
        };
        assert!(next_step("connack_refused", Some(0x87), &around).contains("client/d-1"));
        assert!(next_step("connack_refused", Some(4), &around).contains("--password"));
        assert!(next_step("closed_before_connack", None, &around).contains("Others got in"));
        around.nobody_connected = true;
        around.tls = true;
        assert!(next_step("closed_before_connack", None, &around).starts_with("No ALPN name was offered"));
        around.alpn = vec!["mqtt".into()];
        assert!(next_step("closed_before_connack", None, &around).starts_with("None got in"));
        around.tls = false;
        assert!(next_step("closed_before_connack", None, &around).contains("None got in"));
        around.identities = false;
        assert!(next_step("client_cert_required", None, &around).contains("--identities"));
        around.connect_rate = 500.0;
        around.connected_per_second = 100.0;
        assert!(next_step("throttled", Some(0x97), &around).contains("`--connect-rate 90`"));
    }
}
