//! Windows that slide by one row: with a window of T rows, T − 1 windows are in flight, each begun one row after
//! the last, and each new row ends the oldest.
//!
//! `push` runs one step of that window alone, whose h·U + c is ready, and so has only x·W to make. `settle` then
//! advances the other windows by the new row as one batch, starts the next one from zeros, and makes h·U + c of
//! the window that is due. Each number comes from the same chain of operations as in a fresh window, so they
//! agree to the bit. Without recurrent layers `push` does all: past rows are kept where convolutions read them.
//!
//! The carried mode keeps one state for ever instead: another function of the rows, far less work in `settle`.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use graph::sliding::{Sliding, split};
use graph::{Graph, Op, PrepareError, RunError, SlidingPlan, Tensor};

use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::recurrent::step::{Side, Step, Sums, step, sums};
use crate::kernel::recurrent::weights::{Cell, Layer};
use crate::kernel::recurrent::{Inputs, Place, Stack, States};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::program::Program;

/// From so many bytes of input weights on, two threads make a push faster than one.
const SHARED_BYTES_MIN: usize = 400_000;
/// A share of the windows in flight is at least so many: two tiles of rows.
const SHARE_MIN: usize = 12;

pub(crate) struct CpuSliding {
    pool: Arc<Pool>,
    window: usize,
    features: usize,
    carried: bool,
    front: Program,
    /// Whether the front gives the row as it is.
    plain: bool,
    layers: Option<Layers>,
    streams: Vec<Stream>,
}

/// The stack and the buffers that streams share.
struct Layers {
    stack: Stack,
    head: Program,
    inputs: Inputs,
    /// The due window's new state, by layer.
    due: Vec<Windows>,
    /// Where `settle` writes, by layer; then they change places with the stream's.
    spare: Vec<States>,
    /// The steps of the push at hand.
    steps: Vec<Step>,
    /// Whether a push is worth a second thread.
    large: bool,
}

// SAFETY: `steps` point into the plan's own buffers and are used inside `push` alone.
unsafe impl Send for Layers {}

/// A layer's states of windows in flight.
#[derive(Default)]
struct Windows {
    rows: usize,
    states: States,
    cell: Aligned,
}

struct Stream {
    /// Rows so far.
    seen: usize,
    /// What `seen` was at the newest settled row that the storage couldn't hold, 0 for none; and whether the one
    /// that isn't settled is such a row.
    spoilt: usize,
    spoils: bool,
    settled: bool,
    taps: Vec<Ring>,
    /// x·W + b of the first layer for the newest row: the same for all windows.
    input_sums: Aligned,
    /// By layer. Window w of the stream is row w mod (T − 1).
    windows: Vec<Windows>,
    /// h·U + c of the due window, by layer.
    ready: Vec<Aligned>,
}

/// Past rows that a convolution reads.
struct Ring {
    rows: Aligned,
    size: usize,
    delay: usize,
}

impl CpuSliding {
    /// `Err(Unsupported)` says why the graph can't slide.
    pub(crate) fn new(
        (path, precision): (Path, Precision),
        pool: &Arc<Pool>,
        graph: &Graph,
        (window, streams): (usize, usize),
        carried: bool,
    ) -> Result<Self, PrepareError> {
        let unsupported = |reason: String| PrepareError::Unsupported { op: "sliding".into(), reason };
        let sliding = split(graph, window).map_err(unsupported)?;
        let features = sliding.front.inputs().next().and_then(|(_, _, shape)| shape.elements(1)).unwrap_or(0);
        if carried && sliding.layers.is_empty() {
            return Err(unsupported("there is no recurrent layer whose state could be carried on".into()));
        }
        let front = Program::new(path, &sliding.front)?;
        let layers = match &sliding.head {
            Some(head) => Some(Layers::new((path, precision), &sliding, head)?),
            None => None,
        };
        let rows = if carried { 1 } else { window - 1 };
        let stream = || Stream::new(&sliding, layers.as_ref(), rows);
        let streams = (0..streams).map(|_| stream()).collect();
        let plain = front.is_identity();
        Ok(CpuSliding { pool: pool.clone(), window, features, carried, front, plain, layers, streams })
    }

