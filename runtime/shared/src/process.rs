//! Clocks and processes, as the writer tells of itself and readers look for it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// CLOCK_MONOTONIC, which all processes of a host share.
pub fn monotonic_ns() -> i64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec of ours, which the call fills in.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) } != 0;
    if failed { 0 } else { time.tv_sec * 1_000_000_000 + time.tv_nsec }
}

pub fn user() -> u32 {
    // SAFETY: it takes nothing and can't fail.
    unsafe { libc::geteuid() }
}

/// The inode of this process's PID namespace; 0: unknown.
pub fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}

/// When the process began, in ticks since the boot; 0: unknown.
pub fn start_ticks(pid: u32) -> u64 {
    stat(pid).map_or(0, |(_, ticks)| ticks)
}

/// Whether the process that began then is gone for certain. Allocates nothing.
pub fn is_gone(pid: u64, start_ticks: u64) -> bool {
    let Some(pid) = u32::try_from(pid).ok().filter(|&p| p > 0 && i32::try_from(p).is_ok()) else {
        return false;
    };
    // SAFETY: signal 0 is sent to no one; the call only asks whether the process is there.
    let failed = unsafe { libc::kill(pid as libc::pid_t, 0) } != 0;
    if failed && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
        return true;
    }
    match stat(pid) {
        Some((state, ticks)) => {
            matches!(state, b'Z' | b'X') || (start_ticks != 0 && ticks != 0 && ticks != start_ticks)
        }
        None => false,
    }
}

/// State and start of a process from /proc/PID/stat.
fn stat(pid: u32) -> Option<(u8, u64)> {
    let mut path = [0u8; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{pid}/stat").ok()?;
    let unused = rest.len();
    let path = std::str::from_utf8(&path[..32 - unused]).ok()?;
    let mut text = [0u8; 1024];
    let read = File::open(path).ok()?.read(&mut text).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let after = text[..read].iter().rposition(|&b| b == b')')? + 2;
    let text = std::str::from_utf8(text.get(after..read)?).ok()?;
    let mut fields = text.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_one_that_ended_is_not() {
        let me = std::process::id();
        let ticks = start_ticks(me);
        assert!(ticks > 0 && pid_namespace() > 0);
        assert!(!is_gone(u64::from(me), ticks));
        assert!(is_gone(u64::from(me), ticks + 1), "another process with the same number");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, ticks) = (child.id(), start_ticks(child.id()));
        while !is_gone(u64::from(pid), ticks) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_gone(u64::from(pid), ticks));
        assert!(!is_gone(0, 0) && !is_gone(u64::MAX, 0), "no process number");
    }
}
