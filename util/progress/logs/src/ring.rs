/// The last bytes of a stream, up to a capacity.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    capacity: usize,
    /// Where the next byte goes once it is full; the oldest one is there.
    next: usize,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::new(), capacity, next: 0 }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        let mut data = &data[data.len().saturating_sub(self.capacity)..];
        let room = (self.capacity - self.bytes.len()).min(data.len());
        self.bytes.extend_from_slice(&data[..room]);
        data = &data[room..];
        while !data.is_empty() {
            let length = data.len().min(self.capacity - self.next);
            self.bytes[self.next..self.next + length].copy_from_slice(&data[..length]);
            self.next = (self.next + length) % self.capacity;
            data = &data[length..];
        }
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.rotate_left(self.next);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_last_bytes(writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let mut ring = Ring::new(16);
            for write in &writes {
                ring.push(write);
            }
            let all = writes.concat();
            prop_assert_eq!(ring.into_bytes(), &all[all.len().saturating_sub(16)..]);
        }
    }
}
