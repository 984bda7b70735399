//! Ten models over one feed, while one of them is swapped again and again, and while nothing is: a bar over TCP, until
//! the prediction of a model that stays answers a poll that waits for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, PUBLISHED, SYMBOL, number_of};
use crate::stats::Round;

/// From a bar's prediction to the next bar.
const BETWEEN_BARS: Duration = Duration::from_millis(3);

/// In all.
const SWAPS: u32 = 100;

/// Memory that swaps may leave taken: an allocator keeps some pages of what it was given back.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

pub fn ten_quiet(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    (0..4).map(|_| bars(appliance, |done| done < if quick { 300 } else { 1_000 })).collect()
}

/// Each swap begins when the one before is done; quiet rounds lie between, for the ratio in the notes.
pub fn ten_swapping(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let rounds = 4;
    let mut swapper = appliance.swapper()?;
    let (mut found, mut quiet, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let next = AtomicU32::new(0);
    for round in 1..=rounds {
        quiet.push(bars(appliance, |done| done < if quick { 300 } else { 1_000 })?);
        let (until, stopped) = (SWAPS * round / rounds, AtomicBool::new(false));
        let measured = thread::scope(|scope| {
            let (next, stopped, swapper) = (&next, &stopped, &mut swapper);
            let swaps = scope.spawn(move || -> Result<(), String> {
                let mut all = Ok(());
                while all.is_ok() && next.load(Ordering::Acquire) < until {
                    // 2, 1, 2, 1: the alias begins at version 1.
                    all = swapper.swap(2 - next.fetch_add(1, Ordering::AcqRel) % 2);
                }
                stopped.store(true, Ordering::Release);
                all
            });
            let measured = bars(appliance, |_| !stopped.load(Ordering::Acquire));
            swaps.join().map_err(|_| "the swapping thread panicked")?.and(measured)
        })?;
        found.push(measured);
        memory.push(appliance.memory_bytes().ok_or("its memory can't be seen")?);
    }
    let median = |rounds: &[Round]| crate::stats::over_rounds(rounds).p99_us.unwrap_or(f64::NAN);
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    appliance.notes.push(format!(
        "ten_swapping: {SWAPS} swaps; p99 {:.0} us while they go on, {:.0} us in the quiet between: {:.2} x; resident \
         memory {} MB after a quarter of them and {} MB after all",
        median(&found),
        median(&quiet),
        median(&found) / median(&quiet),
        first >> 20,
        last >> 20
    ));
    if last > first + GROWTH_BYTES_MAX {
        return Err(format!("memory grew from {first} to {last} bytes over the swaps"));
    }
    Ok(found)
}

/// One bar after another while `goes_on`, which is told how many were.
fn bars(appliance: &mut Appliance, goes_on: impl Fn(usize) -> bool) -> Result<Round, String> {
    let (mut feed, mut poll) = (appliance.tcp()?, appliance.tcp()?);
    let host = appliance.address.clone();
    let ask = |seq: u64| {
        let path = format!("/v1/predictions/{SYMBOL}?model={PUBLISHED}-9&wait_ms=10000&after_seq={seq}");
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
    };
    let seq_of = |body: &[u8]| number_of(body, "seq").map(|seq| seq as u64).ok_or("a reply without its seq");
    let mut seq = seq_of(poll.exchange(&ask(0))?.body)?;
    let mut us = Vec::new();
    while goes_on(us.len()) {
        poll.send(&ask(seq))?;
        thread::sleep(BETWEEN_BARS);
        let bar = appliance.bar("");
        let post = appliance.post(&bar);
        let start = Instant::now();
        feed.send(&post)?;
        let reply = poll.receive()?;
        us.push(start.elapsed().as_secs_f64() * 1e6);
        if reply.status != 200 {
            return Err(format!("{} instead of a prediction", reply.status));
        }
        seq = seq_of(reply.body)?;
        let status = feed.receive()?.status;
        if status != 200 {
            return Err(format!("a bar was answered with {status}"));
        }
    }
    Ok(Round::of_latencies(us, 1))
}
