//! The `technical` plugin's columns on real bars, against TA-Lib and pandas.

use std::fmt::Write;
use std::fs;

use market::read::{ReadOptions, read_bars, write_csv};
use market::{Features, Symbol};
use plugin::{FeaturePlugin, Host, HostOptions};

use crate::python;
use crate::skip::root;

#[test]
fn every_column_agrees_with_independent_implementations() {
    let bars = root().join("tests/data/bars/BTCUSDT-1h.csv.gz");
    let options = ReadOptions { symbol: Symbol::new("BTCUSDT").ok(), ..ReadOptions::default() };
    let read = read_bars(&bars, &options).unwrap();
    let (_, bars) = &read.streams[0];
    let host = Host::new(HostOptions::default()).unwrap();
    let component = host.load(&root().join("plugins/dist/technical.wasm")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for scale in [1, 4] {
        let options = serde_json::json!({ "scale": scale });
        let mut features = FeaturePlugin::new(&component, options.as_object().unwrap()).unwrap();
        let stream = features.open().unwrap();
        let mut rows = Vec::new();
        for chunk in bars.chunks(777) {
            features.on_bars(stream, chunk, &mut rows).unwrap();
        }
        let names = features.spec().names.clone();
        let mut text = names.join(",") + "\n";
        for row in rows.chunks(names.len()) {
            let numbers: Vec<String> = row.iter().map(|x| x.to_string()).collect();
            writeln!(text, "{}", numbers.join(",")).unwrap();
        }
        let (bars_file, rows_file) = (folder.path().join("bars.csv"), folder.path().join("rows.csv"));
        let mut canonical = Vec::new();
        write_csv(bars, &mut canonical).unwrap();
        let canonical = String::from_utf8(canonical).unwrap();
        fs::write(&bars_file, canonical.replacen("open_time", "date", 1)).unwrap();
        fs::write(&rows_file, text).unwrap();
        let scale = scale.to_string();
        let args = [
            "compare",
            &bars_file.display().to_string(),
            &rows_file.display().to_string(),
            "--scale",
            &scale,
        ];
        let Some(said) =
            python::run("technical columns", &["numpy", "pandas", "talib"], "technical_oracle.py", &args)
        else {
            return;
        };
        eprintln!("{said}");
    }
}
