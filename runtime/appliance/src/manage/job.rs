//! A command of this program in a process of its own: training and judging take minutes and memory, and the appliance
//! goes on whatever becomes of them.

use std::process::{Child, Command, Stdio};

use crate::priority;

/// Lower than the manager's: it has hours.
const NICENESS: i32 = 15;

/// Ends with its owner.
pub struct Job {
    child: Child,
}

impl Job {
    /// `origin`: the arguments that gave this process its settings.
    pub fn start(origin: &[String], arguments: &[String]) -> Result<Job, String> {
        let program = std::env::current_exe().map_err(|e| format!("this program can't be found: {e}"))?;
        let child = Command::new(program)
            .args(arguments)
            .args(origin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("it can't be started: {e}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        priority::lower_process(pid, NICENESS, "a training or a judgement");
        Ok(Job { child })
    }

    /// Whether it ended well; `None`: it goes on.
    pub fn ended(&mut self) -> Option<bool> {
        match self.child.try_wait() {
            Ok(status) => status.map(|status| status.success()),
            Err(_) => Some(false),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