    fn check_stream(&self, stream: usize) -> Result<(), RunError> {
        let count = self.streams.len();
        if stream < count {
            return Ok(());
        }
        Err(RunError::Argument(format!("there is no stream {stream}; the plan has {count}")))
    }

    fn check(&self, stream: usize, row: &[f32]) -> Result<(), RunError> {
        self.check_stream(stream)?;
        if row.len() == self.features {
            return Ok(());
        }
        Err(RunError::Argument(format!("a row has {} numbers, not {}", self.features, row.len())))
    }

    /// The stream's newest row, which `seen` counts already; whether there is a prediction.
    fn newest(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> bool {
        let stream = &mut self.streams[stream];
        stream.settled = false;
        let x = if self.plain {
            row
        } else {
            self.front.input(0).copy_from_slice(row);
            for (index, tap) in stream.taps.iter_mut().enumerate() {
                self.front.input(1 + index).copy_from_slice(tap.at(stream.seen - tap.delay.min(stream.seen)));
            }
            self.front.run();
            for (index, tap) in stream.taps.iter_mut().enumerate() {
                tap.at(stream.seen).copy_from_slice(self.front.output(1 + index));
            }
            self.front.output(0)
        };
        let full = stream.seen >= self.window;
        let prediction = match &mut self.layers {
            None => x,
            Some(layers) => layers.push(stream, x, (full, self.window), self.carried, &self.pool),
        };
        if full {
            output.clear();
            output.extend_from_slice(prediction);
        }
        full
    }
}

impl SlidingPlan for CpuSliding {
    fn push(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        self.check(stream, row)?;
        self.settle(stream)?;
        self.streams[stream].seen += 1;
        Ok(self.newest(stream, row, output))
    }

    fn replace(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        self.check(stream, row)?;
        if self.streams[stream].settled {
            return Err(RunError::Argument("the stream's newest row is settled".into()));
        }
        Ok(self.newest(stream, row, output))
    }

    fn settle(&mut self, stream: usize) -> Result<(), RunError> {
        self.check_stream(stream)?;
        let stream = &mut self.streams[stream];
        if stream.settled {
            return Ok(());
        }
        if std::mem::take(&mut stream.spoils) {
            stream.spoilt = stream.seen;
        }
        if let Some(layers) = &mut self.layers {
            if self.carried {
                layers.carry(stream);
            } else if self.window > 1 {
                layers.advance(stream, self.window - 1, &self.pool);
            }
        }
        stream.settled = true;
        Ok(())
    }

    fn reset(&mut self, stream: usize) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.clear(self.layers.as_ref());
        }
    }
}

impl Layers {
    fn new(form: (Path, Precision), sliding: &Sliding, head: &Graph) -> Result<Self, PrepareError> {
        let layers = sliding.layers.iter().map(|layer| pack(form, layer)).collect::<Result<Vec<_>, _>>()?;
        let mut inputs = Inputs::default();
        if let Some(first) = layers.first() {
            inputs.reserve(first, 1);
        }
        let due = layers.iter().map(|layer| Windows::new(layer, 1)).collect();
        let spare = layers.iter().map(|_| States::default()).collect();
        let bytes: usize = layers.iter().map(|layer| layer.input.bytes()).sum();
        let steps = Vec::with_capacity(layers.len());
        Ok(Layers {
            steps,
            large: bytes >= SHARED_BYTES_MIN,
            stack: Stack { path: form.0, layers },
            head: Program::new(form.0, head)?,
            inputs,
            due,
            spare,
        })
    }

