//! Finds attention in a graph that spells it out: heads split off, scaled products, a softmax, heads joined.
//!
//! The scale may stand at the scores, at the queries and keys, or in part at each; the causal mask is a constant that
//! is added. What looks otherwise stays as it is.

use graph::{BinaryOp, Graph, Initial, Node, NodeId, Op, Tensor, UnaryOp, Value};

/// A mask hides what it makes smaller by this or more.
const HIDDEN: f32 = -1e9;
/// How far the scale may be from 1/√(D/heads): a rounding or two of f32.
const SCALE_ERROR: f64 = 1e-5;
/// How deep a number's computation may be.
const NUMBER_STEPS_MAX: usize = 6;

/// The graph with each such part as one op. Nodes that nothing else reads then go.
pub fn recognise(mut graph: Graph) -> Graph {
    let mut covered = vec![false; graph.nodes.len()];
    for id in 0..graph.nodes.len() {
        let mut seen = Vec::new();
        if let Some(found) = (Search { graph: &graph, seen: &mut seen }).attention(&graph.nodes[id]) {
            seen.into_iter().for_each(|node: NodeId| covered[node.0 as usize] = true);
            let node = &mut graph.nodes[id];
            node.op = Op::Attention { heads: found.heads, causal: found.causal };
            node.inputs = vec![found.q, found.k, found.v];
        }
    }
    if covered.contains(&true) { without_unread(graph, covered) } else { graph }
}

struct Found {
    q: Value,
    k: Value,
    v: Value,
    heads: usize,
    causal: bool,
}

struct Search<'g, 's> {
    graph: &'g Graph,
    /// The nodes that the op stands for, its own aside.
    seen: &'s mut Vec<NodeId>,
}

impl<'g> Search<'g, '_> {
    /// The node behind a first output, as a part of what was found.
    fn node(&mut self, value: Value) -> Option<&'g Node> {
        self.seen.push(value.node);
        (value.slot == 0).then(|| self.graph.node(value.node))
    }

    /// `node` joins the heads.
    fn attention(&mut self, node: &Node) -> Option<Found> {
        let Op::Reshape { shape } = &node.op else { return None };
        let &[_, _, width] = shape.dims() else { return None };
        let joined = self.permuted(node.inputs[0], &[0, 2, 1, 3])?;
        let &[_, heads, _, size] = self.graph.shape(joined).dims() else { return None };
        let (heads, size, width) = (heads.fixed()?, size.fixed()?, width.fixed()?);
        if heads * size != width {
            return None;
        }
        let mixed = self.node(joined)?;
        let Op::MatMul { transpose_a: false, transpose_b } = mixed.op else { return None };
        let v = self.by_head(mixed.inputs[1], if transpose_b { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] })?;
        let weights = self.node(mixed.inputs[0])?;
        if weights.op != (Op::Softmax { axis: 3 }) {
            return None;
        }
        let (scores, causal) = self.without_mask(weights.inputs[0])?;
        let mut scale = 1.0;
        let scores = self.without_factors(scores, &mut scale)?;
        let product = self.node(scores)?;
        let Op::MatMul { transpose_a: false, transpose_b } = product.op else { return None };
        let q = self.without_factors(product.inputs[0], &mut scale)?;
        let k = self.without_factors(product.inputs[1], &mut scale)?;
        let q = self.by_head(q, &[0, 2, 1, 3])?;
        let k = self.by_head(k, if transpose_b { &[0, 2, 1, 3] } else { &[0, 2, 3, 1] })?;
        if (scale * (size as f64).sqrt() - 1.0).abs() > SCALE_ERROR {
            return None;
        }
        let op = Op::Attention { heads, causal };
        let shapes = [q, k, v].map(|value| self.graph.shape(value));
        let derived = graph::shape_rule(&op, &shapes).ok()?;
        (derived == node.shapes).then_some(Found { q, k, v, heads, causal })
    }

    /// What a transpose of these axes reads.
    fn permuted(&mut self, value: Value, order: &[usize]) -> Option<Value> {
        let node = self.node(value)?;
        match &node.op {
            Op::Transpose { axes } if axes == order => Some(node.inputs[0]),
            _ => None,
        }
    }

    /// What was split into heads and permuted so.
    fn by_head(&mut self, value: Value, order: &[usize]) -> Option<Value> {
        let split = self.permuted(value, order)?;
        let node = self.node(split)?;
        let Op::Reshape { shape } = &node.op else { return None };
        let (split, whole) = (shape.dims(), self.graph.shape(node.inputs[0]).dims());
        (whole.len() == 3 && split.len() == 4 && split[..2] == whole[..2]).then_some(node.inputs[0])
    }

    /// What a causal mask is added to, and whether one is.
    fn without_mask(&mut self, scores: Value) -> Option<(Value, bool)> {
        let node = self.graph.node(scores.node);
        if node.op != Op::Binary(BinaryOp::Add) {
            return Some((scores, false));
        }
        for (mask, rest) in [(0, 1), (1, 0)] {
            let (mask, rest) = (node.inputs[mask], node.inputs[rest]);
            if self.constant(mask).is_some_and(is_causal_mask) && self.graph.shape(rest) == &node.shapes[0] {
                self.seen.extend([scores.node, mask.node]);
                return Some((rest, true));
            }
        }
        None
    }

    /// What is multiplied by or divided by constant numbers, which `scale` takes in.
    fn without_factors(&mut self, mut value: Value, scale: &mut f64) -> Option<Value> {
        loop {
            let node = self.graph.node(value.node);
            let (Op::Binary(BinaryOp::Mul) | Op::Binary(BinaryOp::Div)) = node.op else { return Some(value) };
            let (a, b) = (node.inputs[0], node.inputs[1]);
            let (rest, constant) =
                match (&node.op, self.number(b, NUMBER_STEPS_MAX), self.number(a, NUMBER_STEPS_MAX)) {
                    (Op::Binary(BinaryOp::Div), Some(x), _) => {
                        *scale /= x;
                        (a, b)
                    }
                    (Op::Binary(BinaryOp::Mul), Some(x), _) => {
                        *scale *= x;
                        (a, b)
                    }
                    (Op::Binary(BinaryOp::Mul), None, Some(x)) => {
                        *scale *= x;
                        (b, a)
                    }
                    _ => return None,
                };
            if self.graph.shape(rest) != &node.shapes[0] {
                return None;
            }
            self.seen.extend([value.node, constant.node]);
            value = rest;
        }
    }

    /// A constant number, or what roots, products and quotients make of such: exporters compute 1/√size in the file.
    fn number(&self, value: Value, steps: usize) -> Option<f64> {
        if let Some(tensor) = self.constant(value) {
            return match tensor.data() {
                &[x] => Some(f64::from(x)),
                _ => None,
            };
        }
        let steps = steps.checked_sub(1)?;
        let node = self.graph.node(value.node);
        let input = |index: usize| self.number(node.inputs[index], steps);
        match node.op {
            Op::Unary(UnaryOp::Sqrt) => Some(input(0)?.sqrt()),
            Op::Binary(BinaryOp::Mul) => Some(input(0)? * input(1)?),
            Op::Binary(BinaryOp::Div) => Some(input(0)? / input(1)?),
            _ => None,
        }
    }

    fn constant(&self, value: Value) -> Option<&'g Tensor> {
        match &self.graph.node(value.node).op {
            Op::Constant(tensor) => Some(tensor),
            Op::State { name } => match &self.graph.state(name)?.initial {
                Initial::Given(tensor) => Some(tensor),
                _ => None,
            },
            _ => None,
        }
    }
}

