//! AdamW on one parameter (Loshchilov and Hutter 2019).

use super::fused::Kernel;

/// parameter, m, v, gradient, learning rate, step → parameter, m, v.
#[derive(Debug)]
pub(crate) struct AdamW {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
    pub(crate) weight_decay: f32,
}

impl Kernel for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [parameter, m, v, gradient, rate, step] = inputs else { panic!("adamw takes six inputs") };
        let [parameter_out, m_out, v_out] = outputs else { panic!("adamw has three outputs") };
        let (rate, step) = (rate[0], f64::from(step[0]));
        // The complements of numbers near 1 need more than f32.
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let (rest1, rest2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let (unbias1, unbias2) = ((1.0 - beta1.powf(step)) as f32, (1.0 - beta2.powf(step)) as f32);
        for i in 0..parameter.len() {
            let g = gradient[i];
            let m = self.beta1 * m[i] + rest1 * g;
            let v = self.beta2 * v[i] + rest2 * g * g;
            let direction = (m / unbias1) / ((v / unbias2).sqrt() + self.epsilon);
            let p = parameter[i];
            parameter_out[i] = p - rate * (direction + self.weight_decay * p);
            m_out[i] = m;
            v_out[i] = v;
        }
    }
}
