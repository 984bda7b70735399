//! A source of Parquet that never gives the decoder more to reserve than the limits say.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::page::{HEADER_BYTES_MAX, check_header};
use crate::read::options::Limits;

/// A source that looks at each page header before the decoder does, and never reserves more than the file holds.
pub(super) struct Guarded<R> {
    inner: R,
    limits: Limits,
    /// Of the pages met so far, after decompression.
    plain_bytes: AtomicU64,
}

impl<R> Guarded<R> {
    pub(super) fn new(inner: R, limits: Limits) -> Self {
        Guarded { inner, limits, plain_bytes: AtomicU64::new(0) }
    }
}

impl<R: ChunkReader> Length for Guarded<R> {
    fn len(&self) -> u64 {
        self.inner.len()
    }
}

impl<R: ChunkReader> ChunkReader for Guarded<R> {
    type T = R::T;

    /// The page reader asks for this where a page header starts, and nowhere else.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut header = Vec::new();
        self.inner.get_read(start)?.take(HEADER_BYTES_MAX).read_to_end(&mut header)?;
        let plain_bytes = check_header(&header, &self.limits).map_err(ParquetError::General)?;
        let sum = self.plain_bytes.fetch_add(plain_bytes, Ordering::Relaxed) + plain_bytes;
        if sum > self.limits.plain_bytes {
            return Err(ParquetError::General(format!(
                "more than {} bytes of pages",
                self.limits.plain_bytes
            )));
        }
        self.inner.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.inner.len()) {
            return Err(ParquetError::EOF("a page reaches past the end".to_owned()));
        }
        self.inner.get_bytes(start, length)
    }
}
