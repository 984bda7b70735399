//! Samplers against random search on standard functions, pruners on made-up curves, studies over kills, and the proof
//! that no trial sees the test part.

mod optimise;
mod resume;
mod unseen;

/// Reduced or full counts (`TEST_COUNTS=full`).
fn counts(reduced: usize, full: usize) -> usize {
    if std::env::var("TEST_COUNTS").is_ok_and(|v| v == "full") { full } else { reduced }
}
