//! Runs cargo so that neither the caller's environment nor the machine's paths reach what is built.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::ToolchainError;
use super::find::TARGET;

const OUTPUT_LINES_MAX: usize = 200;

/// The programs of a tool chain; `None`: cargo's own choice.
pub(super) struct Tools {
    pub(super) cargo: PathBuf,
    pub(super) rustc: Option<PathBuf>,
    pub(super) linker: Option<PathBuf>,
}

/// What Cargo.toml says of the plugin.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: String,
    /// `[package.metadata.alphaplus] kind`.
    pub(super) kind: Option<String>,
    manifest: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
    metadata: serde_json::Value,
}

#[derive(Deserialize)]
struct MetadataTarget {
    crate_types: Vec<String>,
}

/// Reads the crate in `dir`.
pub(super) fn package(dir: &Path, tools: &Tools) -> Result<Package, ToolchainError> {
    let not = |message: String| ToolchainError::NotAPlugin { dir: dir.to_path_buf(), message };
    let manifest = dir.join("Cargo.toml").canonicalize().map_err(|_| not("there is no Cargo.toml".into()))?;
    let mut command = cargo(tools, dir);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    let json = run(command, &mut |_| ())?.map_err(not)?;
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|e| not(format!("cargo metadata: {e}")))?;
    let found = metadata.packages.into_iter().find(|package| package.manifest_path == manifest);
    let found = found.ok_or_else(|| not("Cargo.toml has no [package]".into()))?;
    if !found.targets.iter().any(|target| target.crate_types.iter().any(|kind| kind == "cdylib")) {
        return Err(not("write in Cargo.toml: [lib] crate-type = [\"cdylib\", \"rlib\"]".into()));
    }
    Ok(Package {
        name: found.name,
        version: found.version,
        licence: found.license.unwrap_or_default(),
        kind: found.metadata["alphaplus"]["kind"].as_str().map(str::to_owned),
        manifest,
        workspace_root: metadata.workspace_root,
    })
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Builds the crate's core module.
pub(super) fn build(
    package: &Package,
    tools: &Tools,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<u8>, ToolchainError> {
    let dir = package.manifest.parent().unwrap_or(Path::new("/"));
    let mut command = cargo(tools, dir);
    command
        .args(["build", "--lib", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&package.manifest)
        .env("CARGO_ENCODED_RUSTFLAGS", path_flags(package));
    let output = run(command, progress)?.map_err(|output| ToolchainError::Compile { output })?;
    let module = output
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path == package.manifest)
        .flat_map(|message| message.filenames)
        .find(|path| path.extension() == Some(OsStr::new("wasm")))
        .ok_or_else(|| ToolchainError::Compile { output: "cargo built no .wasm file".into() })?;
    std::fs::read(&module).map_err(|e| ToolchainError::Io { path: module, message: e.to_string() })
}

/// Takes the folders of the plugin and of the registry out of panic messages and line tables. Being set, it
/// also keeps the user's own flags out.
fn path_flags(package: &Package) -> String {
    let root = package.workspace_root.to_string_lossy().into_owned();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={root}=")];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.join("\x1f")
}

fn cargo(tools: &Tools, dir: &Path) -> Command {
    let mut command = clean(&tools.cargo);
    command.current_dir(dir);
    if let Some(rustc) = &tools.rustc {
        command.env("RUSTC", rustc);
    }
    if let Some(linker) = &tools.linker {
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    command
}

/// A command without the cargo and rustc settings of this process's environment, which `cargo run` and users
/// set.
pub(super) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let keep = text == "CARGO_HOME"
            || ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"].iter().any(|p| text.starts_with(p));
        let ours = text.starts_with("CARGO") || text.starts_with("RUSTC") || text.starts_with("RUSTFLAGS");
        if ours && !keep {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end; stderr goes to `progress` by lines. What it printed, or, where it failed, the end of its
/// stderr.
pub(super) fn run(
    mut command: Command,
    progress: &mut dyn FnMut(&str),
) -> Result<Result<Vec<u8>, String>, ToolchainError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed =
        |e: std::io::Error| ToolchainError::Start { program: program.clone(), message: e.to_string() };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut bytes)).map(|_| bytes)
    });
    let mut tail = std::collections::VecDeque::new();
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let line = String::from_utf8_lossy(&line.map_err(failed)?).into_owned();
        progress(&line);
        if tail.len() == OUTPUT_LINES_MAX {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = child.wait().map_err(failed)?;
    let output = reader
        .join()
        .map_err(|_| failed(std::io::Error::other("its output could not be read")))?
        .map_err(failed)?;
    if status.success() { Ok(Ok(output)) } else { Ok(Err(Vec::from(tail).join("\n"))) }
}
