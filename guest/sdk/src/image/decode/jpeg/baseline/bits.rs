//! Bits of a scan's coded data (ITU-T T.81, annex F.2.2.5).

/// A position in coded data, with the bits that were read ahead.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits {
    /// Position of the next byte to load.
    at: usize,
    /// The next bits, from the highest one on. Lower ones than `count` may be those that follow.
    buffer: u64,
    /// Bits loaded but not consumed. Negative if more were consumed than the data has before the
    /// next marker; the missing ones were zeros.
    count: i32,
}

/// The least bits that [`Bits::refill`] leaves before a marker: a code of 16 and its value of 15.
const MIN_BITS: i32 = 32;

impl Bits {
    /// Starts at the position `at`.
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Returns true if more bits were consumed than the data has.
    #[inline(always)]
    pub(super) fn is_overdrawn(self) -> bool {
        self.count < 0
    }

    /// Returns the next bits, from the highest one on.
    #[inline(always)]
    pub(super) fn next(self) -> u64 {
        self.buffer
    }

    /// Consumes up to 63 bits.
    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.buffer <<= bits & 63;
        self.count -= bits as i32;
    }

    /// Consumes 1 to 15 bits and returns the value that they encode: a number of that many bits,
    /// negative if the first bit is 0 (T.81, F.12).
    #[inline(always)]
    pub(super) fn value(&mut self, bits: u32) -> i32 {
        let value = (self.buffer >> ((64 - bits) & 63)) as i32;
        self.skip(bits);
        extended(value, bits)
    }

    /// Loads bytes if a code and its value might not be there.
    #[inline(always)]
    pub(super) fn refill(&mut self, data: &[u8]) {
        if self.count >= MIN_BITS {
            return;
        }
        let next = data.get(self.at..).and_then(|rest| rest.first_chunk());
        let word = next.map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        if has_escape(word) || self.count < 0 {
            *self = self.refilled(data);
        } else {
            self.buffer |= word >> self.count;
            let bytes = (64 - self.count) >> 3;
            self.at += bytes as usize;
            self.count += 8 * bytes;
        }
    }

    /// Loads bytes one by one, up to a marker or the end of the data.
    #[cold]
    #[inline(never)]
    fn refilled(mut self, data: &[u8]) -> Self {
        while (0..=56).contains(&self.count) {
            let byte = match data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 1;
                    0xff
                }
                None | Some([] | [0xff, ..]) => break,
                Some([byte, ..]) => *byte,
            };
            self.at += 1;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    /// Skips the padding before a marker, and the marker. None if another byte or marker is there.
    pub(super) fn after_marker(self, data: &[u8], marker: u8) -> Option<Self> {
        let filled = self.refilled(data);
        let is_next = data.get(filled.at..)?.starts_with(&[0xff, marker]);
        (is_next && (0..8).contains(&filled.count)).then(|| Self::new(filled.at + 2))
    }
}

/// Returns true if one of eight bytes is 0xff: a stuffed byte or a marker.
#[inline(always)]
fn has_escape(word: u64) -> bool {
    const LOWEST: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    // The complement has a byte of zero exactly if a subtraction borrows from its highest bit.
    (!word).wrapping_sub(LOWEST) & word & HIGHEST != 0
}

/// Returns the value that `bits` bits encode, of 1 to 15.
#[inline(always)]
pub(super) fn extended(value: i32, bits: u32) -> i32 {
    let is_negative = value < 1 << (bits - 1);
    if is_negative {
        value - (1 << bits) + 1
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits are the same, whether bytes are loaded by eight or one by one, with stuffed ones.
    #[test]
    fn bits_are_read_in_order() {
        let mut data: Vec<u8> = (0..200_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .map(|byte| byte.min(0xfe))
            .collect();
        data.splice(100..100, [0xff, 0, 0xff, 0, 7]);
        data.extend([0xff, 0xd9]);
        let mut plain: Vec<u8> = data[..data.len() - 2].to_vec();
        plain.drain(101..104);
        plain.splice(100..101, [0xff, 0xff]);
        let bit = |index: usize| u64::from(plain[index / 8] >> (7 - index % 8) & 1);
        let mut bits = Bits::new(0);
        let mut at = 0;
        for step in 0.. {
            let length = (1 + step % 15).min(8 * plain.len() - at);
            if length == 0 {
                break;
            }
            bits.refill(&data);
            let wanted = (at..at + length).fold(0, |sum, index| 2 * sum + bit(index));
            assert_eq!(bits.next() >> (64 - length), wanted, "at {at}");
            bits.skip(length as u32);
            at += length;
        }
        assert!(!bits.is_overdrawn());
        let end = bits.after_marker(&data, 0xd9).unwrap();
        assert_eq!(end.at, data.len());
        assert!(bits.after_marker(&data, 0xd0).is_none());
        bits.refill(&data);
        bits.skip(15);
        assert!(bits.is_overdrawn() && bits.after_marker(&data, 0xd9).is_none());
    }

    #[test]
    fn values_are_extended() {
        for (value, bits, wanted) in [
            (0, 1, -1),
            (1, 1, 1),
            (0, 3, -7),
            (3, 3, -4),
            (4, 3, 4),
            (0x7fff, 15, 0x7fff),
            (0, 15, -0x7fff),
        ] {
            assert_eq!(extended(value, bits), wanted, "{value} of {bits}");
        }
    }
}
