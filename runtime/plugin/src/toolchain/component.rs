//! From the core module that the compiler gives to the component that is shipped.

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::{PluginKind, ToolchainError};
use crate::metadata::{Metadata, embed};

const OURS: &str = "alphaplus:plugin/";
const WIT: &str = include_str!("../../../../plugins/wit/plugin.wit");
/// The custom sections that say which world a module is of begin so.
const TYPE_SECTION: &str = "component-type";

/// What a component says of itself.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: String,
    /// "architecture" or "features", where the author says which it is.
    pub(super) kind: Option<String>,
}

/// Strips the module unless `keep_debug`, wraps it, and names it. A module that doesn't say its world, as one that was
/// not made by bindings, is taken to be of the WIT that stands here.
pub(super) fn make(
    module: &[u8],
    named: &Named,
    keep_debug: bool,
) -> Result<(Vec<u8>, PluginKind), ToolchainError> {
    let kind = kind(module)?;
    if let Some(declared) = named.kind.as_deref().filter(|declared| *declared != kind.name()) {
        return Err(ToolchainError::Kind { declared: declared.into(), exported: kind.name() });
    }
    let mut module = if keep_debug { module.to_vec() } else { strip(module)? };
    if !has_type(&module)? {
        embed_type(&mut module, kind)?;
    }
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .map_err(|e| ToolchainError::Component(format!("{e:#}")))?;
    let metadata = Metadata {
        name: named.name.clone(),
        version: named.version.clone(),
        licence: named.licence.clone(),
        kind: kind.name().into(),
    };
    let named = embed(&component, &metadata).map_err(|e| ToolchainError::Component(e.to_string()))?;
    Ok((named, kind))
}

fn has_type(module: &[u8]) -> Result<bool, ToolchainError> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload.map_err(broken)?
            && section.name().starts_with(TYPE_SECTION)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says in the module that it is of the kind's world.
fn embed_type(module: &mut Vec<u8>, kind: PluginKind) -> Result<(), ToolchainError> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("plugin.wit", WIT);
    package
        .and_then(|package| resolve.select_world(&[package], Some(kind.name())))
        .and_then(|world| embed_component_metadata(module, &resolve, world, StringEncoding::UTF8))
        .map_err(|e| ToolchainError::Component(format!("{e:#}")))
}

/// By its exports; refuses imports that no host has.
fn kind(module: &[u8]) -> Result<PluginKind, ToolchainError> {
    let mut foreign = Vec::new();
    let mut kind = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(broken)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(broken)?;
                    let module = import.module.strip_prefix("[export]").unwrap_or(import.module);
                    if !module.starts_with(OURS) {
                        foreign.push(format!("{}/{}", import.module, import.name));
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let name = export.map_err(broken)?.name;
                    kind = kind.or_else(|| PluginKind::of_export(name.strip_prefix(OURS)?));
                }
            }
            _ => {}
        }
    }
    if !foreign.is_empty() {
        return Err(ToolchainError::Imports { names: foreign });
    }
    kind.ok_or(ToolchainError::NoExport)
}

/// Without custom sections, but for those that describe the component's type and who made it.
fn strip(module: &[u8]) -> Result<Vec<u8>, ToolchainError> {
    let mut stripped = Vec::with_capacity(module.len());
    let mut end = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(broken)?;
        if let Payload::Version { range, .. } = &payload {
            stripped.extend_from_slice(&module[range.clone()]);
            end = range.end;
        }
        let Some((_, range)) = payload.as_section() else { continue };
        let keep = match &payload {
            Payload::CustomSection(section) => {
                section.name().starts_with(TYPE_SECTION) || section.name() == "producers"
            }
            _ => true,
        };
        if keep {
            // From the end of the section before: its id and size stand there.
            stripped.extend_from_slice(&module[end..range.end]);
        }
        end = range.end;
    }
    Ok(stripped)
}

fn broken(error: wasmparser::BinaryReaderError) -> ToolchainError {
    ToolchainError::Component(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of these sections: an id and a body.
    fn module(sections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        for (id, body) in sections {
            bytes.extend([*id, u8::try_from(body.len()).unwrap()]);
            bytes.extend_from_slice(body);
        }
        bytes
    }

    #[test]
    fn only_what_describes_the_component_is_kept() {
        let types = (1, &b"\x01\x60\0\0"[..]);
        let kept = (0, &b"\x10component-type:xyz"[..]);
        let full = module(&[(0, b"\x04nameab"), types, kept, (0, b"\x0b.debug_linexyz")]);
        assert_eq!(strip(&full).unwrap(), module(&[types, kept]));
        assert!(strip(&full[..full.len() - 1]).is_err());
    }

    #[test]
    fn foreign_imports_and_missing_exports_are_named() {
        let types = (1, &b"\x01\x60\0\0"[..]);
        let wasi = module(&[types, (2, b"\x01\x03env\x03now\0\0")]);
        let error = kind(&wasi).unwrap_err();
        assert_eq!(error, ToolchainError::Imports { names: vec!["env/now".into()] });
        assert!(error.to_string().contains("env/now, which no host offers"));
        assert_eq!(kind(&module(&[types])).unwrap_err(), ToolchainError::NoExport);
    }

    #[test]
    fn the_kind_is_read_from_the_exports() {
        let with = |name: &[u8]| {
            let export = [&[1, u8::try_from(name.len()).unwrap()], name, &[0, 0]].concat();
            module(&[(1, b"\x01\x60\0\0"), (3, b"\x01\0"), (7, &export), (10, b"\x01\x02\0\x0b")])
        };
        assert_eq!(kind(&with(b"alphaplus:plugin/model@0.1.0#schema")), Ok(PluginKind::Architecture));
        assert_eq!(kind(&with(b"alphaplus:plugin/feature-set@0.1.0#schema")), Ok(PluginKind::Features));
        assert_eq!(kind(&with(b"other:plugin/model@0.1.0#schema")), Err(ToolchainError::NoExport));
    }
}
