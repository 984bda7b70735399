//! Page headers of Parquet, looked at before the decoder believes them.
//!
//! The decoder reserves what a header claims, so a few bytes can ask it for more memory than there is, which ends
//! the process. [`check_header`] reads just enough of the header (Thrift's compact protocol, `parquet.thrift` of
//! apache/parquet-format) to refuse that.

use crate::read::options::Limits;

/// Bytes of a header that are looked at; real ones are below 1 KiB unless they hold long statistics.
pub(super) const HEADER_BYTES_MAX: u64 = 64 << 10;
const DEPTH_MAX: usize = 8;
/// Plain, plain dictionary, RLE, packed deltas, RLE dictionary, byte stream split. The decoders of the rest reserve
/// what the page's body claims.
const ENCODINGS: [i64; 6] = [0, 2, 3, 5, 8, 9];

/// What a header says; None where it doesn't.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    plain_bytes: Option<i64>,
    values: Option<i64>,
    encoding: Option<i64>,
    dictionary: bool,
}

/// Checks the header at the start of `bytes`. Gives the page's size after decompression.
pub(super) fn check_header(bytes: &[u8], limits: &Limits) -> Result<u64, String> {
    let header = Walk { bytes, at: 0 }.header().ok_or("a page header is not as the format says")?;
    let plain_bytes =
        header.plain_bytes.and_then(|n| u64::try_from(n).ok()).ok_or("a page without a size")?;
    if plain_bytes > limits.page_bytes {
        return Err(format!("a page of {plain_bytes} bytes; the limit is {}", limits.page_bytes));
    }
    let values = header.values.and_then(|n| u64::try_from(n).ok()).ok_or("a page without a count")?;
    // A dictionary is reserved in full, and no value in it takes less than a byte.
    if values > if header.dictionary { plain_bytes } else { limits.rows } {
        return Err(format!("a page that claims {values} values"));
    }
    match header.encoding {
        Some(encoding) if !ENCODINGS.contains(&encoding) => {
            Err(format!("encoding {encoding} is not read; write it plain or with a dictionary"))
        }
        _ => Ok(plain_bytes),
    }
}

/// Thrift, compact. None where it breaks off, nests too deep or names a field twice.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn header(&mut self) -> Option<Header> {
        let mut header = Header::default();
        let mut last = 0;
        while let Some((field, kind)) = self.field(&mut last)? {
            match (field, kind) {
                (2, 5) => once(&mut header.plain_bytes, self.zigzag()?)?,
                (5 | 7 | 8, 12) => {
                    header.dictionary = field == 7;
                    self.page(field, &mut header)?;
                }
                _ => self.skip(kind, DEPTH_MAX)?,
            }
        }
        Some(header)
    }

    /// The struct of a data page (5), a dictionary page (7) or a data page of version 2 (8).
    fn page(&mut self, page: i64, header: &mut Header) -> Option<()> {
        let encoding = if page == 8 { 4 } else { 2 };
        let mut last = 0;
        while let Some((field, kind)) = self.field(&mut last)? {
            match (field, kind) {
                (1, 5) => once(&mut header.values, self.zigzag()?)?,
                (at, 5) if at == encoding => once(&mut header.encoding, self.zigzag()?)?,
                _ => self.skip(kind, DEPTH_MAX)?,
            }
        }
        Some(())
    }

    /// The next field's number and type; `Some(None)` at the end of the struct.
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        let kind = byte & 15;
        if kind == 0 {
            return Some(None);
        }
        let field = match i64::from(byte >> 4) {
            0 => self.zigzag()?,
            delta => *last + delta,
        };
        if field <= *last {
            return None;
        }
        *last = field;
        Some(Some((field, kind)))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => {}
            3 => self.advance(1)?,
            4..=6 => drop(self.varint()?),
            7 => self.advance(8)?,
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.advance(length)?;
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    // A boolean in a list takes a byte.
                    self.skip(if byte & 15 <= 2 { 3 } else { byte & 15 }, depth)?;
                }
            }
            12 => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|&at| at <= self.bytes.len())?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }
}

fn once(slot: &mut Option<i64>, value: i64) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A v1 page header: type, plain size, packed size, then the struct of `page` with count and encoding.
    fn header(plain: i64, page: u8, values: i64, encoding: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x00, 0x15];
        varint(&mut bytes, plain);
        bytes.extend([0x15, 0x02, ((page - 3) << 4) | 12, 0x15]);
        varint(&mut bytes, values);
        bytes.extend([0x15, encoding * 2, 0, 0]);
        bytes
    }

    fn varint(bytes: &mut Vec<u8>, value: i64) {
        let mut n = ((value << 1) ^ (value >> 63)) as u64;
        while n > 127 {
            bytes.push(n as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
    }

    #[test]
    fn takes_honest_pages_and_refuses_greedy_ones() {
        let limits = Limits::default();
        assert_eq!(check_header(&header(100, 5, 12, 0), &limits), Ok(100));
        assert_eq!(check_header(&header(100, 7, 12, 2), &limits), Ok(100));
        let refused = |bytes: &[u8]| check_header(bytes, &limits).expect_err("refused");
        assert!(refused(&header(2_000_000_000, 5, 12, 0)).contains("2000000000 bytes"));
        assert!(refused(&header(100, 7, 2_000_000_000, 0)).contains("claims 2000000000"));
        assert!(refused(&header(100, 5, 2_000_000_000, 0)).contains("claims 2000000000"));
        assert!(refused(&header(-1, 5, 12, 0)).contains("size"));
        assert!(refused(&header(100, 5, 12, 7)).contains("encoding 7"));
        assert!(refused(&[]).contains("format"));
    }

    #[test]
    fn a_field_said_twice_is_refused() {
        // Field 2 again, in the long form, after field 3: the decoder would take the later one.
        let bytes = [0x15, 0x00, 0x15, 0x02, 0x15, 0x02, 0x05, 0x04, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(check_header(&bytes, &Limits::default()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = check_header(&bytes, &Limits::default());
        }
    }
}
