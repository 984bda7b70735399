//! [`FeatureSet`], the trait of a feature plugin, and what turns it into the component's export.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings::features::exports::alphaplus::plugin::feature_set as export;
use crate::options::Options;
use crate::state::{Reader, Writer};

pub use crate::bindings::features::alphaplus::plugin::types::{Bar, Book, Level, Side, Text, Trade};
pub use export::{Events, Spec};

impl Spec {
    /// The columns, and how many rows of a stream's start are to be thrown away. Wants bars only, and no
    /// peers.
    pub fn bars(names: impl IntoIterator<Item = impl Into<String>>, warmup: u32) -> Self {
        Spec { names: names.into_iter().map(Into::into).collect(), warmup, wants: Events::BARS, peers: 0 }
    }
}

/// One stream of a feature set: a symbol at a timeframe.
///
/// A row may depend only on what the stream has seen, so that the same bars give the same bits wherever they
/// are replayed.
pub trait FeatureSet: Sized + 'static {
    /// The options, as [`Schema::to_json`](crate::Schema::to_json) gives them. None unless overridden.
    fn schema() -> String {
        crate::Schema::new().to_json()
    }

    /// A stream that has seen nothing. `options` has a checked value for every property of the schema.
    fn open(options: &Options) -> Result<Self, String>;

    fn spec(&self) -> Spec;

    /// Takes a bar and pushes its row: one number for each of the spec's names, finite after the warm-up.
    fn on_bar(&mut self, bar: &Bar, row: &mut Vec<f32>) -> Result<(), String>;

    /// Takes many bars and pushes their rows, the same bits as one by one.
    fn on_bars(&mut self, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), String> {
        bars.iter().try_for_each(|bar| self.on_bar(bar, rows))
    }

    /// Writes all that changes while the stream runs. [`state!`](crate::state!) writes this and `restore`.
    fn snapshot(&self, to: &mut Writer);

    /// Takes back what `snapshot` wrote, after `open` with the same options.
    fn restore(&mut self, from: &mut Reader<'_>) -> Result<(), String>;

    fn on_peer_bar(&mut self, _peer: u32, _bar: &Bar) -> Result<(), String> {
        Ok(())
    }
    fn on_trade(&mut self, _trade: &Trade) -> Result<(), String> {
        Ok(())
    }
    fn on_book(&mut self, _book: &Book) -> Result<(), String> {
        Ok(())
    }
    fn on_text(&mut self, _text: &Text) -> Result<(), String> {
        Ok(())
    }
}

/// The exported interface over a [`FeatureSet`]. Used by [`export_features!`](crate::export_features!).
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

/// The exported resource.
#[doc(hidden)]
pub struct Stream<T> {
    set: RefCell<T>,
    columns: usize,
}

impl<T: FeatureSet> Stream<T> {
    fn open(options: &str) -> Result<Self, String> {
        crate::log::report_panics();
        let set = T::open(&Options::parse(options)?)?;
        let columns = set.spec().names.len();
        Ok(Stream { set: RefCell::new(set), columns })
    }
}

impl<T: FeatureSet> export::Guest for Exported<T> {
    type Extractor = Stream<T>;

    fn schema() -> String {
        crate::log::report_panics();
        T::schema()
    }
}

impl<T: FeatureSet> export::GuestExtractor for Stream<T> {
    fn open(options: String) -> Result<export::Extractor, String> {
        Self::open(&options).map(export::Extractor::new)
    }

    fn restore(options: String, state: Vec<u8>) -> Result<export::Extractor, String> {
        let stream = Self::open(&options)?;
        let mut from = Reader::new(&state);
        stream.set.borrow_mut().restore(&mut from)?;
        from.finish()?;
        Ok(export::Extractor::new(stream))
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut to = Writer::new();
        self.set.borrow().snapshot(&mut to);
        to.into_bytes()
    }

    fn spec(&self) -> Spec {
        self.set.borrow().spec()
    }

    fn on_bar(&self, bar: Bar) -> Result<Vec<f32>, String> {
        let mut row = Vec::with_capacity(self.columns);
        self.set.borrow_mut().on_bar(&bar, &mut row)?;
        Ok(row)
    }

    fn on_bars(&self, bars: Vec<Bar>) -> Result<Vec<f32>, String> {
        let mut rows = Vec::with_capacity(bars.len().saturating_mul(self.columns));
        self.set.borrow_mut().on_bars(&bars, &mut rows)?;
        Ok(rows)
    }

    fn on_peer_bar(&self, peer: u32, bar: Bar) -> Result<(), String> {
        self.set.borrow_mut().on_peer_bar(peer, &bar)
    }

    fn on_trade(&self, trade: Trade) -> Result<(), String> {
        self.set.borrow_mut().on_trade(&trade)
    }

    fn on_book(&self, book: Book) -> Result<(), String> {
        self.set.borrow_mut().on_book(&book)
    }

    fn on_text(&self, text: Text) -> Result<(), String> {
        self.set.borrow_mut().on_text(&text)
    }
}

/// Makes the crate a feature component: `alphaplus_plugin::export_features!(Momentum);`. Does nothing off
/// wasm.
#[macro_export]
macro_rules! export_features {
    ($set:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod __alphaplus_export {
            use super::*;
            type Exported = $crate::features::Exported<$set>;
            $crate::bindings::features::export_features!(Exported with_types_in $crate::bindings::features);
            $crate::__export_realloc!();
        }
    };
}

/// The allocator entry of the canonical ABI, which must stand in the final crate to be exported.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_realloc {
    () => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn cabi_realloc(
            old: *mut u8,
            old_len: usize,
            align: usize,
            new_len: usize,
        ) -> *mut u8 {
            // SAFETY: called by the host as the canonical ABI says.
            unsafe { $crate::rt::cabi_realloc(old, old_len, align, new_len) }
        }
    };
}
