//! A recurrent layer's weights, packed for one storage with the gates of a vector of units side by side.

use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::precision::Precision;

/// Which recurrence a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    Lstm,
    Gru,
}

impl Cell {
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// A matrix `[depth, gates · hidden]` whose columns go by blocks of as many units as a vector has lanes, gates
/// outside units inside; the last block may have fewer units. A block's panel holds, for each group of k,
/// `gates` vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Packed {
    data: Aligned,
    /// Of the columns in their new order, for int8.
    scales: Aligned,
    groups: usize,
}

/// The sizes that say where a column goes.
#[derive(Clone, Copy)]
struct Order {
    lanes: usize,
    gates: usize,
    hidden: usize,
}

impl Order {
    fn blocks(self) -> usize {
        self.hidden.div_ceil(self.lanes)
    }

    /// Calls `f(place, column)` for each column, where place counts in the new order.
    fn each(self, mut f: impl FnMut(usize, usize)) {
        for block in 0..self.blocks() {
            let first = block * self.lanes;
            let units = self.lanes.min(self.hidden - first);
            for gate in 0..self.gates {
                for unit in 0..units {
                    let place = first * self.gates + gate * units + unit;
                    f(place, gate * self.hidden + first + unit);
                }
            }
        }
    }

    /// Of a row in the new order, in whole vectors.
    fn row(self) -> usize {
        (self.gates * self.hidden).next_multiple_of(self.lanes)
    }
}

impl Packed {
    fn new(path: Path, precision: Precision, order: Order, depth: usize, source: &[f32]) -> Self {
        let columns = order.gates * order.hidden;
        assert_eq!(source.len(), depth * columns);
        let (lanes, groups, bytes) = (path.lanes(), precision.groups(depth), precision.bytes());
        let panel = groups * order.gates * lanes * bytes;
        let mut packed = Packed { groups, ..Packed::default() };
        packed.data.resize((order.blocks() * panel).div_ceil(4));
        packed.data.fill(0.0);
        let mut scales = vec![0.0; columns];
        if precision == Precision::Int8 {
            for row in source.chunks_exact(columns) {
                // What isn't a number must reach the scale: codes can't hold it.
                let wider = |scale: f32, w: f32| if w.abs() > scale || w.is_nan() { w.abs() } else { scale };
                scales.iter_mut().zip(row).for_each(|(scale, w)| *scale = wider(*scale, *w));
            }
            scales.iter_mut().for_each(|scale| *scale /= 127.0);
            packed.scales.resize(order.row());
            packed.scales.fill(0.0);
            order.each(|place, column| packed.scales[place] = scales[column]);
        }
        let block_columns = order.gates * lanes;
        let data = packed.data.bytes_mut();
        order.each(|place, column| {
            let (block, at) = (place / block_columns, place % block_columns);
            for k in 0..depth {
                let weight = source[k * columns + column];
                let group = k / precision.depth();
                let lane = block * panel + (group * block_columns + at) * bytes;
                match precision {
                    Precision::F32 => data[lane..lane + 4].copy_from_slice(&weight.to_ne_bytes()),
                    Precision::Bf16 => {
                        let lane = lane + k % 2 * 2;
                        data[lane..lane + 2].copy_from_slice(&bf16(weight).to_ne_bytes());
                    }
                    Precision::Int8 => {
                        let scale = scales[column];
                        let code = if scale > 0.0 { (weight / scale).round_ties_even() } else { weight };
                        data[lane + k % 2] = code as i8 as u8;
                    }
                }
            }
        });
        packed
    }

    pub(crate) fn data(&self) -> *const u8 {
        self.data.as_ptr().cast()
    }

    pub(crate) fn scales(&self) -> *const f32 {
        self.scales.as_ptr()
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.data)
    }
}

/// To the nearest, ties to even.
fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7fc0 } else { (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16 }
}

/// W `[F, G·H]` and U `[H, G·H]` packed, the bias of x·W, and for the GRU that of h·U.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    pub(crate) cell: Cell,
    pub(crate) precision: Precision,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    pub(crate) input: Packed,
    pub(crate) recurrent: Packed,
    pub(crate) input_bias: Aligned,
    pub(crate) recurrent_bias: Aligned,
    row: usize,
    blocks: usize,
}

impl Layer {
    /// `biases`: b, and for the GRU c after it.
    pub(crate) fn new(
        path: Path,
        (cell, precision): (Cell, Precision),
        (features, hidden): (usize, usize),
        w: &[f32],
        u: &[f32],
        biases: &[&[f32]],
    ) -> Self {
        let order = Order { lanes: path.lanes(), gates: cell.gates(), hidden };
        let bias = |source: Option<&&[f32]>| {
            let mut bias = Aligned::default();
            bias.resize(order.row());
            bias.fill(0.0);
            if let Some(source) = source {
                order.each(|place, column| bias[place] = source[column]);
            }
            bias
        };
        Layer {
            cell,
            precision,
            features,
            hidden,
            input: Packed::new(path, precision, order, features, w),
            recurrent: Packed::new(path, precision, order, hidden, u),
            input_bias: bias(biases.first()),
            recurrent_bias: bias(biases.get(1)),
            row: order.row(),
            blocks: order.blocks(),
        }
    }

    /// Numbers of a row of sums, in whole vectors.
    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// Blocks of as many units as a vector has lanes.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }
}
