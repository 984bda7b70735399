//! Trades, order books and texts. Feature extractors see them beside bars.

use crate::bar::Symbol;
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Buy,
    Sell,
    Unknown,
}

/// One trade, with the side of the taker.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    pub symbol: Symbol,
    pub time: Timestamp,
    pub price: f64,
    pub size: f64,
    pub side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub price: f64,
    pub size: f64,
}

/// A snapshot of an order book, best level first.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    pub symbol: Symbol,
    pub time: Timestamp,
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
}

/// A news item or post.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// When it was received here; features join on this, never on the time of publication.
    pub received_at: Timestamp,
    pub source: String,
    pub symbols: Vec<Symbol>,
    pub text: String,
}
