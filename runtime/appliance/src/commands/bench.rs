//! `alphaplus bench`: a model on this machine, from row to prediction.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use cpu::{Cpu, CpuOptions};
use graph::{Executor, Graph, Plan, SlidingPlan};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::cli::Bench;
use crate::config::Settings;
use crate::load::Parts;
use crate::{plot, precision};

/// Windows of the batch.
const BATCH: usize = 256;
/// Nanoseconds that a histogram holds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// One line of the table.
struct Line {
    name: String,
    /// How many run at once.
    instances: usize,
    /// Nanoseconds.
    times: Histogram<u64>,
}

/// The model and what drives it.
struct Subject {
    graph: Graph,
    window: usize,
    features: usize,
    cpu: Cpu,
    rows: Vec<f32>,
}

pub fn run(settings: &Settings, args: &Bench) -> Result<(), String> {
    let length = Some(args.seconds).filter(|s| s.is_finite() && (0.01..=3600.0).contains(s));
    let length = length.map(Duration::from_secs_f64).ok_or("--seconds must lie between 0.01 and 3600")?;
    let every = Some(args.every_ms).filter(|ms| ms.is_finite() && (0.01..=60_000.0).contains(ms));
    let every = every
        .map(|ms| Duration::from_secs_f64(ms / 1e3))
        .ok_or("--every-ms must lie between 0.01 and 60000")?;
    let parts = Parts::new(settings)?;
    let name = match &args.model {
        Some(name) => name.clone(),
        None => settings
            .deployments
            .first()
            .map(|d| d.model.to_string())
            .ok_or("name a model: nothing is deployed")?,
    };
    let folder = parts.model(&name)?;
    let graph = parts.served_graph(&folder)?;
    let manifest = folder.manifest;
    let cpu = parts.executor_of(&manifest, &graph)?;
    let (window, features) = (manifest.input.window as usize, manifest.input.features as usize);
    let rows = precision::made_up(window * features);
    let subject = Subject { graph, window, features, cpu, rows };
    let slides = graph::sliding::split(&subject.graph, window);
    let mut lines = vec![
        subject.pushes("push", length, Timed::Push)?,
        subject.pushes(&format!("push, one each {} ms", args.every_ms), length, Timed::Sparse(every))?,
        subject.pushes("push and settle", length, Timed::Tick)?,
        subject.whole("whole window", length, 1)?,
        subject.whole(&format!("batch of {BATCH}, each"), length, BATCH)?,
    ];
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let instances = if args.instances == 0 { cores.len() } else { args.instances };
    for count in 2..=instances {
        lines.push(subject.instances(count, &cores, length, &settings.cpu())?);
    }
    let machine = format!("{} cores, {}", Cpu::detected().cores, subject.cpu.isa());
    let title = format!("{}/{}, {}, on {machine}", manifest.name, manifest.version, subject.cpu.precision());
    if args.json {
        let lines: Vec<_> = lines.iter().map(Line::json).collect();
        let report = json!({
            "model": format!("{}/{}", manifest.name, manifest.version),
            "machine": machine,
            "precision": subject.cpu.precision().name(),
            "slides": slides.is_ok(),
            "lines": lines,
        });
        println!("{report}");
    } else {
        println!("{title}");
        if let Err(reason) = &slides {
            println!("the window is computed whole for each row: {reason}");
        }
        println!(
            "{:<24} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "", "p50 us", "p99 us", "p99.9 us", "max us", "a second"
        );
        lines.iter().for_each(|line| println!("{line}"));
        let tick = lines[2].times.value_at_quantile(0.99) as f64 / 1e3;
        println!("sustained: a tick each {tick:.1} us (p99 of push and settle)");
        println!("\npush\n{}", plot::bars(&lines[0].times));
    }
    if let Some(path) = &args.svg {
        let named: Vec<_> = lines[..4].iter().map(|line| (line.name.as_str(), &line.times)).collect();
        let svg = plot::svg(&title, &named)?;
        std::fs::write(path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
        eprintln!("{}", path.display());
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Timed {
    Push,
    Sparse(Duration),
    Tick,
}

impl Subject {
    fn sliding(&self, cpu: &Cpu) -> Result<Box<dyn SlidingPlan>, String> {
        cpu.prepare_sliding(&self.graph, self.window, 1).map_err(|e| e.to_string())
    }

    fn pushes(&self, name: &str, length: Duration, timed: Timed) -> Result<Line, String> {
        let mut plan = self.sliding(&self.cpu)?;
        let times = self.drive(plan.as_mut(), length, timed)?;
        Ok(Line { name: name.into(), instances: 1, times })
    }

    /// Pushes rows for so long, after as many as fill the window twice.
    fn drive(
        &self,
        plan: &mut dyn SlidingPlan,
        length: Duration,
        timed: Timed,
    ) -> Result<Histogram<u64>, String> {
        let mut times = histogram()?;
        let mut output = Vec::new();
        let mut rows = self.rows.chunks_exact(self.features).cycle();
        let mut push = |plan: &mut dyn SlidingPlan| {
            plan.push(0, rows.next().unwrap_or_default(), &mut output).map_err(|e| e.to_string())
        };
        for _ in 0..2 * self.window {
            push(plan)?;
            plan.settle(0).map_err(|e| e.to_string())?;
        }
        let begin = Instant::now();
        let mut due = begin;
        while begin.elapsed() < length {
            let start = match timed {
                Timed::Push | Timed::Tick => Instant::now(),
                Timed::Sparse(every) => {
                    due += every;
                    std::thread::sleep(
                        due.saturating_duration_since(Instant::now() + Duration::from_micros(300)),
                    );
                    while Instant::now() < due {
                        std::hint::spin_loop();
                    }
                    due
                }
            };
            push(plan)?;
            let pushed = start.elapsed();
            plan.settle(0).map_err(|e| e.to_string())?;
            let took = if matches!(timed, Timed::Tick) { start.elapsed() } else { pushed };
            times.saturating_record((took.as_nanos() as u64).max(1));
        }
        Ok(times)
    }

    fn whole(&self, name: &str, length: Duration, batch: usize) -> Result<Line, String> {
        let mut plan: Box<dyn Plan> = self.cpu.prepare(&self.graph, &[batch]).map_err(|e| e.to_string())?;
        let input: Vec<f32> =
            self.rows.iter().copied().cycle().take(batch * self.window * self.features).collect();
        let mut outputs = vec![Vec::new(); self.graph.outputs.len()];
        let mut times = histogram()?;
        let begin = Instant::now();
        while begin.elapsed() < length {
            let start = Instant::now();
            plan.run(batch, &[&input], &mut outputs).map_err(|e| e.to_string())?;
            times.saturating_record((start.elapsed().as_nanos() as u64 / batch as u64).max(1));
        }
        Ok(Line { name: name.into(), instances: 1, times })
    }

    /// So many streams at once, each on a pinned thread with a plan of its own; all their pushes.
    fn instances(
        &self,
        count: usize,
        cores: &[core_affinity::CoreId],
        length: Duration,
        options: &CpuOptions,
    ) -> Result<Line, String> {
        let barrier = Barrier::new(count);
        let one = |index: usize| -> Result<Histogram<u64>, String> {
            let core = cores.get(index % cores.len().max(1));
            core.map(|core| core_affinity::set_for_current(*core));
            barrier.wait();
            let one = Cpu::new(CpuOptions { threads: 1, ..options.clone() }).map_err(|e| e.to_string())?;
            let mut plan = self.sliding(&one.at(self.cpu.precision()))?;
            self.drive(plan.as_mut(), length, Timed::Push)
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || one(index))).collect();
            threads.into_iter().map(|t| t.join().map_err(|_| "an instance panicked".to_string())).collect()
        });
        let mut times = histogram()?;
        for one in found {
            times.add(one??).map_err(|e| e.to_string())?;
        }
        Ok(Line { name: format!("push, {count} instances"), instances: count, times })
    }
}