/// `[…1, T, T]`: 0 up to the row's place, [`HIDDEN`] or less behind it.
fn is_causal_mask(mask: &Tensor) -> bool {
    let dims = mask.dims();
    let Some((lead, &[rows, columns])) = dims.len().checked_sub(2).map(|n| dims.split_at(n)) else {
        return false;
    };
    let right = |(i, &x): (usize, &f32)| if i % columns > i / columns { x <= HIDDEN } else { x == 0.0 };
    rows == columns && lead.iter().all(|&n| n == 1) && mask.data().iter().enumerate().all(right)
}

/// Drops those of the covered nodes that nothing reads any more; states stay.
fn without_unread(graph: Graph, covered: Vec<bool>) -> Graph {
    let mut reads = vec![0usize; graph.nodes.len()];
    let nodes = graph.nodes.iter().flat_map(|node| &node.inputs);
    let ends = graph.outputs.iter().map(|(_, value)| value).chain(graph.updates.iter().map(|u| &u.value));
    nodes.chain(ends).for_each(|value| reads[value.node.0 as usize] += 1);
    let mut gone = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        let source = matches!(node.op, Op::Input { .. } | Op::State { .. });
        if covered[id] && !source && reads[id] == 0 {
            gone[id] = true;
            node.inputs.iter().for_each(|value| reads[value.node.0 as usize] -= 1);
        }
    }
    let mut places = Vec::with_capacity(gone.len());
    let mut kept_before = 0u32;
    for gone in &gone {
        places.push(kept_before);
        kept_before += u32::from(!gone);
    }
    let moved = |value: Value| Value { node: NodeId(places[value.node.0 as usize]), ..value };
    let mut kept = Graph::default();
    for (node, gone) in graph.nodes.into_iter().zip(gone) {
        if !gone {
            let inputs = node.inputs.iter().map(|&value| moved(value)).collect();
            kept.nodes.push(Node { inputs, ..node });
        }
    }
    kept.outputs = graph.outputs.into_iter().map(|(name, value)| (name, moved(value))).collect();
    kept.states = graph.states;
    kept.states.iter_mut().for_each(|state| state.node = NodeId(places[state.node.0 as usize]));
    kept.updates = graph.updates;
    kept.updates.iter_mut().for_each(|update| update.value = moved(update.value));
    kept
}
