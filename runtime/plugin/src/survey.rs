//! Reads what a component is and needs, without running or compiling it.

use wasmparser::{ComponentExternalKind, Parser, Payload, Validator, WasmFeatures};

use crate::metadata::{Metadata, SECTION};

/// The WIT version that the host offers.
pub const WIT_VERSION: &str = "0.1.1";
const OFFERED: Version = Version { major: 0, minor: 1, patch: 1 };
const PACKAGE: &str = "alphaplus:plugin/";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    Architecture,
    Features,
}

impl World {
    pub fn name(self) -> &'static str {
        match self {
            World::Architecture => "architecture",
            World::Features => "features",
        }
    }

    fn from_export(interface: &str) -> Option<Self> {
        match interface {
            "model" => Some(World::Architecture),
            "feature-set" => Some(World::Features),
            _ => None,
        }
    }

    fn offers(self, interface: &str) -> bool {
        match self {
            World::Architecture => matches!(interface, "log" | "graph"),
            World::Features => matches!(interface, "log" | "types"),
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Survey {
    pub(crate) world: World,
    /// As the component names them: "alphaplus:plugin/log@0.1.0".
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    pub(crate) metadata: Option<Metadata>,
}

/// Why a file isn't a component for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    Read(String),
    TooLarge {
        bytes: u64,
        limit: usize,
    },
    /// Not WebAssembly at all.
    NotWasm,
    /// WebAssembly, but a core module.
    CoreModule,
    /// What the validator says, with the offset.
    Invalid(String),
    /// It was built for another version of the WIT.
    Version {
        needs: String,
    },
    /// It imports what this host doesn't have.
    Imports(Vec<String>),
    /// It exports neither a model nor a feature set, or both.
    World {
        exports: Vec<String>,
    },
    Metadata(String),
    /// The code generator refused it.
    Compile(String),
}

impl std::fmt::Display for LoadErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadErrorKind::Read(e) => write!(f, "can't be read: {e}"),
            LoadErrorKind::TooLarge { bytes, limit } => {
                write!(f, "has {bytes} bytes; at most {limit} go (component_bytes_max)")
            }
            LoadErrorKind::NotWasm => write!(f, "is not a WebAssembly component"),
            LoadErrorKind::CoreModule => {
                write!(f, "is a core module, not a component; build it with `alphaplus plugin build`")
            }
            LoadErrorKind::Invalid(e) => write!(f, "is not valid WebAssembly: {e}"),
            LoadErrorKind::Version { needs } => {
                write!(f, "needs {needs}; this appliance offers alphaplus:plugin {WIT_VERSION}")
            }
            LoadErrorKind::Imports(names) => {
                write!(f, "imports {}, which this appliance doesn't offer", names.join(", "))?;
                if names.iter().any(|name| name.starts_with("wasi:")) {
                    write!(f, "; there is no WASI here: build it for wasm32-unknown-unknown")?;
                }
                Ok(())
            }
            LoadErrorKind::World { exports } if exports.is_empty() => {
                write!(
                    f,
                    "exports nothing; it must export alphaplus:plugin/model or alphaplus:plugin/feature-set"
                )
            }
            LoadErrorKind::World { exports } => write!(
                f,
                "exports {}; it must export one of alphaplus:plugin/model and alphaplus:plugin/feature-set",
                exports.join(", ")
            ),
            LoadErrorKind::Metadata(e) => write!(f, "{e}"),
            LoadErrorKind::Compile(e) => write!(f, "can't be compiled: {e}"),
        }
    }
}