    /// The due window's last step, and the prediction. Where it isn't full yet only what `settle` needs.
    fn push(
        &mut self,
        stream: &mut Stream,
        x: &[f32],
        (full, window): (bool, usize),
        carried: bool,
        pool: &Pool,
    ) -> &[f32] {
        let Layers { stack, head, inputs, due, steps, large, .. } = self;
        let (path, first) = (stack.path, &stack.layers[0]);
        inputs.encode(path, first, 1, x);
        stream.spoils = !inputs.finite(first, 0..1);
        let product = first.input_product(inputs.left(first, x, 0, 1));
        let input = all_sums(first, product, &mut stream.input_sums);
        if !full && !carried {
            // SAFETY: x has the layer's features, the sums have room for a row.
            unsafe { sums(path, first.cell, first.precision, &input) };
            return &[];
        }
        let count = stream.windows.first().map_or(0, |windows| windows.rows);
        let row = if carried { 0 } else { (stream.seen - 1) % count.max(1) };
        // A window of one row has nothing before it, nor has the first row of a carried state.
        let begins = count == 0 || carried && stream.seen == 1;
        steps.clear();
        for (index, layer) in stack.layers.iter().enumerate() {
            let p = match index.checked_sub(1) {
                None => Side::Ready { sums: input.sums.cast_const(), stride: 0 },
                Some(below) => Side::Product(layer.input_product(due[below].states.place().left(0, 1))),
            };
            let (q, before) = if begins {
                (layer.recurrent_zero(), None)
            } else {
                (Side::Ready { sums: stream.ready[index].as_ptr(), stride: 0 }, Some(row))
            };
            let before = before.map(|row| (&mut stream.windows[index], row));
            steps.push(last_step(layer, (p, q), before, &mut due[index]));
        }
        let push = Push { stack, input, steps };
        // SAFETY: x has the layer's features; `ready` and the sums hold a row of the layer, the due buffers one
        // state, and the window in flight has its row.
        let alone = || unsafe { push.all() };
        if *large {
            let done = [AtomicUsize::new(0), AtomicUsize::new(0)];
            // SAFETY: as above, and the two write different blocks.
            let half = |index: usize| unsafe { push.half(index, &done) };
            if !pool.assisted(|| half(0), &|| half(1)) {
                alone();
            }
        } else {
            alone();
        }
        let last = &due[due.len() - 1].states.h;
        head.input(0).copy_from_slice(last);
        let near = stream.spoilt > 0 && (carried || stream.seen - stream.spoilt < window);
        if stream.spoils || near {
            head.input(0).fill(f32::NAN);
        }
        head.run();
        head.output(0)
    }

    /// All windows in flight take the newest row; the one that ended begins again.
    fn advance(&mut self, stream: &mut Stream, count: usize, pool: &Pool) {
        let (begun, due) = ((stream.seen - 1) % count, stream.seen % count);
        let mut places = Vec::with_capacity(self.stack.layers.len());
        for ((layer, windows), spare) in
            self.stack.layers.iter().zip(&mut stream.windows).zip(&mut self.spare)
        {
            windows.clear_row(layer, begun);
            spare.reserve(layer, count);
            places.push(Layered {
                layer,
                from: windows.states.place(),
                to: spare.place(),
                cell: windows.cell.as_mut_ptr(),
            });
        }
        let (path, input_sums) = (self.stack.path, stream.input_sums.as_ptr());
        let shared = Shared { places: &places, input_sums };
        // A small model's state is best left in one core's cache: the push would have to fetch it from another.
        let threads = if self.large { pool.threads() } else { 1 };
        let share = count.div_ceil(threads).max(SHARE_MIN);
        pool.run((0..count).step_by(share).collect(), |first: usize| {
            let rows = share.min(count - first);
            // SAFETY: the states have `count` rows, of which each task writes its own; what it reads besides its
            // own rows nobody writes.
            unsafe { shared.advance(path, first, rows) };
        });
        for (index, layer) in self.stack.layers.iter().enumerate() {
            let windows = &mut stream.windows[index];
            std::mem::swap(&mut windows.states, &mut self.spare[index]);
            windows.make_ready(path, layer, due, &mut stream.ready[index]);
        }
    }

