//! Content that tells where it belongs: every eight bytes of the unit have a value of their own, made from their
//! place, so that a block that is damaged, exchanged or never written is found out.

/// Bytes that share one value.
const WORD: usize = 8;

/// What a span of the unit holds; `offset` is a multiple of eight.
pub(super) fn of(offset: u64, length: u64) -> Vec<u8> {
    (0..length / WORD as u64)
        .flat_map(|word| value(offset + word * WORD as u64).to_le_bytes())
        .collect()
}

/// The first byte of the unit whose word is not what it should be, if there is one.
pub(super) fn first_wrong(offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut words = bytes.chunks(WORD).zip((offset..).step_by(WORD));
    let wrong = words.find(|(word, at)| **word != value(*at).to_le_bytes());
    wrong.map(|(_, at)| at)
}

/// A value that no other place has: each step can be undone.
fn value(place: u64) -> u64 {
    let mut word = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^= word >> 32;
    word = word.wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::{first_wrong, of};

    #[test]
    fn a_block_in_the_wrong_place_and_a_flipped_bit_are_found() {
        let mut bytes = of(4096, 512);
        assert_eq!(bytes.len(), 512);
        assert_eq!(first_wrong(4096, &bytes), None);
        assert_eq!(first_wrong(8192, &bytes), Some(8192));
        assert_eq!(first_wrong(0, &[0; 512]), Some(0));
        bytes[100] ^= 1;
        assert_eq!(first_wrong(4096, &bytes), Some(4096 + 96));
    }
}
