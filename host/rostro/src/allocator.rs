//! Settings of glibc's allocator, which this process shares with ONNX Runtime.
//!
//! By default it keeps a heap for each thread, and raises its threshold for returning memory to the
//! size of the largest freed block. After some frames of a crowd it held 200 MB of unused memory
//! (`docs/performance.md`).

/// Number of heaps. Two are enough, because threads allocate rarely, and in large blocks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Size in bytes from which a freed block returns to the system at once. Tensors of a usual frame
/// are smaller, because faulting their pages in again takes longer than their use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 6 << 20;

/// Applies the settings; must run before threads start. Does nothing without glibc.
pub(crate) fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, HEAPS),
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
    ] {
        #[expect(unsafe_code, reason = "no safe wrapper of this C function exists")]
        // SAFETY: mallopt takes two numbers, rejects unknown ones, and takes the allocator's own
        // lock.
        let is_set = unsafe { libc::mallopt(parameter, value) };
        // A failure costs memory only.
        let _ = is_set;
    }
}

/// Returns unused memory to the system. A start reads the samples of all people at once, which
/// would stay with the allocator: as much as their templates take, or four times that in 8 bits.
/// Does nothing without glibc.
pub(crate) fn return_unused() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "no safe wrapper of this C function exists")]
        // SAFETY: malloc_trim takes a number of bytes to keep, and the allocator's own lock.
        let is_returned = unsafe { libc::malloc_trim(0) };
        // There may be nothing to return.
        let _ = is_returned;
    }
}