    /// The state that the newest row left is the one to go on from.
    fn carry(&mut self, stream: &mut Stream) {
        for (index, layer) in self.stack.layers.iter().enumerate() {
            let windows = &mut stream.windows[index];
            std::mem::swap(&mut windows.states, &mut self.due[index].states);
            std::mem::swap(&mut windows.cell, &mut self.due[index].cell);
            windows.make_ready(self.stack.path, layer, 0, &mut stream.ready[index]);
        }
    }
}

/// The last step of a window, layer by layer.
struct Push<'a> {
    stack: &'a Stack,
    input: Sums,
    steps: &'a [Step],
}

// SAFETY: the threads that share it write different blocks, and wait for each other between layers.
unsafe impl Sync for Push<'_> {}

impl Push<'_> {
    /// # Safety
    /// The pointers of the sums and the steps cover what they say, and nobody else touches it.
    unsafe fn all(&self) {
        let first = &self.stack.layers[0];
        // SAFETY: the caller's.
        unsafe {
            sums(self.stack.path, first.cell, first.precision, &self.input);
            for (layer, now) in self.stack.layers.iter().zip(self.steps) {
                step(self.stack.path, layer.cell, layer.precision, now);
            }
        }
    }

    /// One of two threads' blocks, each layer when the other has ended the one below.
    ///
    /// # Safety
    /// As for `all`, but another thread does the other half at the same time.
    unsafe fn half(&self, index: usize, done: &[AtomicUsize; 2]) {
        for (at, (layer, now)) in self.stack.layers.iter().zip(self.steps).enumerate() {
            let middle = layer.blocks().div_ceil(2);
            let (first, last) = [(0, middle), (middle, layer.blocks())][index];
            // SAFETY: the caller's.
            unsafe {
                if at == 0 {
                    let input = Sums { first, last, ..self.input };
                    sums(self.stack.path, layer.cell, layer.precision, &input);
                }
                step(self.stack.path, layer.cell, layer.precision, &Step { first, last, ..*now });
            }
            done[index].store(at + 1, Ordering::Release);
            while done[1 - index].load(Ordering::Acquire) <= at {
                std::hint::spin_loop();
            }
        }
    }
}

/// A layer's buffers while windows advance.
struct Layered<'a> {
    layer: &'a Layer,
    from: Place,
    to: Place,
    cell: *mut f32,
}

struct Shared<'a> {
    places: &'a [Layered<'a>],
    input_sums: *const f32,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// # Safety
    /// The states have `first + rows` rows, and nobody else touches those.
    unsafe fn advance(&self, path: Path, first: usize, rows: usize) {
        for (index, &Layered { layer, from, to, cell }) in self.places.iter().enumerate() {
            let p = match index.checked_sub(1) {
                None => Side::Ready { sums: self.input_sums, stride: 0 },
                Some(below) => Side::Product(layer.input_product(self.places[below].to.left(first, 1))),
            };
            let q = Side::Product(layer.recurrent_product(from.left(first, 1)));
            let cell = (cell.wrapping_add(first * layer.hidden), layer.hidden);
            let now = layer.step(rows, (p, q), Some((from, first)), (to, first, 1), cell);
            // SAFETY: the caller's.
            unsafe { step(path, layer.cell, layer.precision, &now) };
        }
    }
}

/// The last step of the window at row `before`, or a first and last one, into `due`.
fn last_step(
    layer: &Layer,
    sides: (Side, Side),
    before: Option<(&mut Windows, usize)>,
    due: &mut Windows,
) -> Step {
    let to = due.states.place();
    let cell = due.cell.as_mut_ptr();
    match before {
        None => layer.step(1, sides, None, (to, 0, 1), (cell, 0)),
        Some((windows, row)) => {
            let c_before = windows.cell.as_ptr().wrapping_add(row * layer.hidden);
            let from = windows.states.place();
            Step { c_before, ..layer.step(1, sides, Some((from, row)), (to, 0, 1), (cell, 0)) }
        }
    }
}

/// One row of sums of all the layer's blocks.
fn all_sums(layer: &Layer, product: crate::kernel::recurrent::step::Product, target: &mut Aligned) -> Sums {
    Sums {
        rows: 1,
        units: layer.hidden,
        first: 0,
        last: layer.blocks(),
        product,
        sums: target.as_mut_ptr(),
        stride: layer.row(),
    }
}

