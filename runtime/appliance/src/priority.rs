//! The priority of a thread among all that want the processor.

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How far down it goes: the scheduler's lowest, for work that may wait.
const NICENESS: i32 = 19;

/// Lowers the priority of the calling thread alone: on Linux each thread has one of its own (setpriority(2)).
pub fn lowest() -> rustix::io::Result<()> {
    setpriority_process(Some(gettid()), NICENESS)
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
        let lowered = std::thread::spawn(|| lowest().map(|()| niceness())).join().unwrap();
        assert_eq!((lowered.unwrap().as_str(), niceness()), ("19", before));
    }
}
