//! AdamW on one parameter, its elements shared out over threads.

use std::sync::Arc;

use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::adamw::{Before, Step, adamw};
use crate::pool::Pool;

/// Below so many elements another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 14;

/// parameter, m, v, gradient, learning rate, step → parameter, m, v.
#[derive(Debug)]
pub(crate) struct AdamW {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
    pub(crate) weight_decay: f32,
}

impl AdamW {
    fn step(&self, rate: f32, step: f32) -> Step {
        // The complements of numbers near 1 need more than f32.
        let (beta1, beta2, step) = (f64::from(self.beta1), f64::from(self.beta2), f64::from(step));
        Step {
            rate,
            weight_decay: self.weight_decay,
            epsilon: self.epsilon,
            beta1: self.beta1,
            beta2: self.beta2,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            unbias1: (1.0 - beta1.powf(step)) as f32,
            unbias2: (1.0 - beta2.powf(step)) as f32,
        }
    }
}

impl Kernel for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [parameter, m, v, gradient, rate, step] = *inputs else { panic!("adamw takes six inputs") };
        let [parameter_out, m_out, v_out] = outputs else { panic!("adamw has three outputs") };
        let step = self.step(rate[0], step[0]);
        let parts = if parameter.len() < PARALLEL_MIN { 1 } else { self.pool.threads() };
        let size = parameter.len().div_ceil(parts).next_multiple_of(self.path.lanes()).max(1);
        let after = parameter_out.chunks_mut(size).zip(m_out.chunks_mut(size)).zip(v_out.chunks_mut(size));
        self.pool.run(after.enumerate().collect(), |(index, ((parameter_out, m_out), v_out))| {
            let part = index * size..index * size + m_out.len();
            let before = Before {
                parameter: &parameter[part.clone()],
                m: &m[part.clone()],
                v: &v[part.clone()],
                gradient: &gradient[part],
            };
            adamw(self.path, &step, before, [parameter_out, m_out, v_out]);
        });
    }
}
