//! Random numbers that follow from a position: no state, so every value can be made on its own.

/// 64 random bits for number `n` of stream `stream`.
#[inline]
pub fn bits(n: u64, stream: u64) -> u64 {
    // The finaliser of SplitMix64 over a Weyl sequence.
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From 32 random bits (the low half of `bits`) a number below `bound`.
#[inline]
pub fn below(bits: u64, bound: u64) -> u64 {
    ((bits & 0xffff_ffff) * bound) >> 32
}

/// From 64 random bits a number below `bound`, which may be large.
#[inline]
pub fn below_wide(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// From 64 random bits a number from 0 to below 1.
#[inline]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Eight letters from 64 random bits.
#[inline]
pub fn letters(bits: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Five bits a byte; those from 26 on wrap around to 0 to 5. All eight bytes at once: adding
    // 128 - 26 sets a byte's highest bit exactly if it is 26 or more.
    let five = bits & (0x1f * ONES);
    let wraps = ((five + (0x80 - 26) * ONES) >> 7) & ONES;
    (five - wraps * 26 + u64::from(b'a') * ONES).to_le_bytes()
}

/// Appends `length` letters that follow from `n` and `stream`.
#[inline]
pub fn push_letters(out: &mut Vec<u8>, n: u64, stream: u64, length: usize) {
    let end = out.len() + length;
    let mut word = bits(n, stream);
    while out.len() < end {
        out.extend_from_slice(&letters(word));
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word ^= word >> 29;
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_all_letters_about_equally() {
        let mut text = Vec::new();
        for n in 0..10_000 {
            push_letters(&mut text, n, 3, 13);
        }
        assert_eq!(text.len(), 130_000);
        let mut counts = [0_u32; 26];
        text.iter().for_each(|b| counts[usize::from(b - b'a')] += 1);
        // The first six letters come twice as often as the others.
        assert!(counts.iter().all(|c| (3_500..9_000).contains(c)), "{counts:?}");
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut seen = [0_u32; 7];
        (0..7000).for_each(|n| seen[below(bits(n, 1), 7) as usize] += 1);
        assert!(seen.iter().all(|c| (850..1150).contains(c)), "{seen:?}");
        assert!((0..1000).all(|n| below_wide(bits(n, 2), u64::MAX) < u64::MAX && unit(bits(n, 3)) < 1.0));
    }
}
