//! Who a component says it is: TOML in a custom section at its top level, read without running it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of the custom section.
pub const SECTION: &str = "alphaplus:plugin";

const SECTION_BYTES_MAX: usize = 16 << 10;
const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 128;

/// `kind` is "architecture" or "features".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    pub name: String,
    pub version: String,
    #[serde(default)]
    pub licence: String,
    #[serde(default)]
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataError {
    TooLong {
        bytes: usize,
    },
    Toml(String),
    /// The field and what is wrong with it.
    Field {
        name: &'static str,
        message: String,
    },
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetadataError::TooLong { bytes } => {
                write!(f, "its metadata has {bytes} bytes; at most {SECTION_BYTES_MAX} go")
            }
            MetadataError::Toml(e) => write!(f, "its metadata is not the TOML that plugin build writes: {e}"),
            MetadataError::Field { name, message } => write!(f, "its metadata's {name} {message}"),
        }
    }
}

impl std::error::Error for MetadataError {}

impl Metadata {
    /// What a component without the section is called: by its file.
    pub(crate) fn unnamed(file_stem: &str) -> Self {
        let name: String = file_stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
            .take(NAME_BYTES_MAX)
            .collect();
        let name = if name.is_empty() { "unnamed".to_string() } else { name };
        Metadata { name, version: "0.0.0".into(), licence: String::new(), kind: String::new() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > SECTION_BYTES_MAX {
            return Err(MetadataError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| MetadataError::Toml(e.to_string()))?;
        let metadata: Metadata =
            toml::from_str(text).map_err(|e| MetadataError::Toml(e.message().to_string()))?;
        metadata.check()?;
        Ok(metadata)
    }

    fn check(&self) -> Result<(), MetadataError> {
        let field = |name, message: String| Err(MetadataError::Field { name, message });
        let plain =
            |text: &str, extra: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b));
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !plain(&self.name, b"-_") {
            return field("name", format!("must be 1 to {NAME_BYTES_MAX} of letters, digits, - and _"));
        }
        if !(1..=NAME_BYTES_MAX).contains(&self.version.len()) || !plain(&self.version, b".-+") {
            return field("version", "must be like 1.2.3".into());
        }
        if self.licence.len() > TEXT_BYTES_MAX || self.licence.chars().any(char::is_control) {
            return field("licence", format!("must be a line of at most {TEXT_BYTES_MAX} bytes"));
        }
        if !matches!(self.kind.as_str(), "" | "architecture" | "features") {
            return field("kind", "must be \"architecture\" or \"features\"".into());
        }
        Ok(())
    }
}

/// The component with the section added at its end.
pub fn embed(component: &[u8], metadata: &Metadata) -> Result<Vec<u8>, MetadataError> {
    metadata.check()?;
    let text = toml::to_string(metadata).map_err(|e| MetadataError::Toml(e.to_string()))?;
    let mut body = Vec::new();
    write_leb(&mut body, SECTION.len());
    body.extend_from_slice(SECTION.as_bytes());
    body.extend_from_slice(text.as_bytes());
    let mut bytes = component.to_vec();
    bytes.push(0);
    write_leb(&mut bytes, body.len());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Unsigned LEB128.
fn write_leb(bytes: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Metadata {
        Metadata {
            name: name.into(),
            version: "1.2.3".into(),
            licence: "MIT".into(),
            kind: "features".into(),
        }
    }

    #[test]
    fn what_is_embedded_is_read_back() {
        let header = b"\0asm\x0d\0\x01\0";
        let bytes = embed(header, &named(&"n".repeat(64))).expect("fits");
        let section = &bytes[header.len()..];
        assert_eq!(section[0], 0);
        let start = section.windows(SECTION.len()).position(|w| w == SECTION.as_bytes()).expect("named");
        assert_eq!(Metadata::parse(&section[start + SECTION.len()..]), Ok(named(&"n".repeat(64))));
        assert!(wasmparser::Validator::new().validate_all(&bytes).is_ok());
    }

    #[test]
    fn each_field_is_checked() {
        let bad = |toml: &str| Metadata::parse(toml.as_bytes()).expect_err(toml).to_string();
        assert!(bad("name = 'a b'\nversion = '1'").contains("name must be 1 to 64"));
        assert!(bad("name = ''\nversion = '1'").contains("name must be"));
        assert!(bad("name = 'a'\nversion = '1 2'").contains("version must be like"));
        assert!(bad("name = 'a'\nversion = '1'\nlicence = \"a\\nb\"").contains("licence must be a line"));
        assert!(bad("name = 'a'\nversion = '1'\nkind = 'virus'").contains("kind must be"));
        assert!(bad("name = 'a'").contains("missing field `version`"));
        assert!(bad(&format!("name = '{}'", "x".repeat(20_000))).contains("at most 16384 go"));
        assert!(Metadata::parse(&[0xff]).is_err());
    }

    #[test]
    fn a_nameless_component_is_called_by_its_file() {
        assert_eq!(Metadata::unnamed("my plugin.v2").name, "my-plugin-v2");
        assert_eq!(Metadata::unnamed("").name, "unnamed");
    }
}
