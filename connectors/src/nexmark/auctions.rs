//! Values of auctions.

use super::bids::prices;
use super::model::{FIRST_CATEGORY, Model};
use super::texts::words_length;
use crate::random::{below, below_wide, bits};

/// Streams of random numbers.
pub const NAME: u64 = 200;
pub const DESCRIPTION: u64 = 210;
const INITIAL_BID: u64 = 220;
const RESERVE: u64 = 230;
const EXPIRES: u64 = 240;
pub const SELLER: u64 = 250;
const CATEGORY: u64 = 260;
pub const EXTRA: u64 = 270;

/// The longest name and description.
pub const MAX_NAME: u64 = 20;
pub const MAX_DESCRIPTION: u64 = 100;

/// The first bid.
pub fn initial_bid(number: u64) -> i64 {
    prices().price(bits(number, INITIAL_BID))
}

/// The price at which the seller sells.
pub fn reserve(number: u64) -> i64 {
    initial_bid(number) + prices().price(bits(number, RESERVE))
}

/// When the auction ends, in ms since 1970.
pub fn expires(model: &Model, number: u64) -> i64 {
    let length = 1 + below_wide(bits(number, EXPIRES), model.auction_horizon_ms(number) * 2);
    model.time_ms(number) + length as i64
}

/// The category.
pub fn category(number: u64) -> i64 {
    FIRST_CATEGORY + below(bits(number, CATEGORY), 5) as i64
}

/// Bytes of an auction without `extra`, as the benchmark counts them.
pub fn fixed_bytes(number: u64) -> usize {
    48 + words_length(number, NAME, MAX_NAME) + words_length(number, DESCRIPTION, MAX_DESCRIPTION)
}
