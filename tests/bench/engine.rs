//! An engine: a process of its own that is told what to load and to run, a line of JSON at a time.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Name in the report, what runs it, threads.
pub const ENGINES: [(&str, Program, usize); 9] = [
    ("ours", Program::Bench("cpu"), 1),
    ("ours-2", Program::Bench("cpu"), 2),
    ("onnxruntime-1", Program::Python("onnxruntime"), 1),
    ("onnxruntime-2", Program::Python("onnxruntime"), 2),
    ("openvino-1", Program::Python("openvino"), 1),
    ("openvino-2", Program::Python("openvino"), 2),
    ("tract", Program::Bench("tract"), 1),
    ("pytorch-1", Program::Python("pytorch"), 1),
    ("pytorch-2", Program::Python("pytorch"), 2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This binary, with the engine's name.
    Bench(&'static str),
    /// `peers.py`, with the peer's name.
    Python(&'static str),
}

/// Reading a big model and compiling it may take long; nothing takes longer.
const REPLY_MAX: Duration = Duration::from_secs(240);

pub struct Engine {
    pub name: &'static str,
    pub program: Program,
    pub version: String,
    pub pinned: bool,
    child: Child,
    stdin: ChildStdin,
    replies: Receiver<String>,
}

impl Engine {
    pub fn start(
        (name, program, threads): (&'static str, Program, usize),
        cores: &[usize],
        python: Option<&Path>,
        script: &Path,
    ) -> Result<Engine, String> {
        if cores.len() < threads {
            return Err(format!("{threads} threads, but {} cores", cores.len()));
        }
        let cores: Vec<String> = cores[..threads].iter().map(usize::to_string).collect();
        let (executable, first): (OsString, [OsString; 2]) = match program {
            Program::Bench(engine) => {
                let this = std::env::current_exe().map_err(|e| e.to_string())?;
                (this.into(), ["worker".into(), engine.into()])
            }
            Program::Python(peer) => {
                let python = python.ok_or("there is no Python environment for it")?;
                (python.into(), [script.into(), peer.into()])
            }
        };
        let mut command = Command::new(executable);
        command.args(first).arg(threads.to_string()).arg(cores.join(","));
        // The thread pools of numpy and torch obey; nothing else of theirs is changed.
        for key in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            command.env(key, threads.to_string());
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("it can't be started: {e}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("it has no pipes".into());
        };
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut engine =
            Engine { name, program, version: String::new(), pinned: false, child, stdin, replies };
        let hello = engine.reply()?;
        engine.version = hello["version"].as_str().unwrap_or("unknown").to_string();
        engine.pinned = hello["pinned"].as_bool().unwrap_or(false);
        Ok(engine)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn call(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.stdin, "{request}").map_err(|e| format!("it is gone: {e}"))?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Value, String> {
        let line = self.replies.recv_timeout(REPLY_MAX).map_err(|_| {
            // A late answer would be taken for the next one's.
            let _ = self.child.kill();
            "it ended or gave no answer"
        })?;
        let value: Value = serde_json::from_str(&line).map_err(|e| format!("not a reply: {e}"))?;
        match value.get("error") {
            Some(error) => Err(error.as_str().unwrap_or("unknown").to_string()),
            None => Ok(value),
        }
    }

    pub fn unload(&mut self) -> Result<(), String> {
        self.call(&json!({"do": "unload"})).map(|_| ())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
