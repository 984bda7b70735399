//! {{name}}: how far the close stands from its mean. Formula: ln(close / mean of the last `length` closes).

use std::collections::VecDeque;

use alphaplus_plugin::{Bar, FeatureSet, Options, Schema, Spec};

pub struct {{type}} {
    length: usize,
    closes: VecDeque<f64>,
}

impl FeatureSet for {{type}} {
    fn schema() -> String {
        Schema::new().integer("length", 2..=500, 20, "Bars in the mean.").to_json()
    }

    fn open(options: &Options) -> Result<Self, String> {
        Ok({{type}} { length: options.count("length")? as usize, closes: VecDeque::new() })
    }

    fn spec(&self) -> Spec {
        Spec::bars([format!("deviation_{}", self.length)], self.length as u32 - 1)
    }

    fn on_bar(&mut self, bar: &Bar, row: &mut Vec<f32>) -> Result<(), String> {
        self.closes.push_back(bar.close);
        if self.closes.len() > self.length {
            self.closes.pop_front();
        }
        let mean = self.closes.iter().sum::<f64>() / self.closes.len() as f64;
        row.push((bar.close / mean).ln() as f32);
        Ok(())
    }

    alphaplus_plugin::state!(closes);
}

alphaplus_plugin::export_features!({{type}});

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::{check, random_bars, rows};

    use super::*;

    #[test]
    fn the_contract_holds() {
        check::<{{type}}>(r#"{"length": 20}"#, &random_bars(1, 200)).unwrap();
    }

    #[test]
    fn a_row_by_hand() {
        let mut bars = random_bars(1, 2);
        (bars[0].close, bars[1].close) = (1.0, 3.0);
        let rows = rows::<{{type}}>(r#"{"length": 2}"#, &bars).unwrap();
        assert_eq!(rows[1], [1.5f64.ln() as f32]);
    }
}
