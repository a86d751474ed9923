//! Numbers as people read them.

use std::time::Duration;

/// `12,345`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 device`, `2 devices`
pub(crate) fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!(
        "{} {}",
        count(number),
        if number == 1 { singular } else { plural }
    )
}

/// `850 us`, `1.25 ms`, `3.40 s`
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// `9.8 s`, `2 m 05 s`
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    format!("{} m {:02} s", whole / 60, whole % 60)
}

/// The same for a [`Duration`].
pub(crate) fn duration(duration: Duration) -> String {
    seconds(duration.as_secs_f64())
}

/// `512 B`, `4.0 KiB`, `31.2 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// The first few of a list, and how many more there are: `a, b, c and 7 more`
pub(crate) fn first_few<T: AsRef<str>>(items: &[T]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown: Vec<&str> = items.iter().take(SHOWN_MAX).map(AsRef::as_ref).collect();
    match items.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), count(more as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (28_232, "28,232"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "device", "devices"), "1 device");
        assert_eq!(counted(0, "device", "devices"), "0 devices");
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(1_250), "1.25 ms");
        assert_eq!(micros(45_678), "45.7 ms");
        assert_eq!(micros(3_400_000), "3.40 s");
        assert_eq!(seconds(9.84), "9.8 s");
        assert_eq!(seconds(125.9), "2 m 05 s");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(4_096), "4.0 KiB");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(first_few(&["a"]), "a");
        assert_eq!(first_few(&["a", "b", "c"]), "a, b, c");
        assert_eq!(first_few(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
