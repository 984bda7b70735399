//! Walks the frames of one segment, and past damage to the next frame that is whole.

use std::io;
use std::sync::Arc;

use crate::filesystem::StoredFile;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, crc_seed};
use crate::segment::SEGMENT_HEADER_BYTES;

/// Read at once; a longer frame makes the window grow to its length.
const CHUNK_BYTES: usize = 256 << 10;

/// A frame whose CRC holds. Its bytes are valid until the next call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub header: FrameHeader,
    pub offset: u64,
}

/// Bytes that are no frame. A tail has no whole frame after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub offset: u64,
    pub bytes: u64,
    /// The position that was expected there; the next frame's tells how many are lost.
    pub expected_position: u64,
    pub tail: bool,
}

#[derive(Debug)]
pub(crate) enum Scanned {
    Frame(Frame),
    Damage(Damage),
    End,
}

pub(crate) struct Scanner {
    file: Arc<dyn StoredFile>,
    seed: u32,
    /// Bytes `base .. base + filled` of the file.
    window: Vec<u8>,
    base: u64,
    filled: usize,
    /// Of the next frame.
    offset: u64,
    end: u64,
    expected_position: u64,
}

impl Scanner {
    /// Reads frames from behind the header up to the byte `end`.
    pub(crate) fn new(file: Arc<dyn StoredFile>, first_position: u64, end: u64) -> Self {
        Scanner {
            file,
            seed: crc_seed(first_position),
            window: Vec::new(),
            base: SEGMENT_HEADER_BYTES as u64,
            filled: 0,
            offset: SEGMENT_HEADER_BYTES as u64,
            end,
            expected_position: first_position,
        }
    }

    /// The file has grown; `end` never goes back.
    pub(crate) fn extend_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn file_length(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// The position after the last frame returned.
    pub(crate) fn expected_position(&self) -> u64 {
        self.expected_position
    }

    pub(crate) fn next(&mut self) -> io::Result<Scanned> {
        if self.offset >= self.end {
            return Ok(Scanned::End);
        }
        if let Some(frame) = self.frame_at(self.offset)? {
            self.offset += frame.bytes();
            self.expected_position = frame.header.position + 1;
            return Ok(Scanned::Frame(frame));
        }
        let start = self.offset;
        let found = self.find_frame(start + 1)?;
        self.offset = found.unwrap_or(self.end);
        Ok(Scanned::Damage(Damage {
            offset: start,
            bytes: self.offset - start,
            expected_position: self.expected_position,
            tail: found.is_none(),
        }))
    }

    /// Header and payload of the frame that [`next`](Scanner::next) gave last.
    pub(crate) fn frame_bytes(&self, frame: &Frame) -> &[u8] {
        let start = (frame.offset - self.base) as usize;
        &self.window[start..start + frame.bytes() as usize]
    }

    pub(crate) fn payload(&self, frame: &Frame) -> &[u8] {
        &self.frame_bytes(frame)[FRAME_HEADER_BYTES..]
    }

    fn find_frame(&mut self, from: u64) -> io::Result<Option<u64>> {
        let last = self.end.saturating_sub(FRAME_HEADER_BYTES as u64);
        for offset in from..=last {
            if self.frame_at(offset)?.is_some() {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn frame_at(&mut self, offset: u64) -> io::Result<Option<Frame>> {
        let expected_position = self.expected_position;
        let seed = self.seed;
        let Some(bytes) = self.bytes_at(offset, FRAME_HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = bytes.first_chunk().and_then(FrameHeader::parse) else { return Ok(None) };
        if header.position < expected_position || header.position == u64::MAX {
            return Ok(None);
        }
        let Some(bytes) = self.bytes_at(offset, FRAME_HEADER_BYTES + header.length)? else { return Ok(None) };
        Ok(header.matches(seed, bytes).then_some(Frame { header, offset }))
    }

    /// None beyond `end`. Offsets only grow from call to call, but for going back within the window.
    fn bytes_at(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if offset + count as u64 > self.end {
            return Ok(None);
        }
        if offset < self.base || offset + count as u64 > self.base + self.filled as u64 {
            self.fill(offset, count)?;
        }
        let start = (offset - self.base) as usize;
        Ok(Some(&self.window[start..start + count]))
    }

    fn fill(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let window_end = self.base + self.filled as u64;
        if (self.base..window_end).contains(&offset) {
            let start = (offset - self.base) as usize;
            self.window.copy_within(start..self.filled, 0);
            self.filled -= start;
        } else {
            self.filled = 0;
        }
        self.base = offset;
        let wanted = (count.max(CHUNK_BYTES) as u64).min(self.end - offset) as usize;
        if self.window.len() < wanted {
            self.window.resize(wanted, 0);
        }
        self.filled +=
            self.file.read_at(&mut self.window[self.filled..wanted], offset + self.filled as u64)?;
        if self.filled < count {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the segment is shorter than it was"));
        }
        Ok(())
    }
}

impl Frame {
    pub(crate) fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.header.length) as u64
    }
}
