//! A bitmap that costs nothing while no bit is set: most columns have neither nulls nor unchanged values.

use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

/// A bit per row, zero where nothing was set. Its length is the caller's row count.
#[derive(Default, Debug)]
pub(crate) struct Mask {
    bytes: Vec<u8>,
}

impl Mask {
    /// Sets the bit of `row`.
    #[inline]
    pub(crate) fn set(&mut self, row: usize) {
        let (byte, bit) = (row / 8, 1 << (row % 8));
        match self.bytes.get_mut(byte) {
            Some(found) => *found |= bit,
            None => {
                self.bytes.resize(byte, 0);
                self.bytes.push(bit);
            }
        }
    }

    /// Whether the bit of `row` is set.
    pub(crate) fn is_set(&self, row: usize) -> bool {
        self.bytes.get(row / 8).is_some_and(|byte| byte & (1 << (row % 8)) != 0)
    }

    /// Forgets the bits from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.bytes.truncate(rows.div_ceil(8));
        if let Some(last) = self.bytes.get_mut(rows / 8) {
            *last &= (1 << (rows % 8)) - 1;
        }
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
    }

    /// The bits of `rows` rows; the mask is empty afterwards.
    pub(crate) fn take(&mut self, rows: usize) -> BooleanBuffer {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(rows.div_ceil(8), 0);
        BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows)
    }

    /// The same, `None` when no bit is set.
    pub(crate) fn take_some(&mut self, rows: usize) -> Option<BooleanBuffer> {
        if self.bytes.iter().all(|&byte| byte == 0) {
            self.bytes.clear();
            return None;
        }
        Some(self.take(rows))
    }

    /// As nulls: a set bit is a null.
    pub(crate) fn take_nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        let bits = self.take_some(rows)?;
        Some(NullBuffer::new(!&bits))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain vector of flags.
        #[test]
        fn bits_are_those_that_were_set(steps in prop::collection::vec((any::<bool>(), 0usize..60), 0..80)) {
            let (mut mask, mut model) = (Mask::default(), Vec::new());
            for (set, keep) in steps {
                if keep < 6 {
                    model.truncate(keep * 7);
                    mask.truncate(keep * 7);
                }
                if set {
                    mask.set(model.len());
                }
                model.push(set);
            }
            for (row, &set) in model.iter().enumerate() {
                prop_assert_eq!(mask.is_set(row), set);
            }
            let taken = mask.take_some(model.len());
            prop_assert_eq!(taken.is_some(), model.contains(&true));
            if let Some(bits) = taken {
                prop_assert_eq!(bits.iter().collect::<Vec<_>>(), model);
            }
            prop_assert_eq!(mask.bytes(), 0);
        }
    }
}
