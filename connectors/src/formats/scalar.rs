//! Numbers, decimals, booleans and base64 as text.

/// Reads a whole number within `min..=max`, with an optional sign.
pub fn parse_int(text: &[u8], min: i64, max: i64) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Negative numbers reach further, so numbers are built up below zero.
    let mut value: i64 = 0;
    if digits.len() <= 18 {
        for &b in digits {
            let d = b.wrapping_sub(b'0');
            if d > 9 {
                return None;
            }
            value = value * 10 - i64::from(d);
        }
    } else {
        for &b in digits {
            let d = b.wrapping_sub(b'0');
            if d > 9 {
                return None;
            }
            value = value.checked_mul(10)?.checked_sub(i64::from(d))?;
        }
    }
    let value = if negative { value } else { value.checked_neg()? };
    (min..=max).contains(&value).then_some(value)
}

/// Reads a floating-point number as Java does, but without hexadecimal ones.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    // Rust also reads "inf", "nan" and "infinity".
    let first = text.bytes().find(|b| *b != b'+' && *b != b'-')?;
    if !(first.is_ascii_digit() || first == b'.') {
        return None;
    }
    text.trim_end_matches(['d', 'D', 'f', 'F']).parse().ok()
}

/// Reads a float; not by way of a double, which would round twice.
pub fn parse_float(text: &[u8]) -> Option<f32> {
    let double = parse_double(text)?;
    if !double.is_finite() {
        return Some(double as f32);
    }
    std::str::from_utf8(text).ok()?.trim().trim_end_matches(['d', 'D', 'f', 'F']).parse().ok()
}

/// Reads a decimal number, rounded half up to `scale` digits. `Some(None)`: it does not
/// fit `precision`. `None`: not a number.
pub fn parse_decimal(text: &[u8], precision: u8, scale: u8) -> Option<Option<i128>> {
    let (negative, mut rest) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let mut exponent: i64 = 0;
    if let Some(at) = rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        exponent = parse_int(&rest[at + 1..], -100_000, 100_000)?;
        rest = &rest[..at];
    }
    let (whole, fraction) = match rest.iter().position(|&b| b == b'.') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &rest[..0]),
    };
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // The value is the digits times ten to the power of (exponent - fraction digits); `kept` of the
    // digits stand before the rounding position.
    let kept = whole.len() as i64 + exponent + i64::from(scale);
    let mut value: i128 = 0;
    let mut round_up = false;
    for (i, &b) in whole.iter().chain(fraction).enumerate() {
        let digit = i128::from(b - b'0');
        if (i as i64) < kept {
            match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
                Some(v) => value = v,
                None => return Some(None),
            }
        } else {
            round_up = i as i64 == kept && digit >= 5;
            break;
        }
    }
    let missing = kept - (whole.len() + fraction.len()) as i64;
    if missing > 0 && value != 0 {
        let shifted = u32::try_from(missing).ok().and_then(|n| 10_i128.checked_pow(n));
        match shifted.and_then(|factor| value.checked_mul(factor)) {
            Some(v) => value = v,
            None => return Some(None),
        }
    }
    value += i128::from(round_up);
    if value >= 10_i128.pow(u32::from(precision)) {
        return Some(None);
    }
    Some(Some(if negative { -value } else { value }))
}

/// Appends a decimal with exactly `scale` digits after the point.
pub fn write_decimal(out: &mut Vec<u8>, value: i128, scale: u8) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
}

/// Appends a decimal as Java's BigDecimal prints it: in scientific notation when the scale is
/// negative or the number is very small. With `strip`, trailing zeros are dropped first.
pub fn write_java_decimal(out: &mut Vec<u8>, value: i128, scale: u8, strip: bool) {
    let mut unscaled = value;
    let mut scale = i32::from(scale);
    if strip {
        while unscaled != 0 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        if unscaled == 0 {
            scale = 0;
        }
    }
    let digits = unscaled.unsigned_abs().to_string();
    let adjusted = digits.len() as i32 - 1 - scale;
    if scale >= 0 && adjusted >= -6 {
        return write_decimal(out, unscaled, scale as u8);
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits.as_bytes()[..1]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits.as_bytes()[1..]);
    }
    if adjusted != 0 {
        out.extend_from_slice(format!("E{adjusted:+}").as_bytes());
    }
}

/// Appends a double as Java prints it: `1.5`, `1.0E10`, `1.0E-4`, `NaN`, `-Infinity`.
pub fn write_java_double(out: &mut Vec<u8>, value: f64) {
    write_java_number(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &format!("{value:e}"));
}

/// Appends a float as Java prints it.
pub fn write_java_float(out: &mut Vec<u8>, value: f32) {
    write_java_number(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &short_float(value));
}

/// The digits that Java up to version 18 prints of a finite float, as `1.5e-7`: the fewest that lie
/// within half a unit of its last place, of powers of two within a quarter.
pub fn short_float(value: f32) -> String {
    let bits = value.to_bits();
    let exponent = bits >> 23 & 0xff;
    if bits & 0x7f_ffff != 0 || exponent == 0 || exponent == 0xff {
        return format!("{value:e}");
    }
    let quarter = f64::from(value).abs() / f64::from(1_u32 << 25);
    let digits = (0..9).map(|digits| format!("{value:.digits$e}"));
    let close = |text: &String| text.parse::<f64>().is_ok_and(|v| (v - f64::from(value)).abs() <= quarter);
    digits.into_iter().find(close).unwrap_or_else(|| format!("{value:e}"))
}

