//! The mock builder's layers: normalisation, recurrence, convolution, attention.

use super::recorder::{Added, Recorder};

impl Recorder {
    pub fn layer_norm(&self, x: u32, gamma: u32, beta: u32, epsilon: f32) -> Added {
        let (shape, gamma, beta) = (self.shape(x)?, self.shape(gamma)?, self.shape(beta)?);
        let last = shape.last().map(|&n| vec![n]);
        if Some(&gamma) != last.as_ref() || gamma != beta || epsilon.is_nan() || epsilon <= 0.0 {
            return Err(format!(
                "layer-norm: {shape:?} with gamma {gamma:?}, beta {beta:?}, epsilon {epsilon}"
            ));
        }
        Ok(self.add("layer-norm", shape))
    }

    pub fn lstm(&self, x: u32, w: u32, u: u32, b: u32, sequence: bool) -> Added {
        let (x, w, u, b) = (self.shape(x)?, self.shape(w)?, self.shape(u)?, self.shape(b)?);
        let fits = match (&x[..], &w[..], &u[..], &b[..]) {
            ([_, _, f], [wf, w4], [h, u4], [b4]) => f == wf && w4 == u4 && u4 == b4 && *u4 == 4 * h,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "lstm: x {x:?} must be [-1, T, F], w {w:?} [F, 4H], u {u:?} [H, 4H], b {b:?} [4H]"
            ));
        }
        Ok(self.add("lstm", if sequence { vec![x[0], x[1], u[0]] } else { vec![x[0], u[0]] }))
    }

    pub fn gru(&self, x: u32, w: u32, u: u32, b: u32, c: u32, sequence: bool) -> Added {
        let (x, w, u) = (self.shape(x)?, self.shape(w)?, self.shape(u)?);
        let (b, c) = (self.shape(b)?, self.shape(c)?);
        let fits = match (&x[..], &w[..], &u[..], &b[..]) {
            ([_, _, f], [wf, w3], [h, u3], [b3]) => f == wf && w3 == u3 && u3 == b3 && *u3 == 3 * h && b == c,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "gru: x {x:?} must be [-1, T, F], w {w:?} [F, 3H], u {u:?} [H, 3H], b {b:?} and c {c:?} [3H]"
            ));
        }
        Ok(self.add("gru", if sequence { vec![x[0], x[1], u[0]] } else { vec![x[0], u[0]] }))
    }

    pub fn conv1d(&self, x: u32, w: u32, b: u32, dilation: u32) -> Added {
        let (x, w, b) = (self.shape(x)?, self.shape(w)?, self.shape(b)?);
        match (&x[..], &w[..], &b[..]) {
            ([batch, rows, f], [_, wf, o], [bo]) if f == wf && o == bo && dilation > 0 => {
                Ok(self.add("conv1d", vec![*batch, *rows, *o]))
            }
            _ => Err(format!(
                "conv1d: x {x:?} must be [-1, T, F], w {w:?} [K, F, O], b {b:?} [O], the dilation {dilation} above 0"
            )),
        }
    }

    pub fn attention(&self, q: u32, k: u32, v: u32, heads: u32, causal: bool) -> Added {
        let (shape, value, key) = (self.shape(q)?, self.shape(v)?, self.shape(k)?);
        self.attention_shape(q, k, heads, causal)?;
        if value != key {
            return Err(format!("attention: k {key:?} and v {value:?} must have one shape"));
        }
        Ok(self.add("attention", shape))
    }

    pub fn attention_weights(&self, q: u32, k: u32, heads: u32, causal: bool) -> Added {
        let shape = self.attention_shape(q, k, heads, causal)?;
        Ok(self.add("attention-weights", shape))
    }

    fn attention_shape(&self, q: u32, k: u32, heads: u32, causal: bool) -> Result<Vec<i64>, String> {
        let (q, k) = (self.shape(q)?, self.shape(k)?);
        match (&q[..], &k[..]) {
            ([batch, t, d], [other, s, e])
                if batch == other
                    && d == e
                    && heads > 0
                    && d % i64::from(heads) == 0
                    && (!causal || s == t) =>
            {
                Ok(vec![*batch, i64::from(heads), *t, *s])
            }
            _ => Err(format!(
                "attention: q {q:?} must be [-1, T, D], k {k:?} [-1, S, D], D a multiple of the {heads} heads, \
                 and T = S where it is causal"
            )),
        }
    }
}
