//! Reading values as Flink writes them.

fn split(text: &str) -> Option<(u64, String)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

/// `true` or `false` in any case; nothing else.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Digits and a unit (none: ms), or ISO 8601 (`PT10S`). What is below a millisecond is cut off.
pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
    if text.starts_with(['P', 'p']) {
        return parse_iso_duration_ms(text);
    }
    let (number, unit) = split(text)?;
    let factor = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "µs" | "μs" | "micro" | "micros" | "microsecond" | "microseconds" => return Some(number / 1_000),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => return Some(number / 1_000_000),
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `P1DT2H3M4.5S`: days, hours, minutes, seconds.
fn parse_iso_duration_ms(text: &str) -> Option<u64> {
    let upper = text.to_ascii_uppercase();
    let body = upper.strip_prefix('P')?;
    let (days, time) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (body, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = match days {
        "" => 0,
        days => days.strip_suffix('D')?.parse::<u64>().ok()?.checked_mul(86_400_000)?,
    };
    let mut rest = time;
    for (unit, factor) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((number, after)) = rest.split_once(unit) {
            total = number.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(total)?;
            rest = after;
        }
    }
    if !rest.is_empty() {
        let seconds: f64 = rest.strip_suffix('S')?.parse().ok()?;
        if !(0.0..1e12).contains(&seconds) {
            return None;
        }
        total = total.checked_add((seconds * 1000.0) as u64)?;
    }
    Some(total)
}

/// Digits and a unit of powers of 1024 (none: bytes).
pub(super) fn parse_memory_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// A port or `from-to`.
pub(super) fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then_some((from, to))
}

/// `a;b`, `a, b` or `[a, b]`, items perhaps quoted.
pub(super) fn parse_list(text: &str) -> Vec<String> {
    let text = text.trim();
    let (inner, separator) = match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(inner) => (inner, ','),
        None => (text, if text.contains(';') { ';' } else { ',' }),
    };
    inner
        .split(separator)
        .map(|item| item.trim().trim_matches(['\'', '"']).to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("15000", 15_000),
            ("10 s", 10_000),
            ("500ms", 500),
            ("2 MIN", 120_000),
            ("1 h", 3_600_000),
            ("3 days", 259_200_000),
            ("2500 µs", 2),
            ("7000000 ns", 7),
            ("PT10S", 10_000),
            ("P1DT2H3M4.5S", 93_784_500),
        ] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "s", "-1 s", "1.5 s", "1h30m", "10 us", "P", "PT", "PTS", "99999999999999999 d"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn memory_sizes() {
        for (text, bytes) in
            [("1024", 1024), ("20 kb", 20_480), ("64mb", 64 << 20), ("2 G", 2 << 30), ("1 TB", 1 << 40)]
        {
            assert_eq!(parse_memory_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "mb", "1.5 gb", "5 kib", "-1"] {
            assert_eq!(parse_memory_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(parse_ports("0"), Some((0, 0)));
        assert_eq!(parse_ports("50100-50200"), Some((50100, 50200)));
        for text in ["", "70000", "5-4", "a"] {
            assert_eq!(parse_ports(text), None, "{text}");
        }
    }
}
