//! Core module in, component out.
use std::process::exit;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let module = std::fs::read(&args[1]).unwrap_or_else(|e| { eprintln!("{e}"); exit(1) });
    let bytes = wit_component::ComponentEncoder::default().validate(true).module(&module).and_then(|mut e| e.encode());
    match bytes {
        Ok(bytes) => {
            let meta = plugin::Metadata { name: args[3].clone(), version: "0.1.0".into(), licence: "Apache-2.0".into(), kind: args[4].clone() };
            std::fs::write(&args[2], plugin::metadata::embed(&bytes, &meta).expect("embed")).expect("write")
        }
        Err(e) => { eprintln!("{e:#}"); exit(1) }
    }
}
