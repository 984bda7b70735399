//! A small graph without time or recurrence as a list of kernels over buffers of its own, at batch 1: what a
//! sliding plan runs on its hot path, where tract's allocations have no place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use graph::{Graph, Node, NodeId, Op, PrepareError, Shape, Value};

use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::gemm::{Left, Start, gemm};
use crate::kernel::panels::{Panels, Strides};
use crate::ops::fused::Kernel;
use crate::ops::matmul::MatMul;
use crate::ops::plain_kernel;
use crate::pool::{Pool, Spare};

/// A prepared graph. Its weights are constants.
pub(crate) struct Program {
    buffers: Vec<Aligned>,
    steps: Vec<Step>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

/// One op: it reads buffers and writes one.
struct Step {
    output: usize,
    work: Work,
}

enum Work {
    Kernel {
        kernel: Arc<dyn Kernel>,
        inputs: Vec<usize>,
    },
    /// Rows of one input times weights.
    Product {
        input: usize,
        rows: usize,
        weights: Panels,
        path: Path,
    },
    /// Parts of inputs, over zeros where they don't cover the output.
    Copies(Vec<Copies>),
}

/// `count` runs of `len` numbers.
#[derive(Clone, Copy)]
struct Copies {
    input: usize,
    from: usize,
    from_stride: usize,
    to: usize,
    to_stride: usize,
    len: usize,
    count: usize,
}

impl Program {
    pub(crate) fn new(path: Path, graph: &Graph) -> Result<Self, PrepareError> {
        let mut program =
            Program { buffers: Vec::new(), steps: Vec::new(), inputs: Vec::new(), outputs: Vec::new() };
        let mut places: HashMap<Value, usize> = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let value = Value { node: NodeId(index as u32), slot: 0 };
            let place = program.add(path, graph, node, &places)?;
            places.insert(value, place);
        }
        program.inputs =
            graph.inputs().filter_map(|(_, node, _)| places.get(&Value { node, slot: 0 }).copied()).collect();
        program.outputs = graph.outputs.iter().filter_map(|(_, value)| places.get(value).copied()).collect();
        Ok(program)
    }

    /// Whether the output is the input as it is.
    pub(crate) fn is_identity(&self) -> bool {
        self.inputs == self.outputs
    }

    pub(crate) fn input(&mut self, index: usize) -> &mut [f32] {
        &mut self.buffers[self.inputs[index]]
    }

    pub(crate) fn output(&self, index: usize) -> &[f32] {
        &self.buffers[self.outputs[index]]
    }

    pub(crate) fn run(&mut self) {
        for step in &self.steps {
            let mut output = std::mem::take(&mut self.buffers[step.output]);
            step.work.run(&self.buffers, &mut output);
            self.buffers[step.output] = output;
        }
    }

    fn buffer(&mut self, len: usize) -> usize {
        let mut buffer = Aligned::default();
        buffer.resize(len);
        buffer.fill(0.0);
        self.buffers.push(buffer);
        self.buffers.len() - 1
    }

