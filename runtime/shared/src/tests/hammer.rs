use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{is_whole, nth, writer};
use crate::{ReadError, Reader};

#[test]
fn no_reader_ever_sees_half_of_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let writer = writer(&path, 4);
    let slots = ["A", "B"].map(|s| writer.add(s, "1h", 3600, "m/1").unwrap());
    for slot in slots {
        writer.write(slot, &nth(0));
    }
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = Reader::open(&path).unwrap();
                let found = ["A", "B"].map(|s| reader.find(s, "1h", "m").unwrap());
                assert_eq!(found, slots);
                let mut newest = [0; 2];
                while !stop.load(Ordering::Relaxed) {
                    for (slot, newest) in found.into_iter().zip(&mut newest) {
                        let read = match reader.read(slot) {
                            Ok(read) => read,
                            // The writer may be kept from running in the middle of a write.
                            Err(ReadError::Torn) => continue,
                            Err(error) => panic!("{error}"),
                        };
                        assert!(is_whole(&read), "{read:?}");
                        assert!(read.seq >= *newest, "{} after {newest}", read.seq);
                        *newest = read.seq;
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_millis(1500);
        let mut n = 0;
        while Instant::now() < until {
            n += 1;
            writer.write(slots[n as usize % 2], &nth(n));
            writer.set_durable_seq(n / 2);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(n > 10_000, "{n} writes");
    });
    assert!(reads.load(Ordering::Relaxed) > 10_000);
}
