//! The heartbeat: a thread that renews it until it is stopped.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::layout::{BEAT, header};
use crate::map::Map;
use crate::process;

pub struct Heart {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

pub fn beat(map: &Map) {
    if let Some([monotonic, wall]) = map.words(header::BEAT_MONOTONIC) {
        wall.store(process::wall_ns() as u64, Ordering::Relaxed);
        monotonic.store(process::monotonic_ns() as u64, Ordering::Relaxed);
    }
}

impl Heart {
    pub fn start(map: Arc<Map>) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = stop.clone();
        let thread = thread::Builder::new().name("heartbeat".into()).spawn(move || {
            let mut stopped = told.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                beat(&map);
                // Twice as often as promised: a busy machine wakes it late.
                let waited = told.1.wait_timeout(stopped, BEAT / 2);
                stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        })?;
        Ok(Heart { stop, thread })
    }

    pub fn stop(self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        // Its body can't panic.
        let _ = self.thread.join();
    }
}
