//! What a study shows while it runs, and how it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use learn::progress::{BatchReport, EpochReport, Flow, Progress};
use learn::tune::{Outcome, Study, Trial};
use tokio::signal::unix::{SignalKind, signal};

use super::objective::Objective;
use super::show;

/// Set by Ctrl-C and SIGTERM.
pub fn stop_on_signals() -> Result<&'static AtomicBool, String> {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("no signals can be awaited: {e}"))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                eprintln!("signals can't be awaited: Ctrl-C ends at once, and the study goes on afterwards");
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Release);
                eprintln!("stopping after the batch under way");
            }
        });
    });
    Ok(&INTERRUPTED)
}

/// A line for each trial, and on a terminal a bar below them.
pub struct Display {
    bar: ProgressBar,
    started: Instant,
    trials: u32,
    /// Trials that had ended before this process.
    before: usize,
}

impl Display {
    pub fn new(trials: u32, before: usize) -> Display {
        let bar = ProgressBar::new(u64::from(trials));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} trials  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(before as u64);
        bar.enable_steady_tick(Duration::from_millis(200));
        Display { bar, started: Instant::now(), trials, before }
    }

    fn line(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    pub fn begin(&self, study: &Study, objective: &Objective) {
        let header = study.header();
        self.line(&format!(
            "study {}: {} of {} trials have ended; its journal is {}",
            header.study,
            self.before,
            self.trials,
            study.path().display()
        ));
        for (name, domain) in header.space.iter() {
            self.line(&format!("  {name:<16} {domain}"));
        }
        if let Some(constraint) = &objective.constraint {
            self.line(
                &format!("  p99 latency of a {:?} at most {} us", constraint.of, constraint.p99_us)
                    .to_lowercase(),
            );
        }
        let settings = header.space.count().filter(|&count| count < u64::from(self.trials));
        if let Some(count) = settings {
            self.line(&format!(
                "the space has only {count} settings, so the study ends after as many trials"
            ));
        }
    }

    pub fn epoch(&self, trial: u32, report: &EpochReport) {
        let text = format!("trial {trial}, epoch {}: {:.5}", report.epoch, report.validation_loss);
        self.bar.set_message(text);
    }

    /// After it has ended.
    pub fn trial(&self, study: &Study, number: u32) {
        let trials = study.trials();
        let Some(trial) = trials.get(number as usize) else { return };
        let ended = trials.iter().filter(|trial| trial.outcome().is_some()).count();
        let best = match study.record().best() {
            Some(best) if best.number == number => "the best so far".into(),
            Some(best) => format!("best {:.5} of trial {}", best.value().unwrap_or(f64::NAN), best.number),
            None => "none complete yet".into(),
        };
        let here = ended.saturating_sub(self.before).max(1);
        let left = (self.trials as usize).saturating_sub(ended);
        let seconds = self.started.elapsed().as_secs_f64() / here as f64 * left as f64;
        let eta = if left == 0 { String::new() } else { format!("; about {} left", spoken(seconds)) };
        self.line(&format!(
            "trial {number:>3}  {:<34} {best:<26} {}  [{ended}/{}{eta}]",
            what(trial),
            show::parameters(&study.header().space, trial),
            self.trials
        ));
        self.bar.set_position(ended as u64);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn what(trial: &Trial) -> String {
    let epochs = trial.reports.len();
    match trial.outcome() {
        Some(Outcome::Complete { value }) => {
            format!("{value:.5} in {epochs} epochs, {}", spoken(trial.seconds))
        }
        Some(Outcome::Pruned) => format!("pruned after {epochs} epochs, {}", spoken(trial.seconds)),
        Some(Outcome::Infeasible { .. }) => {
            format!("infeasible: p99 {:.1} us", trial.latency_us.unwrap_or(f64::NAN))
        }
        Some(Outcome::Failed { reason }) => format!("failed: {reason}"),
        None => trial.state_name().into(),
    }
}

/// "8.2 s", "3 min", "1 h 20 min".
pub fn spoken(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{} h {:.0} min", (s / 3600.0) as u64, s % 3600.0 / 60.0),
    }
}

/// Follows one trial's trainings: reports to the study, and stops where the pruner or the user says so.
pub struct Watch<'a> {
    pub study: &'a Mutex<Study>,
    pub display: &'a Display,
    pub interrupted: &'a AtomicBool,
    pub failed: &'a AtomicBool,
    pub trial: u32,
    pub epochs_max: u32,
    /// The best validation losses of trainings that have ended.
    pub done: Vec<f64>,
    pub pruned: bool,
    pub error: Option<String>,
}

impl Watch<'_> {
    fn study(&self) -> Result<MutexGuard<'_, Study>, String> {
        self.study.lock().map_err(|_| "another worker panicked".to_string())
    }

    /// The mean of what has ended and of this epoch.
    fn report(&self, report: &EpochReport) -> Result<bool, String> {
        let runs = self.done.len() as u32;
        let value = (self.done.iter().sum::<f64>() + report.validation_loss) / f64::from(runs + 1);
        if !value.is_finite() {
            // The trial fails at its end; there is nothing to compare.
            return Ok(false);
        }
        let step = runs.saturating_mul(self.epochs_max).saturating_add(report.epoch);
        self.study()?.report(self.trial, step, value).map_err(|e| e.to_string())
    }
}

impl Progress for Watch<'_> {
    fn batch(&mut self, _: &BatchReport) -> Flow {
        let stops = self.interrupted.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire);
        if stops { Flow::Stop } else { Flow::Continue }
    }

    fn epoch(&mut self, report: &EpochReport) -> Flow {
        self.display.epoch(self.trial, report);
        match self.report(report) {
            Ok(false) => Flow::Continue,
            Ok(true) => {
                self.pruned = true;
                Flow::Stop
            }
            Err(error) => {
                self.error = Some(error);
                Flow::Stop
            }
        }
    }
}
