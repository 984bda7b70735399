//! Defaults, precedence, and what is refused.

use super::*;

fn error(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), &[]).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn shipped_file_states_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let shipped: toml::Table = text.parse().unwrap();
    let mut defaults = toml::Table::try_from(Raw::default()).unwrap();
    defaults.insert("deployments".into(), shipped["deployments"].clone());
    assert_eq!(shipped, defaults);
    let settings = load(Some(&path), &[]).unwrap();
    assert_eq!(settings.deployments.len(), 1);
}

#[test]
fn mistakes_are_named_with_what_to_change() {
    let cases = [
        ("[server]\nlisten_on = \"x\"", "unknown key 'server.listen_on'", "did you mean 'server.listen'?"),
        ("[server.limits]\nbody_byte_max = 1", "server.limits.body_byte_max", "server.limits.body_bytes_max"),
        ("servr = 1", "unknown key 'servr'", "'server'"),
        ("[server]\nlisten = \"here\"", "server.listen", "127.0.0.1:7787"),
        ("[server]\nthreads = 0", "server.threads is 0", "between 1 and 64"),
        ("[server]\nthreads = \"two\"", "server.threads", "two"),
        ("[server]\nshared_memory_mode = \"0666\"", "server.shared_memory_mode", "0640"),
        ("[server]\nspin_us = 100", "server.spin_us", "server.threads = 1"),
        ("[server]\nshared_memory_mode = \"rw\"", "server.shared_memory_mode", "0640"),
        ("[server]\nlisten = \"0.0.0.0:1\"", "outside loopback", "server.tokens"),
        ("[server.tls]\nkey_file = \"k\"", "server.tls", "both"),
        ("[serving]\nclock = \"moon\"", "serving.clock", "wall"),
        ("[serving]\nstale_after_bars = nan", "stale_after_bars", "between"),
        ("[device]\npolicy = \"prefer-gpu\"", "device.policy", "\"cpu\""),
        ("[store]\nlimit_bytes = 1048576", "store.limit_bytes", "segment_bytes"),
        (
            "[[deployments]]\nmodel=\"m\"\nsymbols=[]\ntimeframe=\"1h\"",
            "deployments[0].symbols",
            "name symbols",
        ),
        ("[[deployments]]\nmodel=\"m\"\nsymbols=[\"A\"]\ntimeframe=\"1x\"", "timeframe '1x'", "5m"),
        (
            "[[deployments]]\nmodel=\"m\"\nsymbols=[\"A\"]\ntimeframe=\"1h\"\n\
             [[deployments]]\nmodel=\"m\"\nsymbols=[\"*\"]\ntimeframe=\"1h\"",
            "deployments[1]",
            "deployed twice",
        ),
        (
            "[[deployments]]\nmodel=\"models:/M\"\nsymbols=[\"A\"]\ntimeframe=\"1h\"",
            "deployments[0].model",
            "models:/name@champion",
        ),
        (
            "[[deployments]]\nmodel=\"m@c\"\nversion=2\nsymbols=[\"A\"]\ntimeframe=\"1h\"",
            "deployments[0]",
            "leave version out",
        ),
        (
            "[[deployments]]\nmodel=\"m\"\nversion=99999999999\nsymbols=[\"A\"]\ntimeframe=\"1h\"",
            "deployments[0].version",
            "so many",
        ),
        ("[server.limits]\nqueue_bars_max = 1", "queue_bars_max", "lines_max"),
        ("[server.tokens]\npoll_file = \"absent\"", "poll_file", "can't be read"),
        ("not toml", "", "expected"),
    ];
    for (text, first, second) in cases {
        let got = error(text);
        assert!(got.contains(first) && got.contains(second), "{text:?} gave: {got}");
        assert!(!got.contains('\n') || text == "not toml", "one sentence: {got}");
    }
}

#[test]
fn flags_beat_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "[server]\nlisten = \"127.0.0.1:1\"").unwrap();
    let flags = [("server.listen".to_string(), "\"127.0.0.1:2\"".to_string())];
    let settings = load(Some(&path), &flags).unwrap();
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.raw.store.folder, dir.path().join("data/spool"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}|(\\[|\\]|=|\"|server|store|[a-z_]|[0-9]|\n| ){0,80}") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let _ = load(Some(&path), &[]);
    }
}