/// What [`p99_us`] measures.
#[derive(Clone, Copy)]
pub(super) enum Whole {
    Push,
    Window,
}

/// The 99th percentile of one push, or of a whole window, batch 1, over at least so long.
pub(super) fn p99_us(
    graph: &Graph,
    window: usize,
    features: usize,
    cpu: &Cpu,
    whole: Whole,
    length: Duration,
) -> Result<f64, String> {
    let rows = precision::made_up(window * features);
    let subject = Subject { graph: graph.clone(), window, features, cpu: cpu.clone(), rows };
    let line = match whole {
        Whole::Push => subject.pushes("push", length, Timed::Push)?,
        Whole::Window => subject.whole("whole window", length, 1)?,
    };
    Ok(line.us(0.99))
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|e| e.to_string())
}

impl Line {
    fn us(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e3
    }

    /// As if one followed the other.
    fn per_second(&self) -> f64 {
        self.instances as f64 * 1e9 / self.times.mean().max(1.0)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "count": self.times.len(),
            "p50_us": self.us(0.5),
            "p99_us": self.us(0.99),
            "p999_us": self.us(0.999),
            "max_us": self.us(1.0),
            "per_second": self.per_second(),
        })
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        write!(f, "{name:<24}")?;
        for quantile in [0.5, 0.99, 0.999, 1.0] {
            write!(f, " {:>10.2}", self.us(quantile))?;
        }
        write!(f, " {:>12.0}", self.per_second())
    }
}
