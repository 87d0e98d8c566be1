//! Abuse of memory: exhaustion, values outside it, and a search for data of earlier requests.
#![expect(
    unsafe_code,
    reason = "no safe code makes such values or reads such memory; nothing else in this crate needs it"
)]

use std::hint::black_box;

/// An address near the end of the address space, far above the memory limit of a guest.
const OUTSIDE: usize = 0xFFFF_0000;

/// Allocates without end.
pub(crate) fn grow() -> ! {
    loop {
        // Writes to the memory, so that the system provides it.
        std::mem::forget(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Recurses in frames without data in memory, to exhaust the host's stack.
#[inline(never)]
pub(crate) fn recurse(depth: u64) -> u64 {
    // Work after the call prevents tail-call elimination.
    if black_box(depth) == u64::MAX {
        depth
    } else {
        recurse(depth + 1).rotate_left(1) ^ depth
    }
}

/// Recurses in large frames, to exhaust the stack in linear memory.
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

/// Returns a string that is not UTF-8.
pub(crate) fn not_utf8() -> String {
    // SAFETY: deliberately breaks the rule of `String`. The value goes only to the host; no code
    // here reads it.
    unsafe { String::from_utf8_unchecked(vec![b'a', 0xFF, 0xC0, 0x80]) }
}

/// Returns a string of 4 KiB beyond the end of memory.
pub(crate) fn text_outside() -> String {
    // SAFETY: deliberately breaks the rule of `from_raw_parts`. The value goes only to the host,
    // which must trap; no code here reads or frees it.
    unsafe { String::from_raw_parts(std::ptr::without_provenance_mut(OUTSIDE), 4096, 4096) }
}

/// Returns numbers beyond the end of memory.
pub(crate) fn list_outside() -> Vec<f32> {
    // SAFETY: as in `text_outside`.
    unsafe { Vec::from_raw_parts(std::ptr::without_provenance_mut(OUTSIDE), 4096, 4096) }
}

/// Returns an alias of the list.
pub(crate) fn alias(list: &[f32]) -> Vec<f32> {
    // SAFETY: deliberately breaks the rule of `from_raw_parts`, because the memory then has many
    // owners. The caller never frees the list, and the host traps before a copy is freed.
    unsafe { Vec::from_raw_parts(list.as_ptr().cast_mut(), list.len(), list.len()) }
}

/// Fills 32 MiB with a pattern and leaks them.
pub(crate) fn hide(pattern: &[u8]) {
    let filled: Vec<u8> = pattern.iter().copied().cycle().take(32 << 20).collect();
    std::mem::forget(black_box(filled));
}

/// Counts the inverse of `inverted` in memory and in 40 MiB more. The inverse itself is never
/// stored, because the search would find it.
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

/// Access to linear memory.
#[cfg(target_arch = "wasm32")]
mod linear {
    use core::arch::wasm32;

    /// Size of a page in bytes.
    const PAGE: usize = 64 << 10;

    pub(super) fn size() -> usize {
        wasm32::memory_size(0).saturating_mul(PAGE)
    }

    pub(super) fn grow(bytes: usize) {
        wasm32::memory_grow(0, bytes / PAGE);
    }

    /// Reads the byte at an address below [`size`].
    pub(super) fn read(address: usize) -> u8 {
        // SAFETY: WebAssembly can read every address below the memory's size, including zero. A
        // volatile read does not disturb memory that Rust does not own.
        unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
    }

    pub(super) fn trap() -> ! {
        wasm32::unreachable()
    }
}

/// Stubs for native builds, which call none of this.
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
