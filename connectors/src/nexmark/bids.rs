//! Values of bids.

use std::sync::LazyLock;

use super::texts::push_words;
use crate::random::{below, bits};

/// Channels with a name, which half of all bids come through.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// Streams of random numbers.
pub const AUCTION: u64 = 100;
pub const BIDDER: u64 = 110;
pub const PRICE: u64 = 120;
pub const CHANNEL: u64 = 130;
pub const EXTRA: u64 = 140;
const URL: u64 = 150;

/// Prices are spread evenly over six powers of ten: `10^(6u) * 100`.
pub struct Prices {
    /// 10^(i / 1024)
    steps: Vec<f64>,
}

const STEPS: usize = 1024;

static PRICES: LazyLock<Prices> = LazyLock::new(|| {
    // By multiplication only, which is the same on every machine: 10^(1/1024) is ten square roots.
    let mut root = 10.0_f64;
    for _ in 0..10 {
        root = root.sqrt();
    }
    let mut steps = vec![1.0];
    for i in 0..STEPS {
        steps.push(steps[i] * root);
    }
    Prices { steps }
});

/// The prices, worked out once.
pub fn prices() -> &'static Prices {
    &PRICES
}

impl Prices {
    /// The price for 64 random bits.
    #[inline]
    pub fn price(&self, bits: u64) -> i64 {
        const POWERS: [f64; 6] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
        let power = below(bits, 6) as usize;
        let at = (bits >> 32) as f64 * (STEPS as f64 / 4_294_967_296.0);
        let step = at as usize;
        let low = self.steps[step];
        let value = low + (self.steps[step + 1] - low) * (at - step as f64);
        (value * POWERS[power]).round() as i64
    }
}

/// The price of a bid.
#[inline]
pub fn price(number: u64) -> i64 {
    prices().price(bits(number, PRICE))
}

/// The channel of a bid: below 4 a hot one, otherwise four less is its number.
#[inline]
pub fn channel(number: u64) -> u64 {
    let r = bits(number, CHANNEL);
    // Hot in one of two.
    if r & 1 == 1 { (r >> 1) & 3 } else { 4 + below(r >> 32, CHANNELS) }
}

/// Names and addresses of all channels.
pub struct Channels {
    names: Texts,
    urls: Texts,
}

/// Many texts in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    #[inline]
    fn get(&self, i: u64) -> &[u8] {
        let i = i as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start as usize..self.ends[i] as usize]
    }
}

static ALL: LazyLock<Channels> = LazyLock::new(|| {
    let mut channels = Channels { names: Texts::default(), urls: Texts::default() };
    for i in 0..4 + CHANNELS {
        let number = i.checked_sub(4);
        channels.names.push(|out| match number {
            None => out.extend_from_slice(HOT_CHANNELS[i as usize].as_bytes()),
            Some(number) => out.extend_from_slice(format!("channel-{number}").as_bytes()),
        });
        channels.urls.push(|out| {
            out.extend_from_slice(b"https://www.nexmark.com/");
            for folder in 0..3 {
                push_words(out, i * 4 + folder, URL, 5, b'_');
                out.push(b'/');
            }
            out.extend_from_slice(b"item.htm?query=1");
            if let Some(number) = number.filter(|_| below(bits(i, URL + 5), 10) > 0) {
                let id = (number as u32).reverse_bits() as i32;
                out.extend_from_slice(format!("&channel_id={}", id.unsigned_abs()).as_bytes());
            }
        });
    }
    channels
});

/// All channels, made once.
pub fn channels() -> &'static Channels {
    &ALL
}

impl Channels {
    /// The name of a channel.
    #[inline]
    pub fn name(&self, channel: u64) -> &[u8] {
        self.names.get(channel)
    }

    /// The address of a channel.
    #[inline]
    pub fn url(&self, channel: u64) -> &[u8] {
        self.urls.get(channel)
    }
}

/// Bytes of a bid without `extra`, as the benchmark counts them.
pub const FIXED_BYTES: usize = 32;
