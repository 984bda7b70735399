use std::path::Path;

use proptest::prelude::*;

use super::{nth, writer};
use crate::layout::{HEADER_BYTES, SLOT_BYTES, header, slot};
use crate::{ReadError, Reader};

fn good(path: &Path) -> Vec<u8> {
    let writer = writer(path, 3);
    for symbol in ["A", "B"] {
        let slot = writer.add(symbol, "1h", 3600, "m/1").unwrap();
        writer.write(slot, &nth(2));
    }
    drop(writer);
    std::fs::read(path).unwrap()
}

/// Everything that a reader can do; the results are anything but a panic.
fn use_all(path: &Path) -> Result<(), ReadError> {
    let reader = Reader::open(path)?;
    let _ = (reader.about(), reader.alive(), reader.durable_seq());
    let _ = reader.find("A", "1h", "m");
    let _ = reader.find("", "", "");
    for slot in reader.all() {
        let _ = reader.key(slot);
        if let Ok(read) = reader.read_last(slot) {
            let _ = (reader.is_stale(&read), read.label.to_string());
        }
    }
    Ok(())
}

#[test]
fn each_kind_of_wrong_file_has_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let good = good(&path);
    let check = |bytes: &[u8], fits: fn(&ReadError) -> bool| {
        let path = folder.path().join("other");
        std::fs::write(&path, bytes).unwrap();
        let error = Reader::open(&path).err().unwrap();
        assert!(fits(&error), "{error}");
    };
    check(&[], |e| matches!(e, ReadError::Truncated { .. }));
    check(&good[..HEADER_BYTES - 1], |e| matches!(e, ReadError::Truncated { .. }));
    check(&good[..good.len() - 1], |e| matches!(e, ReadError::Truncated { .. }));
    check(&[7; 5000], |e| matches!(e, ReadError::Foreign(_)));
    let mut version = good.clone();
    version[header::VERSION] = 9;
    check(&version, |e| matches!(e, ReadError::OtherVersion { found: 9 }));
    let mut slots = good.clone();
    slots[header::SLOTS + 3] = 0xFF;
    check(&slots, |e| matches!(e, ReadError::Foreign(_)));
    assert!(matches!(Reader::open(folder.path()).err().unwrap(), ReadError::Foreign(_)), "a folder");
    assert!(matches!(Reader::open(&folder.path().join("absent")).err().unwrap(), ReadError::Io(_)));

    let mut state = good.clone();
    state[HEADER_BYTES + slot::STATE] = 200;
    state[HEADER_BYTES + SLOT_BYTES + slot::LENGTHS] = 33;
    std::fs::write(&path, state).unwrap();
    let reader = Reader::open(&path).unwrap();
    let slots: Vec<_> = reader.all().collect();
    assert!(matches!(reader.read_last(slots[0]), Err(ReadError::Foreign(_))));
    assert!(matches!(reader.key(slots[1]), Err(ReadError::Foreign(_))));
    assert!(matches!(reader.read(slots[0]), Err(ReadError::Closed)), "its writer has ended");
    assert_eq!(reader.find("B", "1h", "m"), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(use_all(&path).is_err());
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(
        changes in prop::collection::vec((0usize..HEADER_BYTES + 3 * SLOT_BYTES, any::<u8>()), 1..40),
        length in 0usize..HEADER_BYTES + 4 * SLOT_BYTES,
        cut: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        let mut bytes = good(&path);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if cut {
            bytes.resize(length, 0xAA);
        }
        std::fs::write(&path, bytes).unwrap();
        let _ = use_all(&path);
    }
}
