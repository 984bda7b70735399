//! Nodes that [`Fusion`](crate::fusion::Fusion) made one: products with their biases, chains of elementwise ops.

use std::sync::{Arc, Mutex};

use graph::{Node, NodeId};
use tract_onnx::prelude::*;

use super::Lowering;
use crate::fusion::side_by_side;
use crate::kernel::panels::Panels;
use crate::ops::fused::plain;
use crate::ops::join::Join;
use crate::ops::matmul::MatMul;
use crate::pool::Spare;

impl Lowering<'_, '_> {
    /// A product, with the bias after it where it alone reads the product.
    pub(super) fn matmul(
        &mut self,
        id: NodeId,
        node: &Node,
        transpose_a: bool,
        transpose_b: bool,
    ) -> TractResult<()> {
        let (a, b, y) = (self.of(node.inputs[0])?, self.of(node.inputs[1])?, self.out(node)?);
        let (lead, last) = y.split_at(y.len() - 2);
        let mut op = MatMul {
            path: self.context.path,
            pool: self.context.pool.clone(),
            lead: lead.iter().product(),
            rows: last[0],
            depth: a[a.len() - if transpose_a { 2 } else { 1 }],
            columns: last[1],
            transpose_a,
            transpose_b,
            flat: a.len() == 2,
            shared: b.len() == 2,
            fixed: None,
            bias: false,
            packed: Mutex::default(),
            parts: Mutex::default(),
            spare: Spare::default(),
        };
        let mut inputs = node.inputs.clone();
        let target = self.context.fusion.bias(id).map_or(id, |(sum, bias)| {
            op.bias = true;
            inputs.push(bias);
            sum
        });
        if let (true, Some(right)) = (op.shared, self.constant(node.inputs[1])?) {
            let key = (node.inputs[1], transpose_b);
            let packed = match self.context.packs.right.get(&key) {
                Some(packed) => packed.clone(),
                None => {
                    let mut packed = Panels::default();
                    packed.pack(op.path, op.depth, op.columns, plain(&right)?, op.right_strides());
                    let packed = Arc::new(packed);
                    self.context.packs.right.insert(key, packed.clone());
                    packed
                }
            };
            op.fixed = Some(packed);
        }
        self.fuse_on(target, node, &inputs, Arc::new(op))
    }

    /// Elementwise ops that end at this node, as one.
    pub(super) fn chain(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let (path, pool) = (self.context.path, self.context.pool.clone());
        let (chain, inputs) = self.context.fusion.chain(self.context.graph, id, path, pool.clone());
        if let Some((inputs, widths)) = side_by_side(self.context.graph, &chain, &inputs) {
            return self.fuse_on(id, node, &inputs, Arc::new(Join { pool, widths }));
        }
        self.fuse_on(id, node, &inputs, Arc::new(chain))
    }
}
