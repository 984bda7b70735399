//! How fast a read is: `cargo run --release -p shared --example read_speed -- FILE SYMBOL TIMEFRAME MODEL`.

use std::time::Instant;

use shared::Reader;

const READS: u32 = 5_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, symbol, timeframe, model] = args.as_slice() else {
        return Err("read_speed FILE SYMBOL TIMEFRAME MODEL".into());
    };
    let reader = Reader::open(file.as_ref())?;
    let slot = reader.find(symbol, timeframe, model).ok_or("the file has no such stream")?;
    println!("{:?}", reader.read(slot)?);
    let mut times = Vec::with_capacity(100_000);
    let started = Instant::now();
    for _ in 0..READS {
        std::hint::black_box(reader.read(slot)?);
    }
    let each = started.elapsed() / READS;
    for _ in 0..100_000 {
        let one = Instant::now();
        std::hint::black_box(reader.read(slot)?);
        times.push(one.elapsed());
    }
    times.sort();
    println!(
        "a read takes {each:?}; with two looks at the clock p50 {:?}, p99 {:?}, p99.9 {:?}",
        times[times.len() / 2],
        times[times.len() / 100 * 99],
        times[times.len() / 1000 * 999]
    );
    Ok(())
}
