//! What ships in `plugins/dist` is what the sources give. Components that shipped models name stay as they were built.

use std::path::Path;

use plugin::toolchain::{BuildOptions, build};
use plugin::{Architecture, Dimensions, Host, HostOptions};

use crate::skip::{root, skip};

const BUILT: [&str; 5] = ["lstm", "gru", "cnn", "transformer", "dlinear"];

/// The version of rustc in the component's "producers", where each string has its length before it.
fn compiler(component: &[u8]) -> Option<String> {
    let at = component.windows(6).position(|bytes| bytes == b"\x05rustc")?;
    let text = component.get(at + 7..at + 7 + usize::from(*component.get(at + 6)?))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[test]
fn each_shipped_architecture_is_built_from_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        BuildOptions { cache: root().join("target/plugin-std"), keep_debug: false, may_install: false };
    for name in BUILT {
        let shipped = std::fs::read(root().join(format!("plugins/dist/{name}.wasm"))).unwrap();
        let source = root().join("plugins/architectures").join(name);
        let built = match build(&source, folder.path(), &options, &mut |_| ()) {
            Ok(built) => std::fs::read(built.path).unwrap(),
            Err(error @ plugin::toolchain::ToolchainError::NoToolchain { .. }) => {
                return skip("plugins/dist from source", &error.to_string());
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let (theirs, ours) = (compiler(&shipped), compiler(&built));
        assert!(theirs.is_some() && ours.is_some(), "{name} names no compiler");
        if theirs == ours {
            assert!(
                shipped == built,
                "plugins/dist/{name}.wasm is not what its source gives: build it again"
            );
        } else {
            // Other bytes, but the same graph.
            eprintln!("{name}: built with {theirs:?} there and {ours:?} here; the graphs are compared");
            assert_eq!(graph_of(&shipped), graph_of(&built), "{name}");
        }
    }
}

fn graph_of(component: &[u8]) -> graph::Graph {
    let host = Host::new(HostOptions::default()).unwrap();
    let architecture = Architecture::new(&host.load_bytes("one", component).unwrap()).unwrap();
    let size = Dimensions { window: 24, features: 5, outputs: 2 };
    architecture.build(&serde_json::Map::new(), size, &graph::Limits::default()).unwrap()
}

#[test]
fn what_shipped_models_name_is_there() {
    let digests: Vec<String> = std::fs::read_dir(root().join("plugins/dist"))
        .unwrap()
        .map(|entry| registry::sha256_hex(&std::fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    let registry = registry::Registry::open(root().join("models")).unwrap();
    for model in registry.list().unwrap().models {
        for version in model.versions {
            let version = registry::Version::parse(&version.to_string()).unwrap();
            let manifest = registry.load(&model.name, version).unwrap().manifest;
            for digest in [&manifest.architecture.digest, &manifest.features.digest] {
                assert!(digests.contains(digest), "{}: {digest} is not in plugins/dist", model.name);
            }
        }
    }
    assert!(Path::new(&root()).join("plugins/dist/technical.wasm").exists());
}
