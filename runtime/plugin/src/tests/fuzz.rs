//! Whatever bytes a component has, the host answers.

use graph::Limits;
use market::Features;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::synthetic::synthetic_bars;
use crate::{Architecture, Dimensions, World};

/// Loads and runs; any error will do.
fn try_all(host: &Host, bytes: &[u8]) {
    let Ok(component) = host.load_bytes("fuzzed", bytes) else { return };
    match component.world() {
        World::Architecture => {
            let Ok(architecture) = Architecture::new(&component) else { return };
            let size = Dimensions { window: 4, features: 2, outputs: 1 };
            let _ = architecture.build(&Map::new(), size, &Limits::default());
        }
        World::Features => {
            let Ok(mut plugin) = FeaturePlugin::new(&component, &Map::new()) else { return };
            let Ok(stream) = plugin.open() else { return };
            let mut rows = Vec::new();
            let _ = plugin.on_bars(stream, &synthetic_bars(1, 20), &mut rows);
            let _ = plugin.snapshot(stream).and_then(|state| plugin.restore(&state));
            let _ = plugin.rebuild();
        }
    }
}

fn quick() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let limits = PluginLimits {
            event_deadline_ms: 5,
            batch_deadline_ms: 5,
            open_deadline_ms: 5,
            build_deadline_ms: 5,
            ..limits()
        };
        Host::new(HostOptions { limits, ..HostOptions::default() }).expect("starts")
    })
}

fn cases() -> u32 {
    std::env::var("PLUGIN_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

/// Each case may compile a component, so their number is this test's own: the macro would take PROPTEST_CASES.
#[test]
fn changed_components_never_panic_the_host() {
    let config = ProptestConfig { cases: cases(), ..ProptestConfig::default() };
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    let cut = prop::option::weighted(0.1, any::<prop::sample::Index>());
    let run = TestRunner::new(config).run(&(any::<bool>(), changes, cut), |(features, changes, cut)| {
        let name = if features { "frozen-0.1.0-features.wasm" } else { "frozen-0.1.0-architecture.wasm" };
        let mut bytes = bytes(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        try_all(quick(), &bytes);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

proptest! {
    #[test]
    fn random_bytes_after_the_header_never_panic_the_host(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend(body);
        prop_assert!(quick().load_bytes("fuzzed", &bytes).is_err());
    }
}
