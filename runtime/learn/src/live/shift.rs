//! Do the features of live rows still have the distribution of the training rows? A test for each feature that doesn't
//! cry wolf where a feature only moves slowly.
//!
//! Live rows are gathered in windows of some hundred steps of time (all rows of one time are one step), and in windows
//! four and sixteen times as long, for what moves slowly. At the end of a window each feature's distribution is compared with
//! its [`ColumnProfile`] by the Kolmogorov–Smirnov distance D over the profile's quantiles; between the shares that
//! equal values allow, D is 0. The p-value is Q((√n + 0.12 + 0.11/√n) D), Q(x) = 2 Σ (−1)ᵏ⁻¹ e^(−2k²x²) (Stephens 1970),
//! with n = n₁n₂/(n₁ + n₂) of *effective* samples: as many independent values as would tell as well where ranks lie, and how
//! far they lie from the middle (returns hardly depend on each other, their size does, for days). In training n₁ is counted
//! by the long-run variance V of a step's mean of either ([`blocking`](super::blocking), batch means; Geyer 1992, section
//! 3), the less of the two: steps · σ² / V. A live window has the share of it that its steps are of the training
//! steps (less where it has fewer streams), or what it shows itself, if that is less. A window of fewer than
//! [`EFFECTIVE_MIN`] says nothing of that feature.
//!
//! Over the features, Holm's procedure (1979) holds whatever their dependence. Over the windows the level is spent:
//! window k of each length gets level / lengths / (k (k + 1)), which sums up to the level. So the probability of ever
//! calling a feature shifted that isn't is at most [`ShiftSettings::level`], for the life of the monitor.

use market::Timestamp;
use registry::Profile;
use serde::{Deserialize, Serialize};

use super::blocking::Blocking;
use super::sequential::SettingsError;

mod ranks;
pub(super) use ranks::{Ranks, Slots, sides};

/// A feature is tested on so many effective samples or more.
pub const EFFECTIVE_MIN: f64 = 8.0;
/// Each length of windows is so many times the one before.
const LENGTH_RATIO: u32 = 4;
/// A level of blocking counts towards V with so many means.
const LEVEL_MEANS_MIN: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftSettings {
    /// Of ever calling a feature shifted that isn't.
    pub level: f64,
    /// Steps of the shortest windows.
    pub window_steps: u32,
    /// How many lengths.
    pub lengths: u32,
}

impl Default for ShiftSettings {
    fn default() -> Self {
        ShiftSettings { level: 0.01, window_steps: 500, lengths: 3 }
    }
}

impl ShiftSettings {
    fn check(&self) -> Result<(), SettingsError> {
        let bad = |key, expected| Err(SettingsError { key, expected });
        if !(self.level > 0.0 && self.level <= 0.5) {
            return bad("level", "a number above 0 and up to 0.5");
        }
        if !(20..=1_000_000).contains(&self.window_steps) {
            return bad("window_steps", "20 to 1000000");
        }
        if !(1..=6).contains(&self.lengths) {
            return bad("lengths", "1 to 6");
        }
        Ok(())
    }
}

/// What the last window of one length showed of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureTest {
    pub column: u32,
    /// The greatest difference between the two distribution functions.
    pub distance: f64,
    /// Live mean rank less ½, in training: above 0 the feature's values have grown.
    pub moved: f64,
    pub effective_samples: f64,
    /// Before any correction; absent where the effective samples are too few.
    pub p_value: Option<f64>,
}

/// A feature that was found to have shifted; the first time stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shifted {
    /// Of `features.names`.
    pub column: u32,
    /// Steps of the window that showed it, and when its last step was.
    pub window_steps: u32,
    pub until: Timestamp,
    pub distance: f64,
    pub moved: f64,
    pub p_value: f64,
    /// What the p-value had to be below.
    pub needed: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftReport {
    pub shifted: Vec<Shifted>,
    /// For each length, shortest first: steps of a window, windows tested, and the last one's tests.
    pub lengths: Vec<LengthReport>,
    pub steps: u64,
    pub level: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthReport {
    pub window_steps: u32,
    pub windows: u64,
    pub tests: Vec<FeatureTest>,
}

/// Rows of one window so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    report: LengthReport,
    steps: u32,
    /// Most of one step.
    streams: u32,
    columns: Vec<WindowColumn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowColumn {
    slots: Slots,
    /// The steps' means of ranks and of their spread.
    steps: [Blocking; 2],
}

/// The running tests: a pure function of profile, settings and rows in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftMonitor {
    settings: ShiftSettings,
    streams: u32,
    profile_steps: u64,
    effective: Vec<f64>,
    ranks: Vec<Ranks>,
    windows: Vec<Window>,
    /// The step that is forming: its time, its rows, and the sums of their ranks.
    time: Option<Timestamp>,
    rows: u32,
    sums: Vec<[f64; 2]>,
    steps: u64,
    shifted: Vec<Shifted>,
}

impl ShiftMonitor {
    pub fn new(profile: &Profile, settings: ShiftSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let ranks: Vec<Ranks> = profile.columns.iter().map(|c| Ranks::new(&c.quantiles)).collect();
        let column = |ranks: &Ranks| WindowColumn { slots: ranks.slots(), steps: Default::default() };
        let window = |length: u32| Window {
            report: LengthReport {
                window_steps: settings.window_steps.saturating_mul(LENGTH_RATIO.pow(length)),
                windows: 0,
                tests: Vec::new(),
            },
            steps: 0,
            streams: 0,
            columns: ranks.iter().map(column).collect(),
        };
        Ok(ShiftMonitor {
            settings,
            streams: profile.streams,
            profile_steps: profile.steps,
            effective: profile.columns.iter().map(|c| c.effective_samples).collect(),
            windows: (0..settings.lengths).map(window).collect(),
            time: None,
            rows: 0,
            sums: vec![[0.0; 2]; ranks.len()],
            ranks,
            steps: 0,
            shifted: Vec::new(),
        })
    }

