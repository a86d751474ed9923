//! What this machine allows, compared with what a run needs, before anything is dialled.

use std::{fs, io};

use crate::problem::Problem;
use crate::text::{count, counted};

/// Descriptors of the process itself: standard streams, signals, the child's pipes, resolver and log files.
const OPEN_FILES_BASE: u64 = 60;
/// Of each thread: its epoll, its wake-up and its timer, and one to spare.
const OPEN_FILES_PER_THREAD: u64 = 4;

/// errno(3) on Linux, macOS and the BSDs: too many open files in this process, and in the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// The source ports from which the system picks one per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

/// What was found, for the plan that `--dry-run` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preflight {
    pub(crate) open_files_needed: u64,
    pub(crate) open_files_hard: u64,
    /// `None` where the system does not tell.
    pub(crate) source_ports: Option<u64>,
}

/// Raises the soft limit of open files as far as `devices` need it, and compares what is needed with what there is.
/// `destinations` is the number of addresses that the broker's name has.
pub(crate) fn check(devices: u32, threads: usize, destinations: usize) -> Result<Preflight, Problem> {
    let open_files_hard = open_files(devices, threads)?;
    let range = PortRange::of_this_machine();
    if let Some(range) = range {
        check_source_ports(devices, range, destinations)?;
    }
    let source_ports = range.map(|range| range.capacity(destinations));
    Ok(Preflight {
        open_files_needed: open_files_needed(devices, threads),
        open_files_hard,
        source_ports,
    })
}

/// The first half of [`check`]: open files only. Answers the hard limit.
pub(crate) fn open_files(devices: u32, threads: usize) -> Result<u64, Problem> {
    let hard = raise_open_files(open_files_needed(devices, threads))
        .map_err(|error| Problem::refused("open_files", format!("the limit cannot be raised: {error}")))?;
    check_open_files(devices, threads, hard)?;
    Ok(hard)
}

/// Raises the soft limit of open files to `wanted`, or as near as the hard limit allows, which is returned.
pub(crate) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    let target = wanted.min(hard);
    if soft < target {
        rlimit::setrlimit(rlimit::Resource::NOFILE, target, hard)?;
    }
    Ok(hard)
}

/// Whether a call failed for want of descriptors.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

fn open_files_needed(devices: u32, threads: usize) -> u64 {
    u64::from(devices) + open_files_besides(threads)
}

fn open_files_besides(threads: usize) -> u64 {
    threads as u64 * OPEN_FILES_PER_THREAD + OPEN_FILES_BASE
}

fn check_open_files(devices: u32, threads: usize, hard: u64) -> Result<(), Problem> {
    if open_files_needed(devices, threads) <= hard {
        return Ok(());
    }
    let at_most = match hard.saturating_sub(open_files_besides(threads)) {
        0 => String::new(),
        at_most => format!(" At most `--devices {at_most}`."),
    };
    Err(Problem::refused(
        "open_files",
        format!(
            "hard limit {} (soft already raised). {}{at_most}",
            count(hard),
            open_files_advice(devices, threads)
        ),
    ))
}

/// What a run needs, as a sum, and what to do where there is less.
pub(crate) fn open_files_advice(devices: u32, threads: usize) -> String {
    format!(
        "{} need {} descriptors: one each, {OPEN_FILES_PER_THREAD} for each of {}, {OPEN_FILES_BASE} for the process. \
         Raise the hard limit: `ulimit -Hn`, `LimitNOFILE=`, `docker --ulimit nofile=65536`; or use several processes \
         with --index-from.",
        counted(devices.into(), "device", "devices"),
        count(open_files_needed(devices, threads)),
        counted(threads as u64, "thread", "threads")
    )
}

fn check_source_ports(devices: u32, range: PortRange, destinations: usize) -> Result<(), Problem> {
    let capacity = range.capacity(destinations);
    if u64::from(devices) <= capacity {
        return Ok(());
    }
    let plural = if destinations == 1 {
        "destination"
    } else {
        "destinations"
    };
    Err(Problem::refused(
        "source_ports_exhausted",
        format!(
            "{} devices, but {} ports ({}-{}) per source and destination, 1 source, {destinations} {plural}: at most \
             {}. Widen the range by `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or share the fleet among \
             machines with --devices and --index-from.",
            count(devices.into()),
            count(range.len()),
            range.first,
            range.last,
            count(capacity)
        ),
    ))
}

impl PortRange {
    /// `None` where the system does not tell (no Linux, no /proc).
    fn of_this_machine() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace();
        let first = numbers.next()?.parse().ok()?;
        let last = numbers.next()?.parse().ok()?;
        (first <= last).then_some(Self { first, last })
    }

    fn len(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Connections from one source address to that many destinations.
    fn capacity(self, destinations: usize) -> u64 {
        self.len() * destinations.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT_RANGE: PortRange = PortRange {
        first: 32768,
        last: 60999,
    };

    fn refusal(result: Result<(), Problem>) -> (&'static str, String) {
        match result {
            Err(Problem::Refused { slug, text }) => (slug, text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn too_few_open_files_are_refused_with_the_arithmetic() {
        let (slug, text) = refusal(check_open_files(30_000, 1, 20_000));
        assert_eq!(slug, "open_files");
        assert!(
            text.starts_with(
                "hard limit 20,000 (soft already raised). 30,000 devices need 30,064 descriptors: one each, 4 for each \
                 of 1 thread, 60 for the process."
            ),
            "{text}"
        );
        assert!(text.ends_with("At most `--devices 19936`."), "{text}");
        assert!(check_open_files(19_936, 1, 20_000).is_ok());
        assert_eq!(refusal(check_open_files(19_937, 1, 20_000)).0, "open_files");
        // Each thread takes its share.
        assert!(check_open_files(19_932, 2, 20_000).is_ok() && check_open_files(19_933, 2, 20_000).is_err());
        assert!(!refusal(check_open_files(1, 1, 10)).1.contains("At most"));
    }

    #[test]
    fn too_few_source_ports_are_refused_with_the_arithmetic() {
        let (slug, text) = refusal(check_source_ports(40_000, DEFAULT_RANGE, 1));
        assert_eq!(slug, "source_ports_exhausted");
        assert!(text.starts_with(
            "40,000 devices, but 28,232 ports (32768-60999) per source and destination, 1 source, 1 destination: at \
             most 28,232."
        ));
        assert!(check_source_ports(28_232, DEFAULT_RANGE, 1).is_ok());
        assert!(check_source_ports(28_233, DEFAULT_RANGE, 1).is_err());
        assert!(check_source_ports(40_000, DEFAULT_RANGE, 2).is_ok());
    }

    #[test]
    fn the_port_range_is_read_as_the_kernel_writes_it() {
        assert_eq!(PortRange::parse("32768\t60999\n"), Some(DEFAULT_RANGE));
        for wrong in ["", "1", "2 1", "a b", "1 70000"] {
            assert_eq!(PortRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_device_starts_anywhere() {
        let found = check(1, 1, 1).unwrap();
        assert_eq!(found.open_files_needed, 65);
        assert!(found.open_files_hard >= 65);
    }
}
