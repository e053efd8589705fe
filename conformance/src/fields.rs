//! What a command brought, read at the offsets that a standard gives.

use crate::check::{Finding, violation};

/// Bytes with a name. To read where there are none is a violation: the field should be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    what: &'a str,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The bytes of something that is called `what` in messages.
    pub(crate) fn of(what: &'a str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    /// One byte.
    pub(crate) fn byte(&self, at: usize) -> Result<u8, Finding> {
        let [byte] = self.array(at)?;
        Ok(byte)
    }

    /// Two bytes, big endian.
    pub(crate) fn two(&self, at: usize) -> Result<u16, Finding> {
        Ok(u16::from_be_bytes(self.array(at)?))
    }

    /// Four bytes, big endian.
    pub(crate) fn four(&self, at: usize) -> Result<u32, Finding> {
        Ok(u32::from_be_bytes(self.array(at)?))
    }

    /// Eight bytes, big endian.
    pub(crate) fn eight(&self, at: usize) -> Result<u64, Finding> {
        Ok(u64::from_be_bytes(self.array(at)?))
    }

    /// So many bytes from an offset on.
    pub(crate) fn part(&self, at: usize, bytes: usize) -> Result<&'a [u8], Finding> {
        let part = self.bytes.get(at..).and_then(|rest| rest.get(..bytes));
        match part {
            Some(part) => Ok(part),
            None => violation!(
                "{}: {} bytes came, and the field at byte {at} has {bytes}",
                self.what,
                self.bytes.len()
            ),
        }
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Finding> {
        let mut array = [0; N];
        array.copy_from_slice(self.part(at, N)?);
        Ok(array)
    }
}
