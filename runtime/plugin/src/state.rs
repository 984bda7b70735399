//! A stream's snapshot: what the guest wrote, in an envelope that says whose it is and how far it has come.
//!
//! ```text
//! "APS1" | component SHA-256 (32) | options SHA-256 (32) | rows u64 | state length u32 | state | SHA-256 of all
//! before, first 8 bytes                                                      (integers are little-endian)
//! ```

use std::fmt;

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 4] = b"APS1";
const HEADER_BYTES: usize = 4 + 32 + 32 + 8 + 4;
const CHECK_BYTES: usize = 8;

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) component: [u8; 32],
    pub(crate) options: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateError {
    Damaged,
    OtherComponent,
    OtherOptions,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateError::Damaged => "the snapshot is damaged or not one; replay the bars instead",
            StateError::OtherComponent => "the snapshot is of another component; replay the bars instead",
            StateError::OtherOptions => "the snapshot was made with other options; replay the bars instead",
        })
    }
}

/// `rows` is how many the stream has given.
pub(crate) fn seal(owner: &Owner, rows: u64, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len() + CHECK_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&owner.component);
    bytes.extend_from_slice(&owner.options);
    bytes.extend_from_slice(&rows.to_le_bytes());
    bytes.extend_from_slice(&(state.len() as u32).to_le_bytes());
    bytes.extend_from_slice(state);
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..CHECK_BYTES]);
    bytes
}

/// The rows and the guest's state.
pub(crate) fn open<'a>(owner: &Owner, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), StateError> {
    let end =
        bytes.len().checked_sub(CHECK_BYTES).filter(|&end| end >= HEADER_BYTES).ok_or(StateError::Damaged)?;
    let (body, check) = bytes.split_at(end);
    if !body.starts_with(MAGIC) || Sha256::digest(body)[..CHECK_BYTES] != *check {
        return Err(StateError::Damaged);
    }
    let (header, state) = body.split_at(HEADER_BYTES);
    let length = u32::from_le_bytes([header[76], header[77], header[78], header[79]]);
    if length as usize != state.len() {
        return Err(StateError::Damaged);
    }
    if header[4..36] != owner.component {
        return Err(StateError::OtherComponent);
    }
    if header[36..68] != owner.options {
        return Err(StateError::OtherOptions);
    }
    let mut rows = [0; 8];
    rows.copy_from_slice(&header[68..76]);
    Ok((u64::from_le_bytes(rows), state))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: Owner = Owner { component: [1; 32], options: [2; 32] };

    #[test]
    fn only_its_owner_opens_it() {
        let bytes = seal(&OWNER, 7, b"abc");
        assert_eq!(open(&OWNER, &bytes), Ok((7, b"abc".as_slice())));
        assert_eq!(open(&Owner { component: [3; 32], ..OWNER }, &bytes), Err(StateError::OtherComponent));
        assert_eq!(open(&Owner { options: [3; 32], ..OWNER }, &bytes), Err(StateError::OtherOptions));
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_found(state in prop::collection::vec(any::<u8>(), 0..50), at in any::<usize>(), x in 1u8..) {
            let mut bytes = seal(&OWNER, 3, &state);
            let at = at % bytes.len();
            bytes[at] ^= x;
            prop_assert_eq!(open(&OWNER, &bytes), Err(StateError::Damaged));
        }

        #[test]
        fn a_cut_one_is_found(state in prop::collection::vec(any::<u8>(), 0..50), cut in any::<usize>()) {
            let bytes = seal(&OWNER, 3, &state);
            prop_assert_eq!(open(&OWNER, &bytes[..cut % bytes.len()]), Err(StateError::Damaged));
        }
    }
}