impl Windows {
    fn new(layer: &Layer, rows: usize) -> Self {
        let mut windows = Windows { rows, ..Windows::default() };
        windows.states.reserve(layer, rows);
        windows.cell.resize(if layer.cell == Cell::Lstm { rows * layer.hidden } else { 0 });
        windows.clear();
        windows
    }

    fn clear(&mut self) {
        self.states.clear();
        self.cell.fill(0.0);
    }

    /// The window at `row` begins again from zeros.
    fn clear_row(&mut self, layer: &Layer, row: usize) {
        self.states.clear_row(row);
        if layer.cell == Cell::Lstm {
            self.cell[row * layer.hidden..][..layer.hidden].fill(0.0);
        }
    }

    fn make_ready(&mut self, path: Path, layer: &Layer, row: usize, ready: &mut Aligned) {
        let product = layer.recurrent_product(self.states.place().left(row, 1));
        // SAFETY: the states have that row, `ready` has room for a row of sums.
        unsafe { sums(path, layer.cell, layer.precision, &all_sums(layer, product, ready)) };
    }
}

impl Stream {
    fn new(sliding: &Sliding, layers: Option<&Layers>, rows: usize) -> Self {
        let sizes = sliding.front.inputs().skip(1).map(|(_, _, shape)| shape.elements(1).unwrap_or(0));
        let taps = sizes.zip(&sliding.taps).map(|(size, tap)| Ring::new(size, tap.delay)).collect();
        let mut stream = Stream {
            seen: 0,
            spoilt: 0,
            spoils: false,
            settled: true,
            taps,
            input_sums: Aligned::default(),
            windows: Vec::new(),
            ready: Vec::new(),
        };
        if let Some(layers) = layers {
            for layer in &layers.stack.layers {
                stream.windows.push(Windows::new(layer, rows));
                let mut ready = Aligned::default();
                ready.resize(layer.row());
                stream.ready.push(ready);
            }
            stream.input_sums.resize(layers.stack.layers[0].row());
        }
        stream.clear(layers);
        stream
    }

    fn clear(&mut self, layers: Option<&Layers>) {
        (self.seen, self.spoilt, self.spoils, self.settled) = (0, 0, false, true);
        self.taps.iter_mut().for_each(|tap| tap.rows.fill(0.0));
        self.windows.iter_mut().for_each(Windows::clear);
        if let Some(layers) = layers {
            for (ready, layer) in self.ready.iter_mut().zip(&layers.stack.layers) {
                ready.copy_from_slice(&layer.recurrent_bias);
            }
        }
    }
}

impl Ring {
    fn new(size: usize, delay: usize) -> Self {
        let mut rows = Aligned::default();
        rows.resize(size * (delay + 1));
        Ring { rows, size, delay }
    }

    /// The place of a row: of the newest one and of the `delay` rows before it, each has its own.
    fn at(&mut self, row: usize) -> &mut [f32] {
        &mut self.rows[row % (self.delay + 1) * self.size..][..self.size]
    }
}

fn pack(
    (path, precision): (Path, Precision),
    layer: &graph::sliding::Layer,
) -> Result<Arc<Layer>, PrepareError> {
    let cell = match &layer.op {
        Op::Lstm { .. } => Cell::Lstm,
        Op::Gru { .. } => Cell::Gru,
        op => {
            return Err(PrepareError::Unsupported {
                op: op.name().into(),
                reason: "it isn't recurrent".into(),
            });
        }
    };
    let slices: Vec<&[f32]> = layer.weights.iter().map(Tensor::data).collect();
    let [w, u, biases @ ..] = slices.as_slice() else {
        return Err(PrepareError::Unsupported {
            op: layer.op.name().into(),
            reason: "it has no weights".into(),
        });
    };
    let sizes = (layer.weights[0].dims()[0], layer.weights[1].dims()[0]);
    Ok(Arc::new(Layer::new(path, (cell, precision), sizes, w, u, biases)))
}