/// Reads, then validates: the reader's answers are better ("needs 0.2"), so they come first.
pub(crate) fn survey(bytes: &[u8]) -> Result<Survey, LoadErrorKind> {
    if !bytes.starts_with(b"\0asm") || bytes.len() < 8 {
        return Err(LoadErrorKind::NotWasm);
    }
    if bytes[6..8] == [0, 0] {
        return Err(LoadErrorKind::CoreModule);
    }
    let (imports, exports, metadata) = read(bytes)?;
    check_versions(imports.iter().chain(&exports))?;
    let worlds: Vec<World> =
        exports.iter().filter_map(|name| World::from_export(interface_of(name)?.0)).collect();
    let &[world] = worlds.as_slice() else {
        return Err(LoadErrorKind::World { exports: exports.iter().take(8).map(|e| shown(e)).collect() });
    };
    let unknown: Vec<String> = imports
        .iter()
        .filter(|name| !interface_of(name).is_some_and(|(interface, _)| world.offers(interface)))
        .take(8)
        .map(|name| shown(name))
        .collect();
    if !unknown.is_empty() {
        return Err(LoadErrorKind::Imports(unknown));
    }
    Validator::new_with_features(features())
        .validate_all(bytes)
        .map_err(|e| LoadErrorKind::Invalid(e.to_string()))?;
    Ok(Survey { world, imports, exports, metadata })
}

/// What the engine accepts; see `host::engine`.
fn features() -> WasmFeatures {
    let without = WasmFeatures::GC_TYPES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::THREADS
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::MEMORY64
        | WasmFeatures::RELAXED_SIMD;
    (WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL).difference(without)
}

type Names = (Vec<String>, Vec<String>, Option<Metadata>);

/// The outermost component's imports and exports of instances, and its metadata.
fn read(bytes: &[u8]) -> Result<Names, LoadErrorKind> {
    let invalid = |e: wasmparser::BinaryReaderError| LoadErrorKind::Invalid(e.to_string());
    let (mut imports, mut exports, mut metadata) = (Vec::new(), Vec::new(), None);
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_string());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_string());
                    }
                }
            }
            Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                let parsed =
                    Metadata::parse(section.data()).map_err(|e| LoadErrorKind::Metadata(e.to_string()))?;
                metadata = Some(parsed);
            }
            _ => {}
        }
    }
    Ok((imports, exports, metadata))
}

fn shown(name: &str) -> String {
    crate::log::clean(name, 128)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

/// "alphaplus:plugin/log@0.1.0" → ("log", "0.1.0").
fn interface_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// Below 1.0 the minor number says what is compatible; a higher patch may need functions that aren't here.
fn check_versions<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), LoadErrorKind> {
    for name in names {
        let Some((_, version)) = interface_of(name) else { continue };
        let fits = parse_version(version)
            .is_some_and(|v| (v.major, v.minor) == (OFFERED.major, OFFERED.minor) && v <= OFFERED);
        if !fits {
            return Err(LoadErrorKind::Version { needs: shown(name) });
        }
    }
    Ok(())
}

fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let version = Version { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
    if parts.next().is_some() { None } else { Some(version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_version_is_the_one_of_the_wit() {
        let wit = include_str!("../../../plugins/wit/plugin.wit");
        assert!(wit.contains(&format!("package alphaplus:plugin@{WIT_VERSION};")));
        assert!(parse_version(WIT_VERSION) == Some(OFFERED));
    }

    #[test]
    fn versions_are_told_apart() {
        let check = |v: &str| check_versions([format!("alphaplus:plugin/log@{v}")].iter()).is_ok();
        assert!(check("0.1.0") && check("0.1.1"));
        for other in ["0.1.2", "0.2.0", "1.1.0", "0.1.0-rc1", "0.1", "0.1.0.0", ""] {
            assert!(!check(other), "{other}");
        }
    }

    #[test]
    fn what_is_not_a_component_is_told_so() {
        assert_eq!(survey(b""), Err(LoadErrorKind::NotWasm));
        assert_eq!(survey(b"hello, world"), Err(LoadErrorKind::NotWasm));
        assert_eq!(survey(b"\0asm\x01\0\0\0"), Err(LoadErrorKind::CoreModule));
        assert_eq!(survey(b"\0asm\x0d\0\x01\0"), Err(LoadErrorKind::World { exports: vec![] }));
        assert!(matches!(survey(b"\0asm\x0d\0\x01\0\xff\xff"), Err(LoadErrorKind::Invalid(_))));
    }
}
