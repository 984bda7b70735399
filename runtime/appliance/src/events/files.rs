//! The files of the event log: where its end is, how a line gets there, and which of them hold which numbers.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::line::Line;
use super::{Events, EventsError, LINE_BYTES_MAX};

/// A larger file isn't read: nobody writes one.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Where the next line goes.
pub(super) struct End {
    /// Of whole lines in the newest file; behind them is what a killed writer left.
    pub whole_bytes: u64,
    /// The next event's number.
    pub next: u64,
    /// Of the last line.
    pub chain: String,
}

/// A file as it was when it was opened.
pub(super) struct Part {
    pub path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    pub fn read(&self) -> Result<Vec<u8>, EventsError> {
        if self.bytes > FILE_BYTES_MAX {
            let reason = format!("it has more than {FILE_BYTES_MAX} bytes");
            return Err(EventsError::Io { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::new();
        let read = (&self.file).take(self.bytes).read_to_end(&mut bytes);
        read.map_err(|e| EventsError::io(&self.path, &e))?;
        Ok(bytes)
    }
}

impl Events {
    /// The right to write, over all processes; given up when it is dropped or the process dies.
    pub(super) fn lock(&self) -> Result<File, EventsError> {
        let path = self.lock_path();
        let locked = || -> io::Result<File> {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|e| EventsError::io(&path, &e))
    }

    fn lock_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        name.into()
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn full_prefix(&self) -> String {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        format!("{stem}-")
    }

    /// The full files with the number of their first event, oldest first.
    fn full(&self) -> Result<Vec<(u64, PathBuf)>, EventsError> {
        let prefix = self.full_prefix();
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(EventsError::io(self.folder(), &e)),
        };
        let mut full = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| EventsError::io(self.folder(), &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digits = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".jsonl"));
            let number =
                digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
            full.extend(number.map(|number| (number, entry.path())));
        }
        full.sort_unstable();
        Ok(full)
    }

    /// The end of the log: of the newest file, or of the newest full one where that is empty or absent.
    pub(super) fn end(&self) -> Result<End, EventsError> {
        let (whole_bytes, last) = last_line(&self.path)?;
        let last = match last {
            Some(last) => Some((last, self.path.clone())),
            None => match self.full()?.pop() {
                Some((_, path)) => last_line(&path)?.1.map(|last| (last, path)),
                None => None,
            },
        };
        let Some((bytes, path)) = last else { return Ok(End { whole_bytes, next: 0, chain: String::new() }) };
        let (line, chain) =
            Line::parse(&bytes).map_err(|e| EventsError::Altered { path, line: 0, reason: e.to_string() })?;
        Ok(End { whole_bytes, next: line.number + 1, chain })
    }

    /// Puts the line at the end, in another file where it would make this one too large. The lock is held.
    pub(super) fn put(&self, end: &End, line: &str) -> Result<(), EventsError> {
        let is_full = end.whole_bytes > 0 && end.whole_bytes + line.len() as u64 > self.limits.file_bytes_max;
        if is_full {
            self.rotate(end.whole_bytes)?;
        }
        let from = if is_full { 0 } else { end.whole_bytes };
        let written = || -> io::Result<()> {
            let is_new = self.path.symlink_metadata().is_err();
            let mut file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from))?;
            if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_all()) {
                // Best effort: without its line feed it is no line either.
                let _ = file.set_len(from);
                return Err(error);
            }
            if is_new { sync_folder(self.folder()) } else { Ok(()) }
        };
        written().map_err(|e| EventsError::io(&self.path, &e))
    }

    fn rotate(&self, whole_bytes: u64) -> Result<(), EventsError> {
        let failed = |e: io::Error| EventsError::io(&self.path, &e);
        let mut file = File::options().read(true).write(true).open(&self.path).map_err(failed)?;
        file.set_len(whole_bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        let mut head = Vec::new();
        (&mut file).take(LINE_BYTES_MAX as u64).read_to_end(&mut head).map_err(failed)?;
        let first = head.split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
        let (first, _) = Line::parse(first).map_err(|e| EventsError::Altered {
            path: self.path.clone(),
            line: 1,
            reason: e.to_string(),
        })?;
        let name = format!("{}{:012}.jsonl", self.full_prefix(), first.number);
        fs::rename(&self.path, self.folder().join(name)).map_err(failed)?;
        let full = self.full()?;
        for (_, path) in full.iter().take(full.len().saturating_sub(self.limits.files_max)) {
            fs::remove_file(path).map_err(|e| EventsError::io(path, &e))?;
        }
        sync_folder(self.folder()).map_err(failed)
    }

    /// The files that may hold this number or later ones, opened while nobody writes.
    pub(super) fn parts(&self, number: u64) -> Result<Vec<Part>, EventsError> {
        // Without the file nobody has written yet; without the right to open it, files are read as they are.
        let held = File::open(self.lock_path()).ok();
        if let Some(held) = &held {
            held.lock_shared().map_err(|e| EventsError::io(&self.lock_path(), &e))?;
        }
        let mut full = self.full()?;
        let begin = full.partition_point(|(first, _)| *first <= number).saturating_sub(1);
        let paths = full.drain(begin..).map(|(_, path)| path).chain([self.path.clone()]);
        let mut parts = Vec::new();
        for path in paths {
            match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((bytes, file)) => parts.push(Part { path, file, bytes }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(EventsError::io(&path, &e)),
            }
        }
        Ok(parts)
    }
}

/// The bytes of a file's whole lines, and the last of these.
fn last_line(path: &Path) -> Result<(u64, Option<Vec<u8>>), EventsError> {
    let read = || -> io::Result<(u64, Option<Vec<u8>>)> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, None)),
            Err(e) => return Err(e),
        };
        let bytes = file.metadata()?.len();
        // A last line, and behind it one that was cut off.
        let from = bytes.saturating_sub(2 * LINE_BYTES_MAX as u64 + 2);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.take(bytes - from).read_to_end(&mut tail)?;
        let Some(end) = tail.iter().rposition(|&b| b == b'\n') else {
            return if from == 0 {
                Ok((0, None))
            } else {
                Err(io::Error::other("its last line is too long"))
            };
        };
        let begin = tail[..end].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        Ok((from + end as u64 + 1, Some(tail[begin..=end].to_vec())))
    };
    read().map_err(|e| EventsError::io(path, &e))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
