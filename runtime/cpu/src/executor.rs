//! The executor: settings, what the machine can do, and the two ways to prepare a graph.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use graph::executor::Recompute;
use graph::verify::{Limits, verify};
use graph::{Executor, Foreign, ForeignPlan, Graph, Plan, PrepareError, SlidingPlan};

use crate::foreign;
use crate::isa::{Isa, Path};
use crate::plan::CpuPlan;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::sliding::CpuSliding;

/// More threads than this are never made.
const THREADS_MAX: usize = 64;
/// More batch sizes than this aren't prepared, since each has its own plan.
const BATCHES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads that share a batch, the caller's among them: 1 ..= 64. The result's bits don't depend on it.
    pub threads: usize,
    /// The instructions to use; `None` for the best that the machine has.
    pub isa: Option<Isa>,
    /// How long a thread without work looks for some before it sleeps. Waking one takes 5 to 50 µs; while it looks
    /// it holds a core. The steps of large sliding windows are shared only with a thread that is awake.
    pub spin: Duration,
}

impl Default for CpuOptions {
    /// All cores, up to 8, the best instructions, 50 µs.
    fn default() -> Self {
        CpuOptions { threads: cores().min(8), isa: None, spin: Duration::from_micros(50) }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// The machine lacks these instructions.
    Isa {
        isa: Isa,
        best: Isa,
    },
    Threads {
        threads: usize,
    },
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuError::Isa { isa, best } => write!(f, "this machine has no {isa}; its best is {best}"),
            CpuError::Threads { threads } => {
                write!(f, "{threads} threads don't go; choose from 1 to {THREADS_MAX}")
            }
        }
    }
}

impl std::error::Error for CpuError {}

/// What the machine's processor can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    pub cores: usize,
    /// The instructions that plans use unless told otherwise.
    pub isa: Isa,
    /// Features found, of those that matter here.
    pub features: Vec<&'static str>,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores, kernels for {} (found: {})", self.cores, self.isa, self.features.join(" "))
    }
}

/// Runs graphs on the processor. Plans of one `Cpu` share its threads; a plan that finds them busy uses its
/// caller's alone.
#[derive(Clone)]
pub struct Cpu {
    path: Path,
    precision: Precision,
    pool: Arc<Pool>,
}

impl Cpu {
    pub fn new(options: CpuOptions) -> Result<Self, CpuError> {
        let threads = options.threads;
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(CpuError::Threads { threads });
        }
        let path = match options.isa {
            None => Path::best(),
            Some(isa) => Path::new(isa).ok_or(CpuError::Isa { isa, best: Isa::best() })?,
        };
        Ok(Cpu { path, precision: Precision::F32, pool: Arc::new(Pool::new(threads, options.spin)) })
    }

    /// The same, on the same threads, with the recurrent weights of its plans in this storage. Weights that a
    /// graph's updates change stay f32.
    pub fn at(&self, precision: Precision) -> Self {
        Cpu { precision, ..self.clone() }
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The instructions that its plans use.
    pub fn isa(&self) -> Isa {
        self.path.isa()
    }

    pub fn detected() -> Detected {
        Detected { cores: cores(), isa: Isa::best(), features: features() }
    }
}

impl Executor for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError> {
        let mut batches = batches.to_vec();
        batches.sort_unstable();
        batches.dedup();
        let unsupported = |reason: String| PrepareError::Unsupported { op: "prepare".into(), reason };
        let (Some(&smallest), Some(&largest)) = (batches.first(), batches.last()) else {
            return Err(unsupported("no batch size was given".into()));
        };
        if smallest == 0 {
            return Err(unsupported("a batch has at least one row".into()));
        }
        if batches.len() > BATCHES_MAX {
            return Err(unsupported(format!("{} batch sizes; at most {BATCHES_MAX} go", batches.len())));
        }
        verify(graph, &Limits { batch: largest, ..Limits::default() }).map_err(PrepareError::Invalid)?;
        Ok(Box::new(CpuPlan::new((self.path, self.precision), &self.pool, graph, &batches)?))
    }

    /// Recurrent stacks and causal convolutions slide; other graphs are recomputed for each row.
    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        verify(graph, &Limits::default()).map_err(PrepareError::Invalid)?;
        let form = (self.path, self.precision);
        match CpuSliding::new(form, &self.pool, graph, (window, streams), false) {
            Ok(plan) => Ok(Box::new(plan)),
            Err(PrepareError::Unsupported { .. }) => {
                let plan = self.prepare(graph, &[1])?;
                Ok(Box::new(Recompute::new(graph, plan, window, streams)?))
            }
            Err(error) => Err(error),
        }
    }

    fn prepare_carried(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        verify(graph, &Limits::default()).map_err(PrepareError::Invalid)?;
        let form = (self.path, self.precision);
        Ok(Box::new(CpuSliding::new(form, &self.pool, graph, (window, streams), true)?))
    }

    /// By tract alone, with its own kernels, on the caller's thread.
    fn prepare_foreign(&self, model: &Foreign, batches: &[usize]) -> Result<ForeignPlan, PrepareError> {
        foreign::prepare(model, batches)
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt)*) => {
            [$(($name, is_x86_feature_detected!($name))),*].into_iter().filter(|f| f.1).map(|f| f.0).collect()
        };
    }
    found!("sse4.2" "avx" "f16c" "fma" "avx2" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
