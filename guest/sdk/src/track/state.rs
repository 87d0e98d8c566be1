//! Bytes of state: a version, the content, and a checksum.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the bytes of a state of this version.
fn encode<T: Serialize>(version: u8, state: &T) -> Option<Vec<u8>> {
    let mut bytes = postcard::to_extend(state, vec![version]).ok()?;
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Some(bytes)
}

/// Returns the state of the largest of the sizes 0 to `most` that fits into `limit` bytes. Empty if
/// none does. `state` makes the state of a size; a larger one must not take fewer bytes.
pub(super) fn encode_within<T: Serialize>(
    version: u8,
    limit: usize,
    most: usize,
    state: impl Fn(usize) -> T,
) -> Vec<u8> {
    let fitting = |size| encode(version, &state(size)).filter(|bytes| bytes.len() <= limit);
    if let Some(bytes) = fitting(most) {
        return bytes;
    }
    // Binary search; `most` does not fit.
    let (mut best, mut low, mut high) = (Vec::new(), 0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if let Some(bytes) = fitting(middle) {
            (best, low) = (bytes, middle + 1);
        } else {
            high = middle;
        }
    }
    best
}

/// Returns the state of these bytes. None if they are damaged, of another version, or empty.
pub(super) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Option<T> {
    let (content, checksum) = bytes.split_last_chunk()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (&found, content) = content.split_first()?;
    let (state, rest) = postcard::take_from_bytes(content).ok()?;
    (found == version && rest.is_empty()).then_some(state)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encode_keeps_what_fits() {
        let state = |size| vec![7_u8; size];
        // Version, length and checksum take six bytes.
        let cases = [
            (100, 16),
            (16, 16),
            (15, 15),
            (8, 8),
            (6, 6),
            (5, 0),
            (0, 0),
        ];
        for (limit, wanted) in cases {
            assert_eq!(encode_within(1, limit, 10, state).len(), wanted, "{limit}");
        }
    }

    #[test]
    fn decode_refuses_other_versions() {
        let bytes = encode(1, &vec![1_u32, 2]).unwrap();
        assert_eq!(decode(1, &bytes), Some(vec![1_u32, 2]));
        assert_eq!(decode::<Vec<u32>>(2, &bytes), None);
        assert_eq!(decode::<Vec<u32>>(1, &[]), None);
        assert_eq!(decode::<u32>(1, &bytes), None, "bytes are left");
    }

    proptest! {
        #[test]
        fn decode_refuses_any_flipped_bit(numbers: Vec<u32>, byte: prop::sample::Index, bit in 0..8_u32) {
            let mut bytes = encode(1, &numbers).unwrap();
            let byte = byte.index(bytes.len());
            bytes[byte] ^= 1 << bit;
            prop_assert_eq!(decode::<Vec<u32>>(1, &bytes), None);
        }

        /// The checksum is right, so that the content is read.
        #[test]
        fn decode_reads_any_bytes(mut bytes: Vec<u8>) {
            bytes.insert(0, 1);
            let checksum = crc32fast::hash(&bytes);
            bytes.extend(checksum.to_le_bytes());
            let _ = decode::<Vec<(u32, Vec<f32>)>>(1, &bytes);
        }
    }
}
