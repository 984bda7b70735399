//! Who used the processor: an engine that isn't asked must be calm, and the machine ours alone.

use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::machine;

/// After each turn: until the engine's threads no longer spin, so that they don't disturb the next one.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(1000);
/// Above it the machine is too busy with other things for fair figures.
const OTHER_CORES_MAX: f64 = 0.05;
/// An idle engine that uses more of a core than this is named.
const IDLE_SHARE_MAX: f64 = 0.02;

/// Who used the processor during the turns.
#[derive(Default)]
pub struct Usage {
    /// Of each engine while another had its turn: the largest share of a core.
    idle: Vec<f64>,
    turns_ns: f64,
    others_ns: f64,
}

/// Processor time used by each engine, and by the whole machine.
pub struct Used {
    engines: Vec<u64>,
    machine: Option<u64>,
}

pub fn now_used(engines: &[Engine]) -> Used {
    let engines = engines.iter().map(|e| machine::used_ns(e.process()).unwrap_or(0)).collect();
    Used { engines, machine: machine::busy_ns() }
}

impl Usage {
    pub fn of(engines: &[Engine]) -> Self {
        Usage { idle: vec![0.0; engines.len()], ..Usage::default() }
    }

    /// What makes the figures less fair.
    pub fn notes(&self, engines: &[Engine]) -> Vec<String> {
        let spun = engines.iter().zip(&self.idle).filter(|(_, share)| **share > IDLE_SHARE_MAX);
        let spun = spun.map(|(engine, share)| {
            let percent = share * 100.0;
            format!("{} used {percent:.0} % of a core while another was measured", engine.name)
        });
        let others = self.other_cores().filter(|&cores| cores > OTHER_CORES_MAX);
        let others = others.map(|cores| {
            format!(
                "other programs kept {cores:.2} cores busy while engines were measured: the figures are noisy"
            )
        });
        spun.chain(others).collect()
    }

    /// Of the turn of the engine at `index`.
    pub fn add(&mut self, index: usize, took: Duration, before: &Used, after: &Used) {
        let took = took.as_nanos() as f64;
        let mut all = 0;
        for (other, (before, after)) in before.engines.iter().zip(&after.engines).enumerate() {
            let used = after.saturating_sub(*before);
            all += used;
            if other != index {
                self.idle[other] = self.idle[other].max(used as f64 / took);
            }
        }
        if let (Some(before), Some(after)) = (before.machine, after.machine) {
            self.turns_ns += took;
            // Ticks are coarse: a single turn's may be below what the engines used.
            self.others_ns += (after - before) as f64 - all as f64;
        }
    }

    /// Cores that were busy with something else, on average.
    pub fn other_cores(&self) -> Option<f64> {
        (self.turns_ns > 0.0).then(|| (self.others_ns / self.turns_ns).max(0.0))
    }
}

/// Waits until an engine that has answered uses no processor, though not for long.
pub fn calm(engine: &Engine) {
    let begin = Instant::now();
    let mut before = machine::used_ns(engine.process());
    while begin.elapsed() < PAUSE_MAX {
        thread::sleep(PAUSE);
        let now = machine::used_ns(engine.process());
        let (Some(from), Some(until)) = (before, now) else { return };
        if until.saturating_sub(from) as f64 <= IDLE_SHARE_MAX * PAUSE.as_nanos() as f64 {
            return;
        }
        before = now;
    }
}
