//! DECIMAL values as 128-bit integers: rescaling, rounding half up, overflow to NULL.

use crate::expr::format;

/// 10^0 to 10^38.
pub const POWERS_OF_TEN: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Whether a value has at most `precision` digits.
#[inline]
pub fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < POWERS_OF_TEN[usize::from(precision.min(38))] as u128
}

/// The value at another scale, rounded half up; `None` when it has more than `precision` digits.
#[inline]
pub fn rescale(value: i128, from_scale: u8, precision: u8, scale: u8) -> Option<i128> {
    let scaled = if scale >= from_scale {
        value.checked_mul(POWERS_OF_TEN[usize::from(scale - from_scale)])?
    } else {
        div_half_up(value, POWERS_OF_TEN[usize::from(from_scale - scale)])
    };
    fits(scaled, precision).then_some(scaled)
}

/// `value / divisor` (a positive one) rounded half away from zero.
#[inline]
pub fn div_half_up(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    if rest.unsigned_abs() >= (divisor as u128).div_ceil(2) { quotient + value.signum() } else { quotient }
}

/// The nearest double.
pub fn decimal_to_double(value: i128, scale: u8) -> f64 {
    if value.unsigned_abs() < 1 << 53 && scale <= 22 {
        // Both are exact, so one division rounds correctly.
        return value as f64 / POWERS_OF_TEN[usize::from(scale)] as f64;
    }
    format::decimal(value, scale).parse().unwrap_or(f64::NAN)
}

/// By the digits that the double prints with, rounded half up; `None` when it does not fit or is
/// not a number.
pub fn double_to_decimal(value: f64, precision: u8, scale: u8) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    super::parse_decimal(&format!("{value:e}"), precision, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_rounds_half_up_and_overflows_to_none() {
        assert_eq!(rescale(125, 2, 5, 1), Some(13));
        assert_eq!(rescale(-125, 2, 5, 1), Some(-13));
        assert_eq!(rescale(124, 2, 5, 1), Some(12));
        assert_eq!(rescale(123_456, 2, 5, 2), None);
        assert_eq!(rescale(1, 0, 38, 38), None);
        assert_eq!(double_to_decimal(-98765.4321, 10, 2), Some(-9_876_543));
        assert_eq!(double_to_decimal(1e20, 38, 0), Some(100_000_000_000_000_000_000));
        assert_eq!(decimal_to_double(12_345_678, 4), 1234.5678);
    }
}
