//! The causal convolution as Conv between two Transposes, and attention as products and a softmax for each head.

use graph::{CodecError, Node, Tensor, Value};

use super::nodes::{int, ints};
use super::{Encoder, unsupported};

impl Encoder<'_> {
    /// Conv reads `[B, F, T]` and weights `[O, F, K]`; all of its padding stands before the first place.
    pub fn conv1d(&mut self, node: &Node, dilation: usize, output: &str) -> Result<(), CodecError> {
        let Some(&[taps, _, _]) = self.fixed(node.inputs[1]).as_deref() else {
            return Err(unsupported(node.op.name(), "w isn't [K, F, O]".into()));
        };
        let x = self.name(node.inputs[0]);
        let x = self.emit("Transpose", &[&x], vec![ints("perm", [0, 2, 1])]);
        let w = self.kernel(node.inputs[1]);
        let b = self.name(node.inputs[2]);
        let attributes = vec![
            ints("dilations", [dilation]),
            ints("kernel_shape", [taps]),
            ints("pads", [(taps - 1) * dilation, 0]),
        ];
        let y = self.emit("Conv", &[&x, &w, &b], attributes);
        self.transpose(&y, &[0, 2, 1], output);
        Ok(())
    }

    /// w as `[O, F, K]`: stored so, or computed where it isn't the convolution's own.
    fn kernel(&mut self, value: Value) -> String {
        let name = self.name(value);
        if self.own_weights.contains_key(&value.node) {
            return name;
        }
        self.emit("Transpose", &[&name], vec![ints("perm", [2, 1, 0])])
    }

    pub fn attention(
        &mut self,
        node: &Node,
        heads: usize,
        causal: bool,
        output: &str,
    ) -> Result<(), CodecError> {
        let shape = node.shapes[0].dims().to_vec();
        let &[_, steps, width] = shape.as_slice() else {
            return Err(unsupported(node.op.name(), format!("its result is {}", node.shapes[0])));
        };
        let (Some(steps), Some(width)) = (steps.fixed(), width.fixed()) else {
            return Err(unsupported(node.op.name(), format!("its result is {}", node.shapes[0])));
        };
        let size = width / heads;
        let q = self.by_head(node.inputs[0], (heads, size), &[0, 2, 1, 3]);
        let k = self.by_head(node.inputs[1], (heads, size), &[0, 2, 3, 1]);
        let v = self.by_head(node.inputs[2], (heads, size), &[0, 2, 1, 3]);
        let scores = self.emit("MatMul", &[&q, &k], Vec::new());
        let scale = self.fresh(&format!("{}.scale", self.current));
        self.constant(&Tensor::scalar(1.0 / (size as f32).sqrt()), &scale);
        let mut scores = self.emit("Mul", &[&scores, &scale], Vec::new());
        if causal {
            let mask = self.causal_mask(steps);
            scores = self.emit("Add", &[&scores, &mask], Vec::new());
        }
        let weights = self.emit("Softmax", &[&scores], vec![int("axis", 3)]);
        let mixed = self.emit("MatMul", &[&weights, &v], Vec::new());
        let mixed = self.emit("Transpose", &[&mixed], vec![ints("perm", [0, 2, 1, 3])]);
        let target = self.integers(&[shape[0].fixed().map_or(-1, |n| n as i64), steps as i64, width as i64]);
        self.emit_as("Reshape", &[&mixed, &target], Vec::new(), output);
        Ok(())
    }

    /// `[B, places, D]` as `[B, places, heads, D/heads]` with the axes in this order.
    fn by_head(&mut self, value: Value, (heads, size): (usize, usize), order: &[usize]) -> String {
        let dims = self.graph.shape(value).dims();
        let lead = dims[..2].iter().map(|dim| dim.fixed().map_or(-1, |n| n as i64));
        let target: Vec<i64> = lead.chain([heads as i64, size as i64]).collect();
        let target = self.integers(&target);
        let name = self.name(value);
        let split = self.emit("Reshape", &[&name, &target], Vec::new());
        self.emit("Transpose", &[&split], vec![ints("perm", order.iter().copied())])
    }

    /// [`Tensor::causal_mask`]; one of a size is written once.
    fn causal_mask(&mut self, steps: usize) -> String {
        if let Some(name) = self.masks.get(&steps) {
            return name.clone();
        }
        let name = self.fresh(&format!("causal_mask_{steps}"));
        self.constant(&Tensor::causal_mask(steps), &name);
        self.masks.insert(steps, name.clone());
        name
    }
}
