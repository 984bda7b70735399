//! One record on the disk: a header of 20 bytes and the payload, under one CRC.
//!
//! ```text
//! 0        4          8             16     17        18         20
//! | crc u32 | length u32 | position u64 | kind u8 | version u8 | marker u16 | payload, length bytes |
//! ```
//!
//! The CRC (CRC-32, IEEE) covers all that follows it and starts from the segment's first position, so that bytes
//! of another segment never pass. The marker is what a reader looks for after damage.

use crate::error::RecordError;
use crate::record::{PAYLOAD_BYTES_MAX, Record};

pub(crate) const FRAME_HEADER_BYTES: usize = 20;
const MARKER: [u8; 2] = [0xA7, 0x5B];

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub crc: u32,
    pub length: usize,
    pub position: u64,
    pub kind: u8,
    pub version: u8,
}

/// What the CRCs of a segment start from.
pub(crate) fn crc_seed(first_position: u64) -> u32 {
    crc32fast::hash(&first_position.to_le_bytes())
}

fn crc(seed: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(covered);
    hasher.finalize()
}

/// Appends one frame to `out`; on an error `out` is as before.
pub(crate) fn push_frame(
    out: &mut Vec<u8>,
    seed: u32,
    position: u64,
    record: &Record,
) -> Result<(), RecordError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    if let Err(error) = record.encode(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = out.len() - start - FRAME_HEADER_BYTES;
    assert!(length <= PAYLOAD_BYTES_MAX, "the field limits bound every payload");
    let frame = &mut out[start..];
    frame[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    frame[8..16].copy_from_slice(&position.to_le_bytes());
    frame[16] = record.kind();
    frame[17] = record.version();
    frame[18..20].copy_from_slice(&MARKER);
    let crc = crc(seed, &frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

impl FrameHeader {
    /// None where no frame can begin: wrong marker or an impossible length.
    pub(crate) fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<FrameHeader> {
        let [c0, c1, c2, c3, l0, l1, l2, l3, position @ .., kind, version, m0, m1] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if [m0, m1] != MARKER || length > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(FrameHeader {
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            length,
            position: u64::from_le_bytes(position),
            kind,
            version,
        })
    }

    /// `frame` is header and payload.
    pub(crate) fn matches(&self, seed: u32, frame: &[u8]) -> bool {
        crc(seed, &frame[4..]) == self.crc
    }
}
