//! Buffers of one worker, lent to connections for as long as they have something in them: an idle
//! connection has none.

use std::cell::RefCell;

/// Bytes of a buffer for heads, and for bodies on their way.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
pub(super) const LARGE_BYTES: usize = 64 * 1024;
/// Buffers that are kept when nobody needs them: as many as are in use in one turn of the event
/// loop, or in the middle of a response.
const SMALL_KEPT: usize = 64;
const LARGE_KEPT: usize = 16;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of [`SMALL_BYTES`].
    pub(super) fn small(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL_BYTES))
    }

    /// An empty buffer of [`LARGE_BYTES`].
    pub(super) fn large(&self) -> Vec<u8> {
        self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES))
    }

    /// Takes a buffer back. One that grew, or was never one of these, is dropped.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let (kept, most) = match buffer.capacity() {
            SMALL_BYTES => (&self.small, SMALL_KEPT),
            LARGE_BYTES => (&self.large, LARGE_KEPT),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < most {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_only_of_the_two_sizes() {
        let buffers = Buffers::default();
        let mut first = buffers.small();
        first.push(1);
        let at = first.as_ptr();
        buffers.give(first);
        buffers.give(Vec::new());
        let again = buffers.small();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert_eq!(buffers.small().capacity(), SMALL_BYTES);
        buffers.give(buffers.large());
        assert_eq!(buffers.large().capacity(), LARGE_BYTES);
    }
}
