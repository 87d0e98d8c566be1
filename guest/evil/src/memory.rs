//! Memory: taking too much of it, answering with what is not in it, and looking for what others
//! left in it.
#![expect(
    unsafe_code,
    reason = "no safe code makes such values or reads such memory; nothing else in this crate needs it"
)]

use std::hint::black_box;

/// Where nothing can be: the end of the address space, far above what a guest may grow to.
const OUTSIDE: usize = 0xFFFF_0000;

/// Grows without end.
pub(crate) fn grow() -> ! {
    loop {
        // Written to, so that the system really gives it.
        std::mem::forget(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Calls itself in frames that keep nothing in memory: it is the host's stack that ends.
#[inline(never)]
pub(crate) fn recurse(depth: u64) -> u64 {
    // What is done after the call makes it a real one.
    if black_box(depth) == u64::MAX {
        depth
    } else {
        recurse(depth + 1).rotate_left(1) ^ depth
    }
}

/// Calls itself in frames that keep much: it is the stack in linear memory that ends.
#[inline(never)]
pub(crate) fn recurse_widely(depth: u64) -> u64 {
    let mut frame = [0_u8; 64 << 10];
    black_box(&mut frame).fill(1);
    if black_box(depth) == u64::MAX {
        depth
    } else {
        recurse_widely(depth + 1) + u64::from(black_box(&frame)[0])
    }
}

/// A text that is none.
pub(crate) fn not_utf8() -> String {
    // SAFETY: against the rule of `String`, which is the point. It is only handed to the host: no
    // code here reads it.
    unsafe { String::from_utf8_unchecked(vec![b'a', 0xFF, 0xC0, 0x80]) }
}

/// A text of 4 KiB beyond the end of memory.
pub(crate) fn text_outside() -> String {
    // SAFETY: against the rule of `from_raw_parts`, which is the point. It is only handed to the
    // host, which must trap: no code here reads or frees it.
    unsafe { String::from_raw_parts(std::ptr::without_provenance_mut(OUTSIDE), 4096, 4096) }
}

/// Numbers beyond the end of memory.
pub(crate) fn list_outside() -> Vec<f32> {
    // SAFETY: as in `text_outside`.
    unsafe { Vec::from_raw_parts(std::ptr::without_provenance_mut(OUTSIDE), 4096, 4096) }
}

/// The same list once more, in the same place.
pub(crate) fn again(list: &[f32]) -> Vec<f32> {
    // SAFETY: against the rule of `from_raw_parts`, for memory has many owners then. The caller
    // never frees the list, and the host traps before any copy is.
    unsafe { Vec::from_raw_parts(list.as_ptr().cast_mut(), list.len(), list.len()) }
}

/// Fills 32 MiB with a pattern and leaves them.
pub(crate) fn hide(pattern: &[u8]) {
    let filled: Vec<u8> = pattern.iter().copied().cycle().take(32 << 20).collect();
    std::mem::forget(black_box(filled));
}

/// How often the inverse of `inverted` is in memory, that which is there and 40 MiB more. The
/// inverse itself is never made: it would be found.
pub(crate) fn seek(inverted: &[u8]) -> usize {
    linear::grow(40 << 20);
    let is_there = |start: usize| {
        inverted
            .iter()
            .zip(start..)
            .all(|(byte, address)| linear::read(address) == !byte)
    };
    let last = linear::size().saturating_sub(inverted.len());
    if inverted.is_empty() {
        0
    } else {
        (0..=last).filter(|&start| is_there(start)).count()
    }
}

/// Traps.
pub(crate) fn trap() -> ! {
    linear::trap()
}

/// Linear memory as it is.
#[cfg(target_arch = "wasm32")]
mod linear {
    use core::arch::wasm32;

    /// A page of it in bytes.
    const PAGE: usize = 64 << 10;

    pub(super) fn size() -> usize {
        wasm32::memory_size(0).saturating_mul(PAGE)
    }

    pub(super) fn grow(bytes: usize) {
        wasm32::memory_grow(0, bytes / PAGE);
    }

    /// The byte at an address below [`size`].
    pub(super) fn read(address: usize) -> u8 {
        // SAFETY: every address below the memory's size can be read in WebAssembly, zero too, and a
        // volatile read of memory that is not Rust's own is left as it is.
        unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
    }

    pub(super) fn trap() -> ! {
        wasm32::unreachable()
    }
}

/// There is none natively, where nothing of this is called.
#[cfg(not(target_arch = "wasm32"))]
mod linear {
    pub(super) fn size() -> usize {
        0
    }

    pub(super) fn grow(_bytes: usize) {}

    pub(super) fn read(_address: usize) -> u8 {
        0
    }

    pub(super) fn trap() -> ! {
        std::process::abort()
    }
}
