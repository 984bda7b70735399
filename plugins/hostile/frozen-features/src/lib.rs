//! Calls and is called by everything in the first version of the WIT's `features` world.

use std::cell::RefCell;

wit_bindgen::generate!({ path: "../../wit", world: "features" });

use alphaplus::plugin::log;
use alphaplus::plugin::types::Level;
use exports::alphaplus::plugin::feature_set::{
    Bar, Book, Events, Extractor, Guest, GuestExtractor, Spec, Text, Trade,
};

struct Component;

/// Exponential means of the price, the traded size, the book's imbalance and the length of texts.
struct Stream {
    rate: f64,
    sums: RefCell<[f64; 6]>,
}

fn rate_of(options: &str) -> Result<f64, String> {
    let digits = options.split("\"rate\":").nth(1).ok_or("rate is missing")?;
    digits[..digits.find([',', '}']).unwrap_or(digits.len())].parse().map_err(|e| format!("rate: {e}"))
}

impl Stream {
    fn new(options: &str) -> Result<Self, String> {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location();
            log::panicked("panic", place.map_or("", |p| p.file()), place.map_or(0, |p| p.line()));
        }));
        if log::enabled(log::Level::Debug) {
            log::write(log::Level::Debug, options);
        }
        Ok(Stream { rate: rate_of(options)?, sums: RefCell::default() })
    }

    fn mix(&self, index: usize, value: f64) {
        let sum = &mut self.sums.borrow_mut()[index];
        *sum += self.rate * (value - *sum);
    }

    fn row(&self, bar: &Bar) -> Vec<f32> {
        self.mix(0, bar.close.ln());
        self.mix(1, bar.volume.ln_1p());
        self.sums.borrow().iter().map(|&x| x as f32).collect()
    }
}

impl GuestExtractor for Stream {
    fn open(options: String) -> Result<Extractor, String> {
        Stream::new(&options).map(Extractor::new)
    }

    fn restore(options: String, state: Vec<u8>) -> Result<Extractor, String> {
        let stream = Stream::new(&options)?;
        if state.len() != 48 {
            return Err("the state has another length".to_string());
        }
        for (sum, bytes) in stream.sums.borrow_mut().iter_mut().zip(state.chunks_exact(8)) {
            *sum = f64::from_le_bytes(bytes.try_into().map_err(|_| "a short number")?);
        }
        Ok(Extractor::new(stream))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.sums.borrow().iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn spec(&self) -> Spec {
        let names = ["price", "volume", "trades", "imbalance", "texts", "peer"];
        Spec { names: names.map(String::from).to_vec(), warmup: 2, wants: Events::all(), peers: 1 }
    }

    fn on_bar(&self, bar: Bar) -> Result<Vec<f32>, String> {
        Ok(self.row(&bar))
    }

    fn on_bars(&self, bars: Vec<Bar>) -> Result<Vec<f32>, String> {
        Ok(bars.iter().flat_map(|bar| self.row(bar)).collect())
    }

    fn on_peer_bar(&self, peer: u32, bar: Bar) -> Result<(), String> {
        if peer > 0 {
            return Err(format!("no peer {peer}"));
        }
        self.mix(5, bar.close.ln());
        Ok(())
    }

    fn on_trade(&self, trade: Trade) -> Result<(), String> {
        self.mix(2, trade.size);
        Ok(())
    }

    fn on_book(&self, book: Book) -> Result<(), String> {
        let depth = |levels: &[Level]| levels.iter().map(|level| level.size).sum::<f64>();
        let (bids, asks) = (depth(&book.bids), depth(&book.asks));
        self.mix(3, (bids - asks) / (bids + asks).max(1e-9));
        Ok(())
    }

    fn on_text(&self, text: Text) -> Result<(), String> {
        self.mix(4, (text.text.len() + text.source.len()) as f64);
        Ok(())
    }
}

impl Guest for Component {
    type Extractor = Stream;

    fn schema() -> String {
        r#"{"properties": {"rate": {"type": "number", "minimum": 0.001, "maximum": 1.0, "default": 0.25,
            "description": "of the exponential means"}}}"#
            .to_string()
    }
}

export!(Component);