    /// The buffer of the node's output.
    fn add(
        &mut self,
        path: Path,
        graph: &Graph,
        node: &Node,
        places: &HashMap<Value, usize>,
    ) -> Result<usize, PrepareError> {
        let unsupported =
            |reason: &str| PrepareError::Unsupported { op: node.op.name().into(), reason: reason.into() };
        let dims = |shape: &Shape| shape.at(1).ok_or_else(|| unsupported("its shape overflows"));
        let [shape] = node.shapes.as_slice() else {
            return Err(unsupported("it has several outputs"));
        };
        let output = dims(shape)?;
        let shapes = node.inputs.iter().map(|&v| dims(graph.shape(v))).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<usize> = node.inputs.iter().filter_map(|value| places.get(value).copied()).collect();
        if inputs.len() != node.inputs.len() {
            return Err(unsupported("it reads a further output of a node"));
        }
        let work = match &node.op {
            Op::Input { .. } => return Ok(self.buffer(output.iter().product())),
            Op::Constant(tensor) => {
                let place = self.buffer(tensor.data().len());
                self.buffers[place].copy_from_slice(tensor.data());
                return Ok(place);
            }
            Op::Reshape { .. } => return Ok(inputs[0]),
            Op::Slice { axis, start, end } => {
                let (outer, inner) = around(&output, *axis);
                let len = (end - start) * inner;
                let from_stride = shapes[0][*axis] * inner;
                let copies = Copies {
                    input: inputs[0],
                    from: start * inner,
                    from_stride,
                    to: 0,
                    to_stride: len,
                    len,
                    count: outer,
                };
                Work::Copies(vec![copies])
            }
            Op::Pad { axis, before, .. } => {
                let (outer, inner) = around(&output, *axis);
                let len = shapes[0][*axis] * inner;
                let copies = Copies {
                    input: inputs[0],
                    from: 0,
                    from_stride: len,
                    to: before * inner,
                    to_stride: output[*axis] * inner,
                    len,
                    count: outer,
                };
                Work::Copies(vec![copies])
            }
            Op::Concat { axis } => {
                let (outer, inner) = around(&output, *axis);
                let mut to = 0;
                let copies = inputs.iter().zip(&shapes).map(|(&input, shape)| {
                    let len = shape[*axis] * inner;
                    let to_stride = output[*axis] * inner;
                    let copies =
                        Copies { input, from: 0, from_stride: len, to, to_stride, len, count: outer };
                    to += len;
                    copies
                });
                Work::Copies(copies.collect())
            }
            Op::MatMul { transpose_a, transpose_b } => {
                let (a, b) = (&shapes[0], &shapes[1]);
                let constant = matches!(graph.node(node.inputs[1].node).op, Op::Constant(_));
                let (depth, columns) = match transpose_b {
                    true => (b[b.len() - 1], b[b.len() - 2]),
                    false => (b[b.len() - 2], b[b.len() - 1]),
                };
                if constant && b.len() == 2 && !transpose_a {
                    let strides = match transpose_b {
                        true => Strides { row: 1, column: depth },
                        false => Strides { row: columns, column: 1 },
                    };
                    let mut weights = Panels::default();
                    weights.pack(path, depth, columns, &self.buffers[inputs[1]], strides);
                    let rows = a[..a.len() - 1].iter().product();
                    Work::Product { input: inputs[0], rows, weights, path }
                } else {
                    let (lead, last) = output.split_at(output.len() - 2);
                    let kernel = MatMul {
                        path,
                        pool: Pool::alone(),
                        lead: lead.iter().product(),
                        rows: last[0],
                        depth,
                        columns,
                        transpose_a: *transpose_a,
                        transpose_b: *transpose_b,
                        flat: a.len() == 2,
                        shared: b.len() == 2,
                        fixed: None,
                        bias: false,
                        packed: Mutex::default(),
                        parts: Mutex::default(),
                        spare: Spare::default(),
                    };
                    Work::Kernel { kernel: Arc::new(kernel), inputs }
                }
            }
            op => match plain_kernel(path, &Pool::alone(), op, &shapes, &output) {
                Some(kernel) => Work::Kernel { kernel, inputs },
                None => return Err(unsupported("it isn't computed row by row")),
            },
        };
        let output = self.buffer(output.iter().product());
        self.steps.push(Step { output, work });
        Ok(output)
    }
}

impl Work {
    fn run(&self, buffers: &[Aligned], output: &mut [f32]) {
        match self {
            Work::Kernel { kernel, inputs } => match *inputs.as_slice() {
                [a] => kernel.run(&[&buffers[a]], &mut [output]),
                [a, b] => kernel.run(&[&buffers[a], &buffers[b]], &mut [output]),
                [a, b, c] => kernel.run(&[&buffers[a], &buffers[b], &buffers[c]], &mut [output]),
                _ => {
                    let inputs: Vec<&[f32]> = inputs.iter().map(|&input| &*buffers[input]).collect();
                    kernel.run(&inputs, &mut [output]);
                }
            },
            Work::Product { input, rows, weights, path } => {
                let left = Left {
                    data: &buffers[*input],
                    rows: *rows,
                    row_stride: weights.depth(),
                    depth_stride: 1,
                };
                gemm(*path, left, weights, output, weights.columns(), Start::Zero, &mut Aligned::default());
            }
            Work::Copies(all) => {
                // What is not written stays zero from the start.
                for copies in all {
                    let input: &[f32] = &buffers[copies.input];
                    for run in 0..copies.count {
                        let from = copies.from + run * copies.from_stride;
                        let to = copies.to + run * copies.to_stride;
                        output[to..to + copies.len].copy_from_slice(&input[from..from + copies.len]);
                    }
                }
            }
        }
    }
}

/// Elements before the axis, and inside one step of it.
fn around(dims: &[usize], axis: usize) -> (usize, usize) {
    (dims[..axis].iter().product(), dims[axis + 1..].iter().product())
}
