//! Where the broker is: the URL, and the flags that say the same or more.

use std::fmt;

use crate::{problem::Problem, values};

/// How to reach the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    /// The URL's host; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What to dial in place of the host and port.
    pub(crate) connect_to: Option<(String, u16)>,
    /// `None` for plain TCP.
    pub(crate) tls: Option<BrokerTls>,
}

/// What the TLS handshake asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerTls {
    /// Offered in this order.
    pub(crate) alpn: Vec<String>,
    /// Sent as SNI, unless it is an IP address, and verified.
    pub(crate) server_name: String,
    /// The list was not asked for but follows from the host and port.
    pub(crate) alpn_by_aws_rule: bool,
}

/// The flags that speak of the broker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BrokerFlags<'a> {
    pub(crate) alpn: &'a [String],
    pub(crate) sni: Option<&'a str>,
    pub(crate) connect_to: Option<&'a (String, u16)>,
    /// A user name but no certificate is given.
    pub(crate) authenticates_by_password: bool,
    /// The first flag given that has a meaning only under TLS.
    pub(crate) tls_only_flag: Option<&'a str>,
}

impl Broker {
    /// Reads the URL and joins it with the flags.
    pub(crate) fn parse(url: &str, flags: BrokerFlags<'_>) -> Result<Self, Problem> {
        let parsed = Url::parse(url)?;
        let tls = if parsed.tls {
            Some(BrokerTls::join(&parsed, flags)?)
        } else {
            if let Some(flag) = flags.tls_only_flag {
                let text = format!("{flag} needs TLS, but {url} is plain TCP: use mqtts:// or drop the flag");
                return Err(Problem::usage(text));
            }
            None
        };
        Ok(Self {
            host: parsed.host,
            port: parsed.port,
            connect_to: flags.connect_to.cloned(),
            tls,
        })
    }

    /// The host and port to resolve and dial.
    pub(crate) fn dialled(&self) -> (&str, u16) {
        match &self.connect_to {
            Some((host, port)) => (host, *port),
            None => (&self.host, self.port),
        }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "mqtts://" } else { "mqtt://" })?;
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl BrokerTls {
    fn join(url: &Url, flags: BrokerFlags<'_>) -> Result<Self, Problem> {
        let flagged = (!flags.alpn.is_empty()).then(|| flags.alpn.to_vec());
        let alpn = agree("--alpn", flagged, "alpn", url.alpn.clone(), |names| {
            names.join(",")
        })?;
        let sni = agree(
            "--sni",
            flags.sni.map(str::to_owned),
            "sni",
            url.sni.clone(),
            Clone::clone,
        )?;
        for name in alpn.iter().flatten() {
            // RFC 7301 section 3.1: 1 to 255 bytes each.
            if name.is_empty() || name.len() > 255 {
                let text = "an ALPN name has 1 to 255 bytes: write for example --alpn x-amzn-mqtt-ca,mqtt";
                return Err(Problem::usage(text));
            }
        }
        let by_aws_rule = alpn.is_none() && url.port == 443 && is_aws_iot(&url.host);
        let alpn = match alpn {
            Some(names) => names,
            // What AWS's own builders offer on port 443: with a user name in place of a certificate, `mqtt`.
            None if by_aws_rule && flags.authenticates_by_password => vec!["mqtt".to_owned()],
            None if by_aws_rule => vec![MUTUAL_TLS_ALPN.to_owned()],
            None => Vec::new(),
        };
        let server_name = sni.unwrap_or_else(|| url.host.clone());
        Ok(Self {
            alpn,
            server_name,
            alpn_by_aws_rule: by_aws_rule,
        })
    }
}

/// The ALPN name by which AWS IoT Core, and our endpoint, ask for a client certificate.
pub(crate) const MUTUAL_TLS_ALPN: &str = "x-amzn-mqtt-ca";

/// The value of a flag and of the URL's query, which may not say different things.
fn agree<T: PartialEq>(
    flag: &str,
    flagged: Option<T>,
    key: &str,
    queried: Option<T>,
    show: impl Fn(&T) -> String,
) -> Result<Option<T>, Problem> {
    match (flagged, queried) {
        (Some(flagged), Some(queried)) if flagged != queried => Err(Problem::usage(format!(
            "{flag} {} and the URL's {key}={} disagree: keep one of them",
            show(&flagged),
            show(&queried)
        ))),
        (flagged, queried) => Ok(flagged.or(queried)),
    }
}

/// `*.iot.*.amazonaws.com` and `*.iot.*.amazonaws.com.cn`.
fn is_aws_iot(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let Some(front) = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    else {
        return false;
    };
    front
        .split_once(".iot.")
        .is_some_and(|(before, region)| !before.is_empty() && !region.is_empty())
}

/// The URL by itself.
struct Url {
    tls: bool,
    host: String,
    port: u16,
    alpn: Option<Vec<String>>,
    sni: Option<String>,
}

impl Url {
    fn parse(url: &str) -> Result<Self, Problem> {
        let wrong = |what: &str| Problem::usage(format!("--broker {url}: {what}"));
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("no scheme: write mqtt://HOST or mqtts://HOST"));
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => false,
            "mqtts" => true,
            "tcp" => return Err(wrong("the scheme for MQTT over TCP is mqtt://")),
            "ssl" | "tls" => return Err(wrong("the scheme for MQTT over TLS is mqtts://")),
            "ws" | "wss" => {
                return Err(wrong(
                    "MQTT over WebSocket is not there yet: use mqtt:// or mqtts://",
                ));
            }
            _ => return Err(wrong("unknown scheme: use mqtt:// or mqtts://")),
        };
        if rest.contains('#') {
            return Err(wrong("a fragment (#) has no meaning here"));
        }
        let (place, query) = rest
            .split_once('?')
            .map_or((rest, None), |(place, query)| (place, Some(query)));
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('@') {
            return Err(wrong("give user and password by --username and --password"));
        }
        if place.contains('/') {
            return Err(wrong("a path has no meaning here: write only HOST[:PORT]"));
        }
        let (host, port) = split_port(place);
        let host = values::host_of(host).ok_or_else(|| {
            wrong("the host is not understood: write a name, an IPv4 address, or an IPv6 address in brackets")
        })?;
        let port = match port {
            None => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Some(port) => port
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| wrong("the port has to be between 1 and 65535"))?,
        };
        let mut parsed = Self {
            tls,
            host,
            port,
            alpn: None,
            sni: None,
        };
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            parsed.take_query(pair).map_err(|what| wrong(&what))?;
        }
        Ok(parsed)
    }

    fn take_query(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !self.tls {
            return Err(format!("`{key}` needs TLS: use mqtts://"));
        }
        let twice = match key {
            "alpn" => self
                .alpn
                .replace(value.split(',').map(str::to_owned).collect())
                .is_some(),
            "sni" if value.is_empty() => return Err("`sni` needs a name: sni=HOST".to_owned()),
            "sni" => self.sni.replace(value.to_owned()).is_some(),
            _ => return Err(format!("unknown query `{key}`: only alpn and sni are known")),
        };
        if twice {
            Err(format!("`{key}` stands there twice"))
        } else {
            Ok(())
        }
    }
}

/// `[::1]:8883` and `host:8883`, each with and without a port.
fn split_port(place: &str) -> (&str, Option<&str>) {
    let after_host = place.rfind(']').map_or(0, |bracket| bracket + 1);
    match place[after_host..].rfind(':') {
        Some(colon) => (
            &place[..after_host + colon],
            Some(&place[after_host + colon + 1..]),
        ),
        None => (place, None),
    }
}

#[cfg(test)]
mod tests;
