//! Numbers as people read and write them.

use std::time::Duration;

use firebackup_model::Timestamp;

/// A whole number with separators: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 document`, `2,044 documents`.
pub(crate) fn of(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes: `17 B`, `1.4 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    // 1023.95 would be shown as 1024.0
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Seconds: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 1.0 => format!("{:.2} s", seconds.max(0.0)),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A rate: `5,123/s`, below ten with a decimal.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}/s") } else { format!("{}/s", count(per_second as u64)) }
}

/// US dollars; small sums with more decimals, so that they are not shown as nothing.
pub(crate) fn dollars(sum: f64) -> String {
    if sum == 0.0 || sum >= 1.0 { format!("${sum:.2}") } else { format!("${sum:.4}") }
}

/// A moment to the second.
pub(crate) fn moment(time: Timestamp) -> String {
    Timestamp::new(time.seconds, 0).to_string()
}

/// How many times smaller: `4.2×`.
pub(crate) fn ratio(before: u64, after: u64) -> String {
    if after == 0 { "–".to_owned() } else { format!("{:.1}×", before as f64 / after as f64) }
}

/// How many times smaller it became, in words; nothing where there was nothing to make smaller.
pub(crate) fn smaller(before: u64, after: u64) -> Option<String> {
    (before > 0 && after > 0).then(|| format!("{} smaller", ratio(before, after)))
}

/// Reads a number as people write it: `2000`, `20,000`, `500k`, `2M`.
///
/// # Errors
/// Says what is expected.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let plain: String = digits.chars().filter(|digit| !matches!(digit, ',' | '_')).collect();
    let number: Option<u64> = plain.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "expected a number such as 20000, 20,000, 500k or 2M".to_owned())
}

/// Reads a length of time between a second and a day: `60s`, `5m`, `1h`.
///
/// # Errors
/// Says what is expected.
pub(crate) fn parse_window(text: &str) -> Result<Duration, String> {
    let factors = [('s', 1), ('m', 60), ('h', 3600)];
    let seconds = factors.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*factor)
    });
    let seconds = seconds.filter(|seconds| (1..=24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a time from 1s to 24h, such as 60s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (of(1, "run"), of(0, "run"), of(2044, "run")),
            ("1 run".into(), "0 runs".into(), "2,044 runs".into())
        );
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in
            [(0.0, "0.00 s"), (0.42, "0.42 s"), (12.34, "12.3 s"), (245.0, "4 min 05 s"), (7380.0, "2 h 03 min")]
        {
            assert_eq!(seconds(number), text);
        }
        assert_eq!((ratio(420, 100), ratio(1, 0)), ("4.2×".to_owned(), "–".to_owned()));
        assert_eq!(smaller(420, 100).as_deref(), Some("4.2× smaller"));
        assert_eq!((smaller(0, 0), smaller(0, 7), smaller(1, 0)), (None, None, None));
        assert_eq!((dollars(0.0), dollars(0.0003), dollars(12.5)), ("$0.00".into(), "$0.0003".into(), "$12.50".into()));
        assert_eq!(moment(Timestamp::new(1, 999_999_999)), "1970-01-01T00:00:01Z");
        assert_eq!((rate(3.26), rate(5123.7)), ("3.3/s".to_owned(), "5,123/s".to_owned()));
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, number) in [("0", 0), ("20,000", 20_000), ("20_000", 20_000), ("500k", 500_000), ("2M", 2_000_000)] {
            assert_eq!(parse_count(text), Ok(number), "{text}");
        }
        for bad in ["", "k", "1.5k", "-1", "1 000", "99999999999999999999", "99999999999999999M"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn windows_are_read_with_their_unit_and_have_bounds() {
        for (text, seconds) in [("1s", 1), ("60s", 60), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(parse_window(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "60", "0s", "25h", "1d", "1.5m", "-1s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_window(bad).is_err(), "{bad}");
        }
    }
}
