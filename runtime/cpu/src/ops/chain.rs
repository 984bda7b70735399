//! Elementwise ops that feed each other as one op: a block of numbers passes through all of them while it is in the
//! first-level cache, and threads share out the blocks.

use std::sync::Arc;

use graph::{BinaryOp, UnaryOp};

use super::dropout::Keeps;
use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::elementwise::{Factor, binary, select, unary};
use crate::pool::{Pool, Spare};

/// A block has about so many numbers.
const BLOCK: usize = 512;
/// Below so many numbers times operations another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 17;

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    /// Of the output's last axis.
    pub(crate) width: usize,
    pub(crate) leaves: Vec<Leaf>,
    /// In order; the last one's value is the output.
    pub(crate) code: Vec<Instruction>,
    pub(crate) spare: Spare<Aligned>,
}

/// How an input lies beside the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// Element for element.
    Full,
    /// One number.
    Scalar,
    /// As wide as the output, the same for each row.
    Row,
    /// One number for each row.
    Column,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Leaf(usize),
    /// The value of an earlier instruction.
    Value(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Unary(UnaryOp),
    Binary(BinaryOp),
    Select,
    /// x, seed
    Dropout {
        rate: f32,
        salt: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub(crate) step: Step,
    /// As many as the step has operands; the rest repeats the first.
    pub(crate) sources: [Source; 3],
    /// Where the value stands between; see [`Chain::place`].
    pub(crate) slot: usize,
}

impl Chain {
    /// Gives each value a slot that no value still needed has; how many there are.
    pub(crate) fn place(code: &mut [Instruction]) -> usize {
        let mut last = vec![0; code.len()];
        for (index, instruction) in code.iter().enumerate() {
            for source in instruction.sources {
                if let Source::Value(value) = source {
                    last[value] = index;
                }
            }
        }
        let mut taken: Vec<Option<usize>> = Vec::new();
        for index in 0..code.len() {
            let free = taken.iter().position(|until| until.is_none_or(|until| until < index));
            let slot = free.unwrap_or_else(|| {
                taken.push(None);
                taken.len() - 1
            });
            taken[slot] = Some(last[index].max(index));
            code[index].slot = slot;
        }
        taken.len()
    }

    /// Some rows' worth of numbers where a leaf goes by rows.
    fn block(&self) -> usize {
        if self.leaves.iter().any(|leaf| matches!(leaf, Leaf::Row | Leaf::Column)) {
            self.width * (BLOCK / self.width).max(1)
        } else {
            BLOCK
        }
    }

    /// Elements from `first` on.
    fn part(&self, inputs: &[&[f32]], first: usize, y: &mut [f32], buffer: &mut Aligned) {
        let (block, slots) = (self.block(), self.code.iter().map(|i| i.slot + 1).max().unwrap_or(0));
        buffer.resize((slots + self.leaves.len()) * block);
        let (values, spread) = buffer.split_at_mut(slots * block);
        for ((leaf, spread), input) in self.leaves.iter().zip(spread.chunks_exact_mut(block)).zip(inputs) {
            if *leaf == Leaf::Row {
                spread.chunks_exact_mut(self.width).for_each(|row| row.copy_from_slice(input));
            }
        }
        for (index, y) in y.chunks_mut(block).enumerate() {
            let at = first + index * block;
            for ((leaf, spread), input) in self.leaves.iter().zip(spread.chunks_exact_mut(block)).zip(inputs)
            {
                if *leaf == Leaf::Column {
                    let rows = y.len() / self.width;
                    let columns = &input[at / self.width..][..rows];
                    spread.chunks_exact_mut(self.width).zip(columns).for_each(|(row, x)| row.fill(*x));
                }
            }
            self.block_of(inputs, spread, values, (at, block), y);
        }
    }

    fn block_of(
        &self,
        inputs: &[&[f32]],
        spread: &[f32],
        values: &mut [f32],
        (at, block): (usize, usize),
        y: &mut [f32],
    ) {
        let len = y.len();
        let last = self.code.len() - 1;
        for (index, instruction) in self.code.iter().enumerate() {
            let start = instruction.slot * block;
            let (before, rest) = values.split_at_mut(start);
            let (own, after) = rest.split_at_mut(block);
            let target = if index == last { &mut *y } else { &mut own[..len] };
            let value = |value: usize| {
                let slot = self.code[value].slot * block;
                if slot < start { &before[slot..slot + len] } else { &after[slot - start - block..][..len] }
            };
            let factor = |source: Source| match source {
                Source::Value(index) => Factor::Many(value(index)),
                Source::Leaf(leaf) => match self.leaves[leaf] {
                    Leaf::Full => Factor::Many(&inputs[leaf][at..at + len]),
                    Leaf::Scalar => Factor::One(inputs[leaf][0]),
                    Leaf::Row | Leaf::Column => Factor::Many(&spread[leaf * block..][..len]),
                },
            };
            let [a, b, c] = instruction.sources;
            match instruction.step {
                Step::Unary(op) => unary(self.path, op, numbers(&factor(a)), target),
                Step::Binary(op) => binary(self.path, op, factor(a), factor(b), target),
                Step::Select => select(self.path, factor(a), factor(b), factor(c), target),
                Step::Dropout { rate, salt } => {
                    let (x, seed) = (factor(a), factor(b));
                    let keeps = Keeps::new(salt, numbers(&seed)[0] as u32, rate);
                    keeps.apply(at, numbers(&x), target);
                }
            }
        }
    }
}

/// The numbers as they stand.
fn numbers<'a>(factor: &'a Factor<'_>) -> &'a [f32] {
    match factor {
        Factor::One(x) => std::slice::from_ref(x),
        Factor::Many(data) | Factor::Strided(data, _) => data,
    }
}

impl Kernel for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let y = &mut *outputs[0];
        let (threads, block) = (self.pool.threads(), self.block());
        if threads == 1 || y.len() * self.code.len() < PARALLEL_MIN {
            return self.spare.with(|buffer| self.part(inputs, 0, y, buffer));
        }
        let part = y.len().div_ceil(2 * threads).next_multiple_of(block);
        let tasks: Vec<_> = y.chunks_mut(part).enumerate().collect();
        self.pool.run(tasks, |(index, y)| {
            self.spare.with(|buffer| self.part(inputs, index * part, y, buffer));
        });
    }
}