/// `scientific` is Rust's shortest form, as `1.5e-7`.
fn write_java_number(out: &mut Vec<u8>, nan: bool, infinite: bool, negative: bool, scientific: &str) {
    if nan {
        return out.extend_from_slice(b"NaN");
    }
    if negative {
        out.push(b'-');
    }
    if infinite {
        return out.extend_from_slice(b"Infinity");
    }
    let (mantissa, exponent) = scientific.trim_start_matches('-').split_once('e').unwrap_or(("0", "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(|&b| b != b'.').collect();
    if (-3..7).contains(&exponent) || digits == b"0" {
        let point = exponent + 1;
        if point <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(&digits);
            return;
        }
        let point = point as usize;
        for i in 0..point.max(1) {
            out.push(digits.get(i).copied().unwrap_or(b'0'));
        }
        out.push(b'.');
        out.extend_from_slice(if digits.len() > point { &digits[point..] } else { b"0" });
        return;
    }
    out.push(digits[0]);
    out.push(b'.');
    out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
    out.extend_from_slice(format!("E{exponent}").as_bytes());
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in base64, padded.
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |g, &b| g << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let symbol = BASE64[(group >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { symbol } else { b'=' });
        }
    }
}

/// Appends what `text` stands for in base64, padding optional. `None` if it is none.
pub fn read_base64(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |i| i + 1);
    if text.len() - end > 2 || text[..end].len() % 4 == 1 {
        return None;
    }
    for chunk in text[..end].chunks(4) {
        let mut group = 0_u32;
        for &b in chunk {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            group = group << 6 | u32::from(value);
        }
        group <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&group.to_be_bytes()[1..chunk.len()]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(parse_int(b"-9223372036854775808", i64::MIN, i64::MAX), Some(i64::MIN));
        assert_eq!(parse_int(b"9223372036854775807", i64::MIN, i64::MAX), Some(i64::MAX));
        assert_eq!(parse_int(b"9223372036854775808", i64::MIN, i64::MAX), None);
        assert_eq!(parse_int(b"128", -128, 127), None);
        assert_eq!(parse_int(b"+0007", -128, 127), Some(7));
        for t in ["", "-", "1.5", "1e3", " 1", "abc"] {
            assert_eq!(parse_int(t.as_bytes(), i64::MIN, i64::MAX), None, "{t}");
        }
    }

    #[test]
    fn decimals_round_half_up_and_overflow_to_nothing() {
        let d = |t: &str, p, s| parse_decimal(t.as_bytes(), p, s);
        assert_eq!(d("9.995", 6, 2), Some(Some(1000)));
        assert_eq!(d("-9.995", 6, 2), Some(Some(-1000)));
        assert_eq!(d("0.004", 6, 2), Some(Some(0)));
        assert_eq!(d("1e3", 6, 2), Some(Some(100_000)));
        assert_eq!(d("12345e-7", 6, 4), Some(Some(12)));
        assert_eq!(d("5e-3", 6, 2), Some(Some(1)));
        assert_eq!(d("5e-4", 6, 2), Some(Some(0)));
        assert_eq!(d("9999.995", 6, 2), Some(None));
        assert_eq!(d("12345678901234567890.12345678", 30, 8), Some(Some(1_234_567_890_123_456_789_012_345_678)));
        assert_eq!(d("1e99", 38, 0), Some(None));
        assert_eq!(d("0e99", 38, 0), Some(Some(0)));
        assert_eq!(d("", 6, 2), None);
        assert_eq!(d(".", 6, 2), None);
        assert_eq!(d("1.2.3", 6, 2), None);
    }

    #[test]
    fn numbers_print_as_in_java() {
        let double = |v| text(|o| write_java_double(o, v));
        for (v, t) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1234567.0, "1234567.0"),
            (1e7, "1.0E7"),
            (1.25e10, "1.25E10"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (59.91, "59.91"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1.7976931348623157e308, "1.7976931348623157E308"),
        ] {
            assert_eq!(double(v), t);
        }
        for (v, t) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (1024.0, "1024.0"),
            (0.0, "0.0"),
            (f32::MIN_POSITIVE, "1.17549435E-38"),
            (f32::MAX, "3.4028235E38"),
        ] {
            assert_eq!(text(|o| write_java_float(o, v)), t);
        }
        let decimal = |v, s, strip| text(|o| write_java_decimal(o, v, s, strip));
        assert_eq!(decimal(10_000_000, 2, true), "1E+5");
        assert_eq!(decimal(10_000_000, 2, false), "100000.00");
        assert_eq!(decimal(-150, 2, true), "-1.5");
        assert_eq!(decimal(0, 2, true), "0");
        assert_eq!(decimal(0, 8, false), "0E-8");
        assert_eq!(decimal(-1, 8, true), "-1E-8");
    }

    #[test]
    fn base64_round_trips() {
        for length in 0..20_u8 {
            let bytes: Vec<u8> = (0..length).map(|b| b.wrapping_mul(53)).collect();
            let mut back = Vec::new();
            read_base64(&mut back, text(|o| write_base64(o, &bytes)).as_bytes()).unwrap();
            assert_eq!(back, bytes);
        }
        assert_eq!(text(|o| write_base64(o, &[0, 255, 16])), "AP8Q");
        assert!(read_base64(&mut Vec::new(), b"a").is_none());
        assert!(read_base64(&mut Vec::new(), b"a$==").is_none());
    }
}
