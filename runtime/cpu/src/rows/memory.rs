//! Where a window's numbers stand: the run's inputs and outputs, and buffers whose rows threads share.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::ENDS_MAX;
use crate::kernel::aligned::Aligned;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Input(usize),
    Output(usize),
    Buffer(usize),
}

/// A matrix of one window: row r starts at `offset + r · stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) home: Home,
    pub(super) offset: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) stride: usize,
}

impl View {
    pub(super) fn whole(home: Home, rows: usize, width: usize) -> Self {
        View { home, offset: 0, rows, width, stride: width }
    }

    pub(super) fn is_contiguous(&self) -> bool {
        self.stride == self.width || self.rows <= 1
    }

    /// So many numbers from the first row of the range to the end of the last.
    fn span(&self, rows: &Range<usize>) -> usize {
        assert!(rows.end <= self.rows);
        if rows.is_empty() { 0 } else { (rows.len() - 1) * self.stride + self.width }
    }
}

/// The pointers of one window, or of the first one.
///
/// Views are made by `build`, which keeps them inside their homes, and by `places`, which gives no two buffers that
/// are used at the same time one place.
pub(super) struct Memory<'a> {
    places: &'a [usize],
    buffers: *mut f32,
    inputs: [(*const f32, usize); ENDS_MAX],
    outputs: [(*mut f32, usize); ENDS_MAX],
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: the threads of a run write rows that no other reads or writes before the phase is over.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    pub(super) fn new(
        places: &'a [usize],
        batch: usize,
        inputs: &'a [&[f32]],
        outputs: &'a mut [&mut [f32]],
    ) -> Self {
        let mut memory = Memory {
            places,
            buffers: std::ptr::null_mut(),
            inputs: [(std::ptr::null(), 0); ENDS_MAX],
            outputs: [(std::ptr::null_mut(), 0); ENDS_MAX],
            borrowed: PhantomData,
        };
        for (end, input) in memory.inputs.iter_mut().zip(inputs) {
            *end = (input.as_ptr(), input.len() / batch.max(1));
        }
        for (end, output) in memory.outputs.iter_mut().zip(outputs) {
            *end = (output.as_mut_ptr(), output.len() / batch.max(1));
        }
        memory
    }

    /// Of one window of the batch, in these buffers.
    pub(super) fn window<'b>(&'b self, index: usize, buffers: &'b mut Aligned) -> Memory<'b> {
        let mut memory = Memory { buffers: buffers.as_mut_ptr(), borrowed: PhantomData, ..*self };
        for (end, len) in memory.inputs.iter_mut() {
            *end = end.wrapping_add(index * *len);
        }
        for (end, len) in memory.outputs.iter_mut() {
            *end = end.wrapping_add(index * *len);
        }
        memory
    }

    /// The rows, from the first one's start to the last one's end, and `slack` numbers more.
    ///
    /// # Safety
    /// Nobody writes these rows while the slice lives. Buffers alone have slack, up to [`SLACK`](super::places::SLACK).
    pub(super) unsafe fn read(&self, view: View, rows: Range<usize>, slack: usize) -> &[f32] {
        let span = view.span(&rows);
        // SAFETY: `build` made the view within its home; the rest is the caller's.
        unsafe {
            std::slice::from_raw_parts(self.start(view).wrapping_add(rows.start * view.stride), span + slack)
        }
    }

    /// The rows to write, of a view that is as wide as its home's rows.
    ///
    /// # Safety
    /// Nobody else reads or writes these rows while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn write(&self, view: View, rows: Range<usize>) -> &mut [f32] {
        let span = view.span(&rows);
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start(view).cast_mut().wrapping_add(rows.start * view.stride),
                span,
            )
        }
    }

    /// Where the view starts, for those that write parts of rows.
    pub(super) fn start(&self, view: View) -> *const f32 {
        let home = match view.home {
            Home::Input(index) => self.inputs[index].0,
            Home::Output(index) => self.outputs[index].0.cast_const(),
            Home::Buffer(index) => self.buffers.wrapping_add(self.places[index]).cast_const(),
        };
        home.wrapping_add(view.offset)
    }
}