    /// A live row as the model sees it: normalised and clipped, of the bar that opens at `time`. Rows of one time form
    /// one step, which is done when a later one comes; a row of an earlier time counts into the step that is forming.
    /// True where that ended a window. A row of another length, or one that isn't finite, is left out.
    pub fn push(&mut self, time: Timestamp, row: &[f32]) -> bool {
        if row.len() != self.ranks.len() || row.iter().any(|x| !x.is_finite()) {
            return false;
        }
        let ended = self.time.is_some_and(|now| time > now) && self.end_step();
        self.time = Some(self.time.map_or(time, |now| now.max(time)));
        self.rows += 1;
        for (column, (&x, ranks)) in row.iter().zip(&self.ranks).enumerate() {
            let (place, rank) = ranks.of(x);
            self.sums[column].iter_mut().zip(sides(rank)).for_each(|(sum, x)| *sum += x);
            self.windows.iter_mut().for_each(|window| window.columns[column].slots.add(place, rank));
        }
        ended
    }

    fn end_step(&mut self) -> bool {
        let rows = std::mem::take(&mut self.rows);
        self.steps += 1;
        let means: Vec<[f64; 2]> =
            self.sums.iter().map(|sums| sums.map(|sum| sum / f64::from(rows.max(1)))).collect();
        self.sums.fill([0.0; 2]);
        let mut ended = false;
        for index in 0..self.windows.len() {
            let window = &mut self.windows[index];
            window.steps += 1;
            window.streams = window.streams.max(rows);
            for (column, means) in window.columns.iter_mut().zip(&means) {
                column.steps.iter_mut().zip(means).for_each(|(steps, &mean)| steps.push(mean));
            }
            if window.steps >= window.report.window_steps {
                self.test(index);
                ended = true;
            }
        }
        ended
    }

    /// The end of a window: its tests, and an empty one in its place.
    fn test(&mut self, index: usize) {
        let window = &self.windows[index];
        let tests: Vec<FeatureTest> =
            (0..self.ranks.len()).map(|column| self.test_of(window, column)).collect();
        let k = (window.report.windows + 1) as f64;
        let level = self.settings.level / f64::from(self.settings.lengths) / (k * (k + 1.0));
        let until = self.time.unwrap_or_default();
        for (test, p_value, needed) in holm(&tests, level) {
            if self.shifted.iter().any(|s| s.column == test.column) {
                continue;
            }
            self.shifted.push(Shifted {
                column: test.column,
                window_steps: window.report.window_steps,
                until,
                distance: test.distance,
                moved: test.moved,
                p_value,
                needed,
            });
        }
        let window = &mut self.windows[index];
        (window.steps, window.streams) = (0, 0);
        window.report.windows += 1;
        window.report.tests = tests;
        for (column, ranks) in window.columns.iter_mut().zip(&self.ranks) {
            *column = WindowColumn { slots: ranks.slots(), steps: Default::default() };
        }
    }

    fn test_of(&self, window: &Window, column: usize) -> FeatureTest {
        let WindowColumn { slots, steps } = &window.columns[column];
        let trained = self.effective[column];
        let share = f64::from(window.steps) / self.profile_steps.max(1) as f64;
        let streams = f64::from(window.streams) / f64::from(self.streams.max(1));
        let own = effective_samples(slots, steps);
        let live = own.min(trained * share * streams.min(1.0));
        let n = live * trained / (live + trained).max(f64::MIN_POSITIVE);
        let distance = self.ranks[column].distance(slots);
        FeatureTest {
            column: column as u32,
            distance,
            moved: slots.mean() - 0.5,
            effective_samples: live,
            p_value: (n >= EFFECTIVE_MIN).then(|| kolmogorov(n, distance)),
        }
    }

    pub fn report(&self) -> ShiftReport {
        ShiftReport {
            shifted: self.shifted.clone(),
            lengths: self.windows.iter().map(|window| window.report.clone()).collect(),
            steps: self.steps,
            level: self.settings.level,
        }
    }
}

/// steps · σ² / V, the less of ranks and their spread, at most the rows.
pub(super) fn effective_samples(slots: &Slots, steps: &[Blocking; 2]) -> f64 {
    let of = |(steps, variance): (&Blocking, f64)| {
        let long_run = steps.long_run_variance(LEVEL_MEANS_MIN);
        if long_run > 0.0 { steps.count() as f64 * variance / long_run } else { f64::INFINITY }
    };
    steps.iter().zip(slots.variances()).map(of).fold(slots.count() as f64, f64::min)
}

/// The tests that Holm's procedure rejects, each with its p-value and what that had to be below.
fn holm(tests: &[FeatureTest], level: f64) -> Vec<(FeatureTest, f64, f64)> {
    let mut tested: Vec<(FeatureTest, f64)> = tests.iter().filter_map(|t| Some((*t, t.p_value?))).collect();
    tested.sort_by(|a, b| a.1.total_cmp(&b.1));
    let count = tested.len();
    let with_needed = tested.into_iter().enumerate();
    let with_needed = with_needed.map(|(i, (test, p))| (test, p, level / (count - i) as f64));
    with_needed.take_while(|(_, p, needed)| p < needed).collect()
}

/// The probability of so great a distance between equal distributions.
fn kolmogorov(n: f64, distance: f64) -> f64 {
    let x = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    if x < 0.3 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * (f64::from(k) * x).powi(2)).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
