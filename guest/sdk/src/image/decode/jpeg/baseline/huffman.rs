//! Huffman codes of a scan (ITU-T T.81, annexes C and F.2.2).

use super::bits::{Bits, extended};
use super::transform::Block;

/// Bits with which a table is looked up: most codes, and most values with them.
const LOOKUP: u32 = 10;

/// A table of codes.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// By the next bits: an [`Entry`] for codes of at most [`LOOKUP`] bits, or 0.
    short: [u32; 1 << LOOKUP],
    /// For each length from 1 to 16 bits: one more than the largest code, aligned to 16 bits, and
    /// the index of the smallest code's symbol less that code.
    long: [(u32, i32); 16],
    /// Symbols in order of their codes.
    symbols: Vec<u8>,
}

/// A code and perhaps the value after it: from the lowest bits on, the bits to consume (8), then
/// the symbol (8), or the zeros before the value (8) and the value itself (16). A value is never 0.
struct Entry(u32);

impl Entry {
    fn of_symbol(length: u32, symbol: u8) -> Self {
        Self(length | u32::from(symbol) << 8)
    }

    fn of_value(length: u32, run: u8, value: i32) -> Self {
        Self(length | u32::from(run) << 8 | (value as u32) << 16)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0 & 0xff
    }

    #[inline(always)]
    fn symbol(&self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    fn value(&self) -> i32 {
        self.0 as i32 >> 16
    }
}

impl Table {
    /// Reads a table from the numbers of codes of 1 to 16 bits, and the symbols. None if there are
    /// more codes than bits allow.
    pub(super) fn new(counts: [u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            short: [0; 1 << LOOKUP],
            long: [(0, 0); 16],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0_u32, 0_usize);
        for ((length, count), long) in (1..).zip(counts).zip(&mut table.long) {
            let smallest = code;
            code += u32::from(count);
            if code > 1 << length {
                return None;
            }
            *long = (code << (16 - length), index as i32 - smallest as i32);
            let own = symbols.get(index..index + usize::from(count))?;
            if length <= LOOKUP {
                for (code, symbol) in (smallest..).zip(own) {
                    fill(&mut table.short, code, length, *symbol);
                }
            }
            index += usize::from(count);
            code <<= 1;
        }
        Some(table)
    }

    #[inline(always)]
    fn entry(&self, bits: Bits) -> Entry {
        let index = (bits.next() >> (64 - LOOKUP)) as usize;
        Entry(self.short.get(index).copied().unwrap_or_default())
    }

    /// Reads a symbol of more than [`LOOKUP`] bits. None if the code has no symbol.
    #[cold]
    #[inline(never)]
    fn long_symbol(&self, next: u64) -> Option<(u32, u8)> {
        let next = (next >> 48) as u32;
        for (length, (end, offset)) in (1..).zip(self.long).skip(LOOKUP as usize) {
            if next < end {
                let index = (next >> (16 - length)) as i32 + offset;
                let symbol = self.symbols.get(usize::try_from(index).ok()?)?;
                return Some((length, *symbol));
            }
        }
        None
    }

    /// Consumes a symbol. Its value, if any, must not be in the entry.
    #[inline(always)]
    fn symbol(&self, entry: &Entry, bits: &mut Bits) -> Option<u8> {
        let (length, symbol) = if entry.0 == 0 {
            self.long_symbol(bits.next())?
        } else {
            (entry.length(), entry.symbol())
        };
        bits.skip(length);
        Some(symbol)
    }

    /// Consumes the difference of a block's first coefficient to the one before.
    #[inline(always)]
    fn difference(&self, bits: &mut Bits) -> Option<i32> {
        let entry = self.entry(*bits);
        if entry.value() != 0 {
            bits.skip(entry.length());
            return (entry.symbol() == 0).then(|| entry.value());
        }
        match self.symbol(&entry, bits)? {
            0 => Some(0),
            size @ 1..=15 => Some(bits.value(size.into())),
            _ => None,
        }
    }
}

/// Enters a code into the short table.
fn fill(short: &mut [u32], code: u32, length: u32, symbol: u8) {
    let (size, free) = (u32::from(symbol & 15), LOOKUP - length);
    let begin = (code << free) as usize;
    let entries = short.get_mut(begin..begin + (1 << free));
    for (rest, entry) in (0..).zip(entries.into_iter().flatten()) {
        *entry = if size == 0 || size > free {
            Entry::of_symbol(length, symbol)
        } else {
            let value = extended(rest >> (free - size), size);
            Entry::of_value(length + size, symbol >> 4, value)
        }
        .0;
    }
}

/// Where a coefficient of a scan belongs, and its step of quantisation: in the order of the scan,
/// the index in a block (8 bits) and the step (8 bits).
pub(super) type Places = [u16; 64];

/// The order of coefficients in a scan (T.81, figure A.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Returns the places for steps of quantisation in the order of the scan.
pub(super) fn places(steps: &[u8; 64]) -> Places {
    let mut places = [0; 64];
    for ((place, index), step) in places.iter_mut().zip(ZIGZAG).zip(steps) {
        *place = u16::from(index) | u16::from(*step) << 8;
    }
    places
}

/// Decoder of a component's blocks.
#[derive(Debug)]
pub(super) struct Coder<'a> {
    pub(super) first: &'a Table,
    pub(super) others: &'a Table,
    pub(super) places: Places,
    /// The first coefficient of the block before, before quantisation.
    pub(super) previous: i32,
}

impl Coder<'_> {
    /// Reads a block of coefficients times their steps into zeros, and returns the sum of their
    /// absolute values. A coefficient may be cut to 16 bits, and then the sum is larger than any of
    /// 16 bits. None if a code is invalid or the data ends.
    #[inline(always)]
    pub(super) fn read(&mut self, data: &[u8], from: &mut Bits, block: &mut Block) -> Option<u32> {
        let mut bits = *from;
        bits.refill(data);
        self.previous += self.first.difference(&mut bits)?;
        // Beyond 16 bits, decoders differ.
        i16::try_from(self.previous).ok()?;
        let mut sum = 0_u32;
        let mut put = |index: usize, value: i32| {
            let place = self.places.get(index)?;
            // 16 bits times 8, 64 times.
            let product = value * i32::from(place >> 8);
            sum += product.unsigned_abs();
            *block.get_mut(usize::from(place & 63))? = product as i16;
            Some(())
        };
        put(0, self.previous)?;
        let mut index = 1;
        while index < 64 {
            bits.refill(data);
            let entry = self.others.entry(bits);
            let mut value = entry.value();
            if value != 0 {
                bits.skip(entry.length());
                index += usize::from(entry.symbol());
            } else {
                let symbol = self.others.symbol(&entry, &mut bits)?;
                match symbol {
                    0 => break,
                    0xf0 => {
                        index += 16;
                        continue;
                    }
                    _ if symbol & 15 == 0 => return None,
                    _ => index += usize::from(symbol >> 4),
                }
                value = bits.value(u32::from(symbol & 15));
            }
            put(index, value)?;
            index += 1;
        }
        *from = bits;
        (!bits.is_overdrawn()).then_some(sum)
    }
}
