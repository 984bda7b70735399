//! Every architecture from component to poll: it learns a signal that is there, is registered and serves. The shipped
//! ones, one that has only the SDK, and one in C.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use graph::GraphCodec;
use registry::{Registry, Version};
use serde_json::Value;

use super::harness::{ModelSpec, Setup, bar, binary, root, setup, warm};
use crate::skip::skip;

/// Bars of a wave whose next step can be told from the last ones.
const BARS: u64 = 1_800;

/// Trains the component on the wave, and gives what `train --json` says.
fn train(s: &Setup, component: &Path, hyper: &[&str], more: &[&str]) -> Value {
    let folder = s.folder.path();
    fs::copy(component, folder.join("plugins/tried.wasm")).unwrap();
    let mut csv = String::from("open_time,open,high,low,close,volume\n");
    for n in 0..BARS {
        let bar: Value = serde_json::from_str(&bar("A", n)).unwrap();
        let number = |key: &str| bar[key].as_f64().unwrap();
        let [open, high, low] = ["open", "high", "low"].map(number);
        let (close, volume) = (number("close"), number("volume"));
        let time = bar["open_time"].as_str().unwrap();
        writeln!(csv, "{time},{open},{high},{low},{close},{volume}").unwrap();
    }
    fs::write(folder.join("wave.csv"), csv).unwrap();
    let mut command = s.command();
    command.args(["train", "--json", "--name", "tried", "--architecture", "tried", "--features", "features"]);
    command.args(["--symbol", "A", "--timeframe", "1h", "--window", "16", "--bars", "wave.csv"]);
    command.args(hyper.iter().flat_map(|pair| ["--hyper", pair])).args(more);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", component.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Trains, holds it to a skill over naive whose interval lies above 0.2, and polls what it serves.
fn learns_and_serves(component: &Path, hyper: &[&str]) -> Setup {
    let mut s = setup(&ModelSpec { window: 16, ..ModelSpec::default() });
    let trained = train(&s, component, hyper, &["--epochs", "20"]);
    let skill = &trained["evaluation"]["metrics"]["model"]["skill"];
    let low = skill["low"].as_f64().unwrap_or(f64::NEG_INFINITY);
    assert!(low > 0.2, "{}: skill {skill}", component.display());
    eprintln!("{}: skill {}", component.display(), skill["value"]);

    s.set("deployments", r#"[{model="tried",symbols=["*"],timeframe="1h"}]"#);
    let server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    let reply = client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let poll = client.get("/v1/predictions/A").unwrap();
    assert_eq!(poll.status, 200, "{}: {}", component.display(), poll.body);
    assert!(poll.json()["value"].as_f64().is_some_and(f64::is_finite), "{}", poll.body);
    drop(server);
    s
}

fn said(s: &Setup, args: &[&str]) -> String {
    let output = s.command().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn shipped(name: &str) -> PathBuf {
    root().join(format!("plugins/dist/{name}.wasm"))
}

#[test]
fn the_recurrent_ones_learn() {
    learns_and_serves(&shipped("lstm"), &["hidden=16"]);
    learns_and_serves(&shipped("gru"), &["hidden=16", "layers=2", "dropout=0.1"]);
}

#[test]
fn the_convolutions_learn_with_each_pool() {
    for pooling in ["last", "mean", "max"] {
        learns_and_serves(&shipped("cnn"), &["filters=16", "blocks=3", &format!("pooling={pooling}")]);
    }
}

#[test]
fn dlinear_learns_with_both_kinds_of_channels() {
    for channels in ["individual", "shared"] {
        learns_and_serves(&shipped("dlinear"), &["moving_average=5", &format!("channels={channels}")]);
    }
}

#[test]
fn the_transformer_learns_and_keeps_its_attention_out_of_serving() {
    let hyper = ["d_model=16", "heads=2", "layers=1", "ff=32", "dropout=0.0", "learning_rate=0.003"];
    let s = learns_and_serves(&shipped("transformer"), &hyper);
    let text = said(&s, &["models", "show", "tried"]);
    assert!(text.contains("also gives    attention [B, 2, 16, 16], not while it serves"), "{text}");
    serves_with_its_outputs_in_another_order(s);
    let causal = [&hyper[..], &["causal=true"]].concat();
    learns_and_serves(&shipped("transformer"), &causal);
}

/// What serves is looked for by its name, and nothing else is prepared: a plan that computed the first output would be
/// refused.
fn serves_with_its_outputs_in_another_order(mut s: Setup) {
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let trained = registry.load("tried", Version::Latest).unwrap();
    let mut graph = onnx::Onnx.decode(&trained.onnx).unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["prediction", "attention"]);
    let alone = graph::rewrite::only(&graph, "prediction").unwrap();
    assert!(alone.nodes.len() < graph.nodes.len(), "the attention has nodes of its own");
    graph.outputs.reverse();
    let onnx = onnx::Onnx.encode(&graph).unwrap();
    registry.publish(trained.manifest.clone(), &[("model.onnx", &onnx)]).unwrap();
    s.set("store.folder", &format!("{:?}", s.folder.path().join("other-spool").display().to_string()));
    let poll = |s: &Setup| {
        let server = s.serve();
        let mut client = server.client();
        warm(&mut client, "A", s.need_bars);
        client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap();
        client.get("/v1/predictions/A").unwrap().json()
    };
    let reversed = poll(&s);
    assert_eq!(reversed["model"].as_str(), Some("tried/2"), "{reversed}");
    s.set("store.folder", &format!("{:?}", s.folder.path().join("third-spool").display().to_string()));
    s.set("deployments", r#"[{model="tried",version=1,symbols=["*"],timeframe="1h"}]"#);
    let first = poll(&s);
    assert_eq!((first["model"].as_str(), &first["value"]), (Some("tried/1"), &reversed["value"]));
}

/// What training takes from the architecture's schema, what from the command line.
#[test]
fn training_begins_with_the_schemas_settings() {
    let s = setup(&ModelSpec { window: 16, ..ModelSpec::default() });
    let small = ["d_model=8", "heads=2", "layers=1", "ff=8"];
    let settings = |hyper: &[&str], more: &[&str]| {
        let all = [&small[..], hyper].concat();
        let done = train(&s, &shipped("transformer"), &all, &[&["--epochs", "1"], more].concat());
        let manifest = Path::new(done["folder"].as_str().unwrap()).join("manifest.toml");
        let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
        let training = manifest["training"].as_table().unwrap().clone();
        let hyper = manifest["architecture"]["hyper"].as_str().unwrap().to_string();
        assert!(!hyper.contains("learning_rate"), "it stands under training alone: {hyper}");
        (
            training["learning_rate"].as_float(),
            training["weight_decay"].as_float(),
            training["batch"].as_integer(),
        )
    };
    assert_eq!(settings(&[], &[]), (Some(5e-4), Some(0.01), Some(64)));
    assert_eq!(settings(&["learning_rate=0.002"], &["--batch", "32"]), (Some(0.002), Some(0.01), Some(32)));
    let flags = ["--learning-rate", "0.004", "--weight-decay", "0"];
    assert_eq!(settings(&[], &flags), (Some(0.004), Some(0.0), Some(64)));

    let refused = |args: &[&str]| {
        let mut command = s.command();
        command.args(["train", "--name", "x", "--architecture", "tried", "--features", "features"]);
        let output = command.args(["--symbol", "A", "--bars", "wave.csv"]).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused(&["--hyper", "learning_rate=0.001", "--learning-rate", "0.001"]);
    assert!(text.contains("give one"), "{text}");
    let text = refused(&["--hyper", "learning_rate=7"]);
    assert!(text.contains("from 0.00001 to 0.1"), "{text}");
    let text = refused(&["--hyper", "d_model=20", "--hyper", "heads=3"]);
    assert!(text.contains("d_model must be a multiple of heads, such as 18 or 21"), "{text}");
    let text = said(&s, &["plugin", "inspect", "plugins/tried.wasm"]);
    assert!(text.contains("learning_rate = 0.0005 (a number from 0.00001 to 0.1, log scale)"), "{text}");
}

#[test]
fn one_that_has_only_the_sdk_needs_no_change_here() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = plugin::toolchain::doctor(folder.path(), folder.path());
    if doctor.chosen().is_none() {
        skip("mlp-mixer, which has only the SDK", &format!("no tool chain for WASM guests: {doctor}"));
        return;
    }
    let component = folder.path().join("mlp-mixer.wasm");
    let mut build = Command::new(binary());
    build
        .current_dir(root())
        .args(["plugin", "build", "plugins/examples/mlp-mixer", "--out"])
        .arg(&component);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    learns_and_serves(&component, &["width=16", "layers=1", "hidden=16"]);
}

/// A clang that builds and links for wasm32; the newest first.
fn clang() -> Result<String, String> {
    let names = (16..=30).rev().map(|major| format!("clang-{major}")).chain(["clang".to_string()]);
    for name in names {
        let said = |argument| {
            let output = Command::new(&name).arg(argument).output();
            output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
        };
        let linker = said("--print-prog-name=wasm-ld");
        if said("--print-targets").contains("wasm32") && Path::new(linker.trim()).is_absolute() {
            return Ok(name);
        }
    }
    Err("no clang from version 16 on with the target wasm32 and its wasm-ld; on Debian: apt-get install clang-22 lld-22".into())
}

#[test]
fn one_in_c_is_like_the_others() {
    let clang = match clang() {
        Ok(clang) => clang,
        Err(reason) => return skip("nlinear, an architecture in C", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let (module, component) = (folder.path().join("nlinear.module.wasm"), folder.path().join("nlinear.wasm"));
    let flags = "--target=wasm32-unknown-unknown -O2 -nostdlib -ffreestanding -mbulk-memory -Wall -Wextra -Werror \
                 -Wl,--no-entry -o";
    let compiled = Command::new(&clang)
        .args(flags.split_whitespace())
        .arg(&module)
        .arg(root().join("plugins/examples/nlinear-c/nlinear.c"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{clang}: {}", String::from_utf8_lossy(&compiled.stderr));

    let s = setup(&ModelSpec::default());
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (module, component_text) = (text(&module), text(&component));
    let wrap =
        ["plugin", "wrap", &module, "--name", "nlinear", "--licence", "Apache-2.0", "--out", &component_text];
    assert!(said(&s, &wrap).contains("nlinear@0.1.0 Architecture"));
    let found = said(&s, &["plugin", "inspect", &component_text]);
    let imports = found.lines().find(|line| line.starts_with("imports")).unwrap_or_default();
    assert!(!imports.contains("wasi") && imports.contains("alphaplus:plugin/graph@"), "{found}");
    assert!(found.contains("hidden = 16 (a whole number from 0 to 1024)"), "{found}");
    assert!(said(&s, &["plugin", "test", &component_text]).contains("the same twice"));
    learns_and_serves(&component, &["hidden=16"]);
    learns_and_serves(&component, &["hidden=0"]);

    // What the host refuses, and what the plugin does, arrive as they are.
    let host = plugin::Host::new(plugin::HostOptions::default()).unwrap();
    let architecture = plugin::Architecture::new(&host.load(&component).unwrap()).unwrap();
    let huge = plugin::Dimensions { window: u32::MAX, features: 3, outputs: 1 };
    let error = architecture.build(&Default::default(), huge, &graph::Limits::default()).unwrap_err();
    assert!(error.to_string().contains("architecture nlinear@0.1.0"), "{error}");
    let small = graph::Limits { nodes_max: 4, ..graph::Limits::default() };
    let size = plugin::Dimensions { window: 8, features: 3, outputs: 1 };
    let error = architecture.build(&Default::default(), size, &small).unwrap_err();
    assert!(error.to_string().contains("more than 4 nodes"), "{error}");
}

#[test]
fn what_is_not_a_module_is_not_wrapped() {
    let s = setup(&ModelSpec::default());
    let refused = |path: &Path| {
        let mut command = s.command();
        let output = command.args(["plugin", "wrap", "--name", "x"]).arg(path).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&shipped("lstm")).contains("not a core WebAssembly module"));
    assert!(refused(&root().join("absent.wasm")).contains("absent.wasm"));
    let empty = s.folder.path().join("empty.wasm");
    fs::write(&empty, b"\0asm\x01\0\0\0").unwrap();
    assert!(refused(&empty).contains("export"), "{}", refused(&empty));
}
