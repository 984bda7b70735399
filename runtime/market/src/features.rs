//! The trait that feature sources implement: bars in, rows of numbers out, one stream at a time.

use std::fmt;

use crate::bar::Bar;
use crate::event::{Book, Text, Trade};

/// What a feature source yields and wants.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSpec {
    /// "technical@0.1.0".
    pub plugin: String,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    /// One per column; a row has exactly so many numbers.
    pub names: Vec<String>,
    /// The first so many rows of a stream are thrown away unread.
    pub warmup: usize,
    pub wants_bars: bool,
    pub wants_trades: bool,
    pub wants_books: bool,
    pub wants_texts: bool,
    /// How many other symbols it wants to see beside its own.
    pub peers: usize,
}

/// A stream of one source: symbol × timeframe, opened by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub usize);

/// A feature source: pure, deterministic, stateful per stream.
///
/// After an error of a kind for which [`FeatureErrorKind::lost_streams`] is true all its streams are gone:
/// [`Features::rebuild`] it, open them again and replay.
pub trait Features: Send {
    fn spec(&self) -> &FeatureSpec;

    fn open(&mut self) -> Result<StreamId, FeatureError>;

    /// Opens a stream from what [`snapshot`](Features::snapshot) gave.
    fn restore(&mut self, state: &[u8]) -> Result<StreamId, FeatureError>;

    fn snapshot(&mut self, stream: StreamId) -> Result<Vec<u8>, FeatureError>;

    fn close(&mut self, stream: StreamId);

    /// Feeds one bar; replaces `row` with the `names.len()` numbers of its row. During the warm-up they may be NaN.
    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError>;

    /// Feeds many bars in one call; appends their rows, row-major. The same bits as one by one.
    fn on_bars(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError>;

    fn on_trade(&mut self, stream: StreamId, trade: &Trade) -> Result<(), FeatureError>;
    fn on_book(&mut self, stream: StreamId, book: &Book) -> Result<(), FeatureError>;
    fn on_text(&mut self, stream: StreamId, text: &Text) -> Result<(), FeatureError>;

    /// A new instance after a failure that lost the old one. All streams are gone.
    fn rebuild(&mut self) -> Result<(), FeatureError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureErrorKind {
    /// The guest panicked or trapped; `place` is file and line where known.
    Trap,
    /// It ran longer than its deadline.
    Timeout,
    /// It asked for more memory than its limit.
    Memory,
    /// A row of the wrong length.
    RowLength,
    /// NaN or infinite after the warm-up.
    NotFinite,
    /// The guest returned an error of its own.
    Refused,
    /// No such stream (closed, or lost with the instance).
    NoStream,
    /// The component can't be instantiated.
    Instantiate,
}

impl FeatureErrorKind {
    /// The instance is unusable, and with it every stream.
    pub fn lost_streams(&self) -> bool {
        match self {
            FeatureErrorKind::Trap
            | FeatureErrorKind::Timeout
            | FeatureErrorKind::Memory
            | FeatureErrorKind::Instantiate => true,
            FeatureErrorKind::RowLength
            | FeatureErrorKind::NotFinite
            | FeatureErrorKind::Refused
            | FeatureErrorKind::NoStream => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FeatureError {
    pub kind: FeatureErrorKind,
    /// "technical@0.1.0".
    pub plugin: String,
    /// "src/lib.rs:54" of the plugin, where known.
    pub place: Option<String>,
    pub message: String,
}

impl fmt::Display for FeatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: {}", self.plugin, self.message)?;
        if let Some(place) = &self.place {
            write!(f, " (at {place})")?;
        }
        Ok(())
    }
}

impl std::error::Error for FeatureError {}
