//! A feature set's spec, within the host's limits.

use market::FeatureSpec;

use crate::bindings::features::exports::alphaplus::plugin::feature_set::{Events, Spec};
use crate::host::Component;
use crate::log::clean;

const COLUMN_NAME_BYTES_MAX: usize = 64;

/// `Err` says what is wrong with it.
pub(super) fn checked_spec(component: &Component, spec: Spec) -> Result<FeatureSpec, String> {
    let limits = component.limits();
    if !(1..=limits.columns_max).contains(&spec.names.len()) {
        return Err(format!(
            "it has {} columns; 1 to {} go (columns_max)",
            spec.names.len(),
            limits.columns_max
        ));
    }
    let mut names: Vec<&str> = spec.names.iter().map(String::as_str).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two columns are named {:?}", clean(pair[0], COLUMN_NAME_BYTES_MAX)));
    }
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"');
    let fits = |name: &str| (1..=COLUMN_NAME_BYTES_MAX).contains(&name.len()) && plain(name);
    if let Some(name) = names.iter().find(|name| !fits(name)) {
        let shown = clean(name, COLUMN_NAME_BYTES_MAX);
        return Err(format!(
            "the column {shown:?} must be named by 1 to {COLUMN_NAME_BYTES_MAX} visible ASCII characters but , and \""
        ));
    }
    let (warmup, peers) = (spec.warmup as usize, spec.peers as usize);
    if warmup > limits.warmup_max {
        return Err(format!("its warm-up is {warmup} rows; at most {} go (warmup_max)", limits.warmup_max));
    }
    if peers > limits.peers_max {
        return Err(format!("it wants {peers} peers; at most {} go (peers_max)", limits.peers_max));
    }
    Ok(FeatureSpec {
        plugin: component.id().to_string(),
        digest: component.digest().to_string(),
        names: spec.names,
        warmup,
        wants_bars: spec.wants.contains(Events::BARS),
        wants_trades: spec.wants.contains(Events::TRADES),
        wants_books: spec.wants.contains(Events::BOOKS),
        wants_texts: spec.wants.contains(Events::TEXTS),
        peers,
    })
}
