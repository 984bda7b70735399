//! A new plugin: a crate that builds and passes its own test at once, with the SDK beside it, so that it
//! needs neither this repository nor a network.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What a plugin exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    Architecture,
    Features,
}

impl PluginKind {
    /// "architecture" or "features", as in Cargo.toml and in the component's metadata.
    pub fn name(self) -> &'static str {
        match self {
            PluginKind::Architecture => "architecture",
            PluginKind::Features => "features",
        }
    }

    /// `export` comes after "alphaplus:plugin/": "model@0.1.0#build".
    pub(super) fn of_export(export: &str) -> Option<Self> {
        match export.split('@').next() {
            Some("model") => Some(PluginKind::Architecture),
            Some("feature-set") => Some(PluginKind::Features),
            _ => None,
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPluginError {
    Name(String),
    /// Something is there already.
    Exists(PathBuf),
    Io {
        path: PathBuf,
        message: String,
    },
}

impl fmt::Display for NewPluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NewPluginError::Name(name) => write!(
                f,
                "a plugin can't be called '{name}': 1 to 64 of a-z, 0-9, - and _, a letter \
                 first, no word of Rust's"
            ),
            NewPluginError::Exists(path) => {
                write!(f, "{} is there already; name a folder that is not", path.display())
            }
            NewPluginError::Io { path, message } => write!(f, "{}: {message}", path.display()),
        }
    }
}

impl std::error::Error for NewPluginError {}

macro_rules! embedded {
    ($folder:literal: $($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/", $folder, "/", $path)))),*]
    };
}

const FEATURES: [(&str, &str); 3] = embedded!("templates/features": "Cargo.toml", "README.md", "src/lib.rs");
const ARCHITECTURE: [(&str, &str); 3] =
    embedded!("templates/architecture": "Cargo.toml", "README.md", "src/lib.rs");
const SDK: [(&str, &str); 16] = embedded!("sdk":
    "Cargo.toml",
    "src/lib.rs",
    "src/architecture.rs",
    "src/bindings/architecture.rs",
    "src/bindings/features.rs",
    "src/bindings/mod.rs",
    "src/features.rs",
    "src/graph.rs",
    "src/json.rs",
    "src/log.rs",
    "src/options.rs",
    "src/rt.rs",
    "src/state.rs",
    "src/testing/layers.rs",
    "src/testing/mod.rs",
    "src/testing/recorder.rs",
);

/// Makes the crate `name` in `dir`, which must be empty or not there.
pub fn new_plugin(kind: PluginKind, name: &str, dir: &Path) -> Result<(), NewPluginError> {
    if !is_crate_name(name) {
        return Err(NewPluginError::Name(name.chars().take(80).collect()));
    }
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if !empty {
        return Err(NewPluginError::Exists(dir.to_path_buf()));
    }
    let template = match kind {
        PluginKind::Architecture => ARCHITECTURE,
        PluginKind::Features => FEATURES,
    };
    for (path, text) in template {
        write(&dir.join(path), &text.replace("{{name}}", name).replace("{{type}}", &type_name(name)))?;
    }
    write(&dir.join(".gitignore"), "/target\n")?;
    SDK.iter().try_for_each(|(path, text)| write(&dir.join("sdk").join(path), text))
}

fn write(path: &Path, text: &str) -> Result<(), NewPluginError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|e| NewPluginError::Io { path: path.to_path_buf(), message: e.to_string() })
}

fn is_crate_name(name: &str) -> bool {
    // The words that cargo or the compiler refuses, and those that would hide a crate the template uses.
    const TAKEN: [&str; 52] = [
        "abstract",
        "alloc",
        "alphaplus-plugin",
        "alphaplus_plugin",
        "as",
        "async",
        "await",
        "become",
        "box",
        "break",
        "const",
        "continue",
        "core",
        "crate",
        "do",
        "dyn",
        "else",
        "enum",
        "extern",
        "false",
        "final",
        "fn",
        "for",
        "gen",
        "if",
        "impl",
        "in",
        "let",
        "loop",
        "macro",
        "match",
        "mod",
        "move",
        "mut",
        "override",
        "priv",
        "proc_macro",
        "pub",
        "ref",
        "return",
        "self",
        "static",
        "std",
        "struct",
        "super",
        "test",
        "trait",
        "true",
        "try",
        "type",
        "typeof",
        "unsafe",
    ];
    const TAKEN_MORE: [&str; 8] =
        ["unsized", "use", "virtual", "where", "while", "yield", "proc-macro", "build"];
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
        && !TAKEN.contains(&name)
        && !TAKEN_MORE.contains(&name)
}

/// "my-plugin" → "MyPlugin".
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    let joined: String = words.map(capital).collect();
    // What the template imports would clash.
    match [
        "Bar",
        "Options",
        "Schema",
        "Spec",
        "Graph",
        "Dimensions",
        "FeatureSet",
        "Architecture",
        "String",
        "Vec",
        "Result",
        "Self",
        "Ok",
        "Err",
    ]
    .contains(&joined.as_str())
    {
        true => joined + "Plugin",
        false => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_crates_and_types() {
        assert!(["a", "my-plugin", "rsi_2"].iter().all(|name| is_crate_name(name)));
        let long = "x".repeat(65);
        for name in ["", "1a", "My", "a b", "../a", "fn", "std", "é", "alphaplus-plugin", &long] {
            assert!(!is_crate_name(name), "{name}");
        }
        assert_eq!(type_name("my-rsi_2-"), "MyRsi2");
        assert_eq!(type_name("bar"), "BarPlugin");
        let error = new_plugin(PluginKind::Features, "fn", Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().starts_with("a plugin can't be called 'fn'"));
    }

    #[test]
    fn an_existing_folder_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        fs::write(&file, "mine").unwrap();
        let error = new_plugin(PluginKind::Features, "a", dir.path()).unwrap_err();
        assert_eq!(error, NewPluginError::Exists(dir.path().into()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::remove_file(&file).unwrap();
        new_plugin(PluginKind::Architecture, "a", dir.path()).unwrap();
        for (path, text) in [
            ("Cargo.toml", "name = \"a\""),
            ("src/lib.rs", "export_architecture!(A)"),
            ("sdk/Cargo.toml", "alphaplus-plugin"),
        ] {
            let found = fs::read_to_string(dir.path().join(path)).unwrap();
            assert!(found.contains(text) && !found.contains("{{"), "{path}: {found}");
        }
    }

    #[test]
    fn every_file_of_the_sdk_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/src");
        let mut folders = vec![root.clone()];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = format!("src/{}", path.strip_prefix(&root).unwrap().display());
                assert!(SDK.iter().any(|(embedded, _)| *embedded == name), "{name} is not embedded");
                found += 1;
            }
        }
        assert_eq!(found + 1, SDK.len());
    }
}
