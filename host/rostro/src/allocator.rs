//! How the C library's allocator, which this process shares with ONNX Runtime, keeps memory.
//!
//! Left alone, it has a heap for each thread and raises the size from which memory is given back at
//! once to that of the largest block ever freed. After some frames of a crowd it held 200 MB that
//! nobody used (`docs/performance.md`).

/// Two heaps are enough: threads allocate rarely, and large blocks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Blocks of so many bytes go back to the system when they are freed. The tensors of a usual frame
/// are smaller: faulting their pages in anew takes longer than their use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 6 << 20;

/// Sets this up, before there are threads. Elsewhere than with glibc there is nothing to set.
pub(crate) fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, HEAPS),
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
    ] {
        #[expect(
            unsafe_code,
            reason = "a call of the C library for which there is no other way"
        )]
        // SAFETY: mallopt takes two numbers, says no to those that it does not know, and takes the
        // allocator's own lock.
        let is_set = unsafe { libc::mallopt(parameter, value) };
        // It costs memory, no more.
        let _ = is_set;
    }
}
