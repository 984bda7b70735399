//! The priority of a thread among all that want the processor.

use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;

/// The scheduler's lowest, for work that may wait.
pub const LOWEST: i32 = 19;

/// Lowers the priority of the calling thread alone to this niceness: on Linux each thread has one of its own
/// (setpriority(2)). Where it can't, `what` runs at the priority of the rest.
pub fn lower(niceness: i32, what: &str) {
    lower_process(Some(gettid()), niceness, what);
}

/// The same of another process that was just started.
pub fn lower_process(pid: Option<Pid>, niceness: i32, what: &str) {
    if let Err(error) = setpriority_process(pid, niceness) {
        tracing::warn!(%error, what, "it runs at the priority of the rest");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let behind_name = stat.rsplit(") ").next().unwrap().to_string();
        behind_name.split(' ').nth(16).unwrap().to_string()
    }

    #[test]
    fn one_thread_gives_way_and_no_other() {
        let before = niceness();
        let lowered = std::thread::spawn(|| {
            lower(LOWEST, "a test");
            niceness()
        });
        assert_eq!((lowered.join().unwrap().as_str(), niceness()), ("19", before));
    }
}
