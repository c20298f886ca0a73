//! Values of persons.

use super::texts::{push_words, words_length};
use crate::random::{below, bits};

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Streams of random numbers.
const NAME: u64 = 300;
const USER: u64 = 310;
const DOMAIN: u64 = 320;
const CARD: u64 = 330;
const CITY: u64 = 340;
const STATE: u64 = 350;
pub const EXTRA: u64 = 360;

fn pick<'a>(values: &[&'a str], bits: u64) -> &'a str {
    values[below(bits, values.len() as u64) as usize]
}

fn names(number: u64) -> (&'static str, &'static str) {
    let r = bits(number, NAME);
    (pick(&FIRST_NAMES, r), pick(&LAST_NAMES, r >> 32))
}

/// First and last name.
pub fn push_name(out: &mut Vec<u8>, number: u64) {
    let (first, last) = names(number);
    out.extend_from_slice(first.as_bytes());
    out.push(b' ');
    out.extend_from_slice(last.as_bytes());
}

/// An address at some `.com`.
pub fn push_email(out: &mut Vec<u8>, number: u64) {
    push_words(out, number, USER, 7, b'_');
    out.push(b'@');
    push_words(out, number, DOMAIN, 5, b'_');
    out.extend_from_slice(b".com");
}

/// Four groups of four digits.
pub fn push_card(out: &mut Vec<u8>, number: u64) {
    let mut r = bits(number, CARD);
    for group in 0..4 {
        if group > 0 {
            out.push(b' ');
        }
        let mut digits = below(r & 0xffff_ffff, 10_000);
        r = r.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut text = [b'0'; 4];
        for digit in text.iter_mut().rev() {
            *digit += (digits % 10) as u8;
            digits /= 10;
        }
        out.extend_from_slice(&text);
    }
}

/// The city.
pub fn city(number: u64) -> &'static str {
    pick(&CITIES, bits(number, CITY))
}

/// The state, which need not be that of the city.
pub fn state(number: u64) -> &'static str {
    pick(&STATES, bits(number, STATE))
}

/// Bytes of a person without `extra`, as the benchmark counts them.
pub fn fixed_bytes(number: u64) -> usize {
    let (first, last) = names(number);
    let email = words_length(number, USER, 7) + words_length(number, DOMAIN, 5) + 5;
    8 + first.len() + last.len() + 1 + email + 19 + city(number).len() + state(number).len()
}
