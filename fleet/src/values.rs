//! Parsers of single flag values; each error is a sentence that says what to write instead.

use std::net::SocketAddr;
use std::time::Duration;

use fleetwire_codec::QoS;

use crate::arguments::Period;

/// A time such as `10s`, zero included.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| NEEDS_TIME.to_owned())?;
    if time > TIME_MAX {
        Err("at most 366 days".to_owned())
    } else {
        Ok(time)
    }
}

/// A time such as `10s`, zero excluded.
pub(crate) fn time_above_zero(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("has to be longer than 0 s".to_owned()),
        time => Ok(time),
    }
}

/// A keep-alive: whole seconds that fit its two bytes (v5 section 3.1.2.10).
pub(crate) fn keep_alive(text: &str) -> Result<u16, String> {
    let time = time(text)?;
    match u16::try_from(time.as_secs()) {
        Ok(seconds) if time.subsec_nanos() == 0 => Ok(seconds),
        _ => Err("MQTT counts whole seconds, at most 65535: write for example 60s".to_owned()),
    }
}

/// A time, or `off`.
pub(crate) fn period(text: &str) -> Result<Period, String> {
    if text == "off" {
        return Ok(Period::Off);
    }
    match time(text) {
        Ok(time) if time >= PERIOD_MIN => Ok(Period::Every(time)),
        Ok(_) => Err("at least 1ms: for more messages use more devices".to_owned()),
        Err(_) => Err("write a time such as 500ms or 10s, or `off`".to_owned()),
    }
}

/// Connections per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err("write connections per second, between 0.001 and 1000000".to_owned()),
    }
}

/// How many devices.
pub(crate) fn devices(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(devices) if (1..=DEVICES_MAX).contains(&devices) => Ok(devices),
        _ => Err(format!("write a whole number between 1 and {DEVICES_MAX}")),
    }
}

/// Where counting starts.
pub(crate) fn index_from(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(index) if index <= INDEX_FROM_MAX => Ok(index),
        _ => Err(format!("write a whole number between 0 and {INDEX_FROM_MAX}")),
    }
}

/// Where everything random begins.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!(
            "write a whole number in decimal digits, between 0 and {}",
            u64::MAX
        )
    })
}

/// Where to listen.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port, for example 127.0.0.1:8883, 0.0.0.0:8883 or [::1]:8883; names are not looked up"
            .to_owned()
    })
}

/// Bytes of payload.
pub(crate) fn payload_size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(size) if size <= PAYLOAD_SIZE_MAX => Ok(size),
        _ => Err(format!("write whole bytes, at most {PAYLOAD_SIZE_MAX}")),
    }
}

/// Threads that drive devices.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(threads) if (1..=THREADS_MAX).contains(&threads) => Ok(threads),
        _ => Err(format!("write a whole number between 1 and {THREADS_MAX}")),
    }
}

/// Quality of service.
pub(crate) fn qos(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "2" => Ok(2),
        _ => Err("write 0, 1 or 2 (AWS IoT Core has no 2)".to_owned()),
    }
}

/// The same as the codec's value.
pub(crate) fn quality(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
pub(crate) fn host_port(text: &str) -> Result<(String, u16), String> {
    let wanted = || "write HOST:PORT, for example 127.0.0.1:8883 or [::1]:8883".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(wanted)?;
    let host = host_of(host).ok_or_else(wanted)?;
    Ok((host, port))
}

/// A host as it stands in a URL: an IPv6 address loses its brackets.
pub(crate) fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(|address| address.to_string());
    }
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    plain.then(|| text.to_owned())
}

/// `NAME:PASSWORD`; the name has no colon, the password may have.
pub(crate) fn user(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, password)) if !name.is_empty() => Ok((name.to_owned(), password.to_owned())),
        _ => Err("write NAME:PASSWORD".to_owned()),
    }
}

const NEEDS_TIME: &str = "write a time with its unit, for example 500ms, 10s or 1m30s";
/// Longer runs overflow nothing, but nobody means them.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A thousand messages a second from one device; the timers resolve no less.
const PERIOD_MIN: Duration = Duration::from_millis(1);
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1_000_000.0;
/// Far above what one machine's ports and memory hold.
const DEVICES_MAX: u32 = 1_000_000;
/// Indices stay exact in programs that read JSON numbers as doubles: 2^53, less the devices that follow.
const INDEX_FROM_MAX: u64 = (1 << 53) - DEVICES_MAX as u64;
/// AWS IoT Core takes 128 KiB; with its header a packet of this size stays below common brokers' 256 KiB.
const PAYLOAD_SIZE_MAX: usize = 250_000;
/// More threads than any machine that this runs on has cores.
const THREADS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_may_be_zero_only_where_that_means_something() {
        assert_eq!(time("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("10"), Err(NEEDS_TIME.to_owned()));
        assert_eq!(time("-1s"), Err(NEEDS_TIME.to_owned()));
        assert!(time("400days").is_err());
        assert!(time_above_zero("0s").is_err());
        assert_eq!(time_above_zero("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn keep_alive_is_whole_seconds_in_two_bytes() {
        assert_eq!(keep_alive("0s"), Ok(0));
        assert_eq!(keep_alive("20m"), Ok(1200));
        assert_eq!(keep_alive("65535s"), Ok(65535));
        for wrong in ["65536s", "1500ms", "1"] {
            assert!(keep_alive(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_can_be_off() {
        assert_eq!(period("off"), Ok(Period::Off));
        assert_eq!(period("250ms"), Ok(Period::Every(Duration::from_millis(250))));
        for wrong in ["0s", "10us", "OFF", "never"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(devices("0").is_err() && devices("1000001").is_err() && devices("1e3").is_err());
        assert_eq!(index_from("0"), Ok(0));
        assert!(index_from(&u64::MAX.to_string()).is_err());
        assert!(payload_size("250001").is_err());
        assert!(threads("0").is_err());
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        assert!(seed("0x7").unwrap_err().contains("decimal") && seed("-1").is_err());
        assert_eq!(qos("2"), Ok(2));
        assert!(qos("3").unwrap_err().contains("0, 1 or 2"));
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_port("[::1]:8883"), Ok(("::1".to_owned(), 8883)));
        assert_eq!(host_port("localhost:443"), Ok(("localhost".to_owned(), 443)));
        for wrong in [
            "localhost",
            "localhost:",
            ":443",
            "localhost:0",
            "localhost:70000",
            "::1:8883",
            "a b:1",
        ] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners_are_addresses_with_ports() {
        assert_eq!(listen("[::1]:0"), Ok("[::1]:0".parse().unwrap()));
        for wrong in ["localhost:8883", "127.0.0.1", ":8883", "8883", "::1:8883x"] {
            assert!(listen(wrong).unwrap_err().contains("127.0.0.1:8883"), "{wrong}");
        }
    }

    #[test]
    fn a_password_may_hold_colons() {
        assert_eq!(user("ann:a:b"), Ok(("ann".to_owned(), "a:b".to_owned())));
        assert_eq!(user("ann:"), Ok(("ann".to_owned(), String::new())));
        assert!(user("ann").is_err() && user(":x").is_err());
    }
}
