//! Reads a spool's folder without its lock, beside a process that may be writing: for tools that only look.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::filesystem::{Access, FileSystem, RealFileSystem};
use crate::reader::Entry;
use crate::record::Record;
use crate::scan::{Scanned, Scanner};
use crate::segment::{parse_segment_name, segment_path};

/// Records of all segments there were when it was opened, oldest first. Damaged bytes are passed over: the process
/// that owns the spool reports them.
pub struct FolderReader {
    dir: PathBuf,
    segments: VecDeque<u64>,
    scanner: Option<Scanner>,
}

/// Opens the folder of a spool.
pub fn read_folder(dir: &Path) -> io::Result<FolderReader> {
    let names = RealFileSystem
        .list(dir)
        .map_err(|e| io::Error::new(e.kind(), format!("the spool {} can't be read: {e}", dir.display())))?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    segments.sort_unstable();
    Ok(FolderReader { dir: dir.to_path_buf(), segments: segments.into(), scanner: None })
}

impl FolderReader {
    fn advance(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some(scanner) = &mut self.scanner else {
                let Some(first) = self.segments.pop_front() else { return Ok(None) };
                let opened = RealFileSystem.open(&segment_path(&self.dir, first), Access::Read);
                let file = match opened {
                    Ok(file) => file,
                    // Its owner let it go meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let end = file.length()?;
                self.scanner = Some(Scanner::new(Arc::clone(&file), first, end));
                continue;
            };
            match scanner.next()? {
                Scanned::End => self.scanner = None,
                Scanned::Damage(_) => {}
                Scanned::Frame(frame) => {
                    let payload = scanner.payload(&frame);
                    if let Ok(record) = Record::decode(frame.header.kind, frame.header.version, payload) {
                        return Ok(Some(Entry { position: frame.header.position, record }));
                    }
                }
            }
        }
    }
}

impl Iterator for FolderReader {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if found.is_err() {
            self.segments.clear();
            self.scanner = None;
        }
        found.transpose()
    }
}

#[cfg(test)]
mod tests {
    use market::Timestamp;

    use super::*;
    use crate::{GapReason, GapRecord, Spool, SpoolOptions};

    #[test]
    fn it_reads_beside_the_writer_and_over_segments() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            SpoolOptions { segment_bytes: 1 << 16, limit_bytes: 1 << 20, ..SpoolOptions::default() };
        let (mut spool, _) = Spool::open(dir.path(), options).unwrap();
        let record = |n: u64| {
            Record::Gap(GapRecord {
                from_position: n,
                to_position: n,
                reason: GapReason::Age,
                at: Timestamp(0),
            })
        };
        for n in 0..3000 {
            spool.append(&[record(n)]).unwrap();
        }
        let read: Vec<Entry> = read_folder(dir.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 3000);
        assert!(std::fs::read_dir(dir.path()).unwrap().count() > 3, "several segments");
        for (n, entry) in read.iter().enumerate() {
            assert_eq!((entry.position, &entry.record), (n as u64 + 1, &record(n as u64)));
        }
        assert!(read_folder(&dir.path().join("absent")).is_err());
    }
}
