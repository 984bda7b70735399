//! A feature source of zeros, as many columns and as long a warm-up as another's: for what depends on times alone.

use market::{Bar, Book, FeatureError, FeatureErrorKind, FeatureSpec, Features, StreamId, Text, Trade};

pub struct Blank {
    spec: FeatureSpec,
    streams: usize,
}

impl Blank {
    /// One column, and the warm-up of `other`.
    pub fn like(other: &FeatureSpec) -> Blank {
        let names = vec!["blank".to_string()];
        Blank { spec: FeatureSpec { plugin: "blank".into(), names, ..other.clone() }, streams: 0 }
    }

    fn refused(&self) -> FeatureError {
        FeatureError {
            kind: FeatureErrorKind::Refused,
            plugin: self.spec.plugin.clone(),
            place: None,
            message: "it takes bars alone and has no state".into(),
        }
    }
}

impl Features for Blank {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.streams += 1;
        Ok(StreamId(self.streams - 1))
    }

    fn restore(&mut self, _state: &[u8]) -> Result<StreamId, FeatureError> {
        Err(self.refused())
    }

    fn snapshot(&mut self, _stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        Err(self.refused())
    }

    fn close(&mut self, _stream: StreamId) {}

    fn on_bar(&mut self, _stream: StreamId, _bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        row.clear();
        row.push(0.0);
        Ok(())
    }

    fn on_bars(&mut self, _stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        rows.resize(rows.len() + bars.len(), 0.0);
        Ok(())
    }

    fn on_trade(&mut self, _stream: StreamId, _trade: &Trade) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn on_book(&mut self, _stream: StreamId, _book: &Book) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn on_text(&mut self, _stream: StreamId, _text: &Text) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn rebuild(&mut self) -> Result<(), FeatureError> {
        Ok(())
    }
}
