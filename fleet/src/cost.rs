//! What this process has used so far, as Linux tells it; elsewhere zero.

use std::fs;

/// CPU time and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// User and system time, in steps of 10 ms, without child processes.
    pub(crate) cpu_seconds: f64,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
}

impl Cost {
    /// As of now.
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&stat).unwrap_or_default(),
            rss_bytes: rss_bytes(&status).unwrap_or_default(),
        }
    }

    /// CPU time between two moments, without the noise of binary fractions.
    pub(crate) fn cpu_seconds_since(self, earlier: Self) -> f64 {
        ((self.cpu_seconds - earlier.cpu_seconds) * TICKS_PER_SECOND).round() / TICKS_PER_SECOND
    }
}

/// proc(5): fields 14 and 15, in ticks; the second field is a name in parentheses that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// proc(5): the line `VmRSS:   123 kB`.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// USER_HZ of every Linux that Rust's tier 1 and 2 targets run on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "4711 (a) b c) S 1 4711 4711 0 -1 4194560 1000 0 0 0 123 45 7 8 20 0 3 0 100 200 300";
        assert_eq!(cpu_seconds(stat), Some(1.68));
        assert_eq!(
            rss_bytes("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    2048 kB\n"),
            Some(2048 * 1024)
        );
        assert_eq!((cpu_seconds("1 (x) S"), rss_bytes("")), (None, None));
    }

    #[test]
    fn a_difference_is_whole_ticks() {
        let at = |cpu_seconds| Cost {
            cpu_seconds,
            rss_bytes: 0,
        };
        assert_eq!(at(1.83).cpu_seconds_since(at(0.3)), 1.53);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        assert!(Cost::now().rss_bytes > 100_000);
    }
}
