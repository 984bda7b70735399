//! A stream's state as bytes and back, exactly: [`Writer`], [`Reader`], [`State`] and
//! [`state!`](crate::state!).
//!
//! Little-endian, lengths as u32, floats by their bits. A snapshot is read only by the component that wrote
//! it, so it carries no version.

use std::collections::VecDeque;

/// Collects a snapshot.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Writer::default()
    }

    pub fn put(&mut self, value: &impl State) {
        value.write(self);
    }

    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a snapshot in the order in which it was written.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Replaces `value` by the next one.
    pub fn take(&mut self, value: &mut impl State) -> Result<(), String> {
        value.read(self)
    }

    pub fn take_bytes(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| format!("the snapshot ends {} bytes early", len - self.rest.len()))?;
        self.rest = rest;
        Ok(head)
    }

    /// Refuses a snapshot that holds more than was read.
    pub fn finish(self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(format!("the snapshot has {n} bytes too many")),
        }
    }
}

/// What can stand in a snapshot.
pub trait State {
    fn write(&self, to: &mut Writer);
    /// Replaces `self`. After an error `self` may be half replaced: throw it away.
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String>;
}

macro_rules! plain_state {
    ($($number:ty),*) => {$(
        impl State for $number {
            fn write(&self, to: &mut Writer) {
                to.put_bytes(&self.to_le_bytes());
            }
            fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
                let bytes = from.take_bytes(size_of::<$number>())?;
                *self = <$number>::from_le_bytes(bytes.try_into().map_err(|_| "a number of the wrong size")?);
                Ok(())
            }
        }
    )*};
}
plain_state!(u8, u32, u64, i64, f32, f64);

impl State for bool {
    fn write(&self, to: &mut Writer) {
        to.put(&u8::from(*self));
    }
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        let mut byte = 0u8;
        from.take(&mut byte)?;
        match byte {
            0 | 1 => *self = byte == 1,
            other => return Err(format!("the snapshot has {other} where 0 or 1 belongs")),
        }
        Ok(())
    }
}

impl<T: State + Default> State for Option<T> {
    fn write(&self, to: &mut Writer) {
        to.put(&self.is_some());
        if let Some(value) = self {
            to.put(value);
        }
    }
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        let mut some = false;
        from.take(&mut some)?;
        *self = None;
        if some {
            from.take(self.insert(T::default()))?;
        }
        Ok(())
    }
}

impl<T: State, const N: usize> State for [T; N] {
    fn write(&self, to: &mut Writer) {
        self.iter().for_each(|value| to.put(value));
    }
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        self.iter_mut().try_for_each(|value| from.take(value))
    }
}

impl<T: State + Default> State for VecDeque<T> {
    fn write(&self, to: &mut Writer) {
        write_all(self.len(), self.iter(), to);
    }
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        self.clear();
        read_all(from, |value| self.push_back(value))
    }
}

impl<T: State + Default> State for Vec<T> {
    fn write(&self, to: &mut Writer) {
        write_all(self.len(), self.iter(), to);
    }
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        self.clear();
        read_all(from, |value| self.push(value))
    }
}

fn write_all<'a, T: State + 'a>(len: usize, values: impl Iterator<Item = &'a T>, to: &mut Writer) {
    to.put(&u32::try_from(len).expect("a list of fewer than 2^32 values"));
    values.for_each(|value| to.put(value));
}

fn read_all<T: State + Default>(from: &mut Reader<'_>, mut push: impl FnMut(T)) -> Result<(), String> {
    let mut len = 0u32;
    from.take(&mut len)?;
    // Every value has at least one byte, so this bounds the loop by the snapshot's own size.
    if len as usize > from.rest.len() {
        return Err(format!("the snapshot has a list of {len} values, more than its bytes"));
    }
    for _ in 0..len {
        let mut value = T::default();
        from.take(&mut value)?;
        push(value);
    }
    Ok(())
}

/// Writes `snapshot` and `restore` of a [`FeatureSet`](crate::FeatureSet) from the fields that change:
/// `state!(closes, average);`. Without fields, `state!();`, there is none.
#[macro_export]
macro_rules! state {
    ($($field:ident),* $(,)?) => {
        fn snapshot(&self, to: &mut $crate::Writer) {
            let _ = &to;
            $(to.put(&self.$field);)*
        }
        fn restore(&mut self, from: &mut $crate::Reader<'_>) -> Result<(), String> {
            let _ = &from;
            $(from.take(&mut self.$field)?;)*
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    type Everything = (Option<f64>, VecDeque<f64>, [u32; 2], bool, i64);

    fn write(value: &Everything) -> Vec<u8> {
        let mut to = Writer::new();
        to.put(&value.0);
        to.put(&value.1);
        to.put(&value.2);
        to.put(&value.3);
        to.put(&value.4);
        to.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Everything, String> {
        let mut value = Everything::default();
        let mut from = Reader::new(bytes);
        from.take(&mut value.0)?;
        from.take(&mut value.1)?;
        from.take(&mut value.2)?;
        from.take(&mut value.3)?;
        from.take(&mut value.4)?;
        from.finish()?;
        Ok(value)
    }

    #[test]
    fn every_bit_comes_back() {
        let value =
            (Some(-0.0), VecDeque::from([1.0, f64::MIN_POSITIVE / 4.0, 1.0 / 3.0]), [7, u32::MAX], true, -9);
        let back = read(&write(&value)).unwrap();
        assert_eq!(back, value);
        assert!(back.0.unwrap().is_sign_negative());
        let nan = f64::from_bits(0x7ff8_0000_0000_1234);
        let back = read(&write(&(Some(nan), VecDeque::new(), [0, 0], false, 0))).unwrap();
        assert_eq!(back.0.unwrap().to_bits(), nan.to_bits());
    }

    #[test]
    fn cut_long_and_broken_snapshots_are_refused() {
        let bytes = write(&(Some(1.0), VecDeque::from([2.0]), [3, 4], true, 5));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(read(&long).unwrap_err(), "the snapshot has 1 bytes too many");
        let mut broken = bytes.clone();
        broken[0] = 2;
        assert_eq!(read(&broken).unwrap_err(), "the snapshot has 2 where 0 or 1 belongs");
        broken = bytes;
        broken[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&broken).unwrap_err().contains("more than its bytes"));
    }
}
