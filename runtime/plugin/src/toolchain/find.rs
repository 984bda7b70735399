//! Which compiler builds plugins on this machine, and what is missing where none does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cargo::Tools;
use super::{BuildOptions, ToolchainError, sysroot};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";
pub(super) const DEBIAN_LINE: &str = "apt-get install rustc-web cargo-web rust-web-src lld-22";
const RUSTUP_LINE: &str = "rustup target add wasm32-unknown-unknown";
/// The SDK's `rust-version`.
const RUST_OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build plugins.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Toolchain {
    /// `cargo` and `rustc` of PATH, whose sysroot has the target: rustup's as a rule.
    Path { version: String },
    /// /usr/bin's, which has std as source only.
    Debian(Debian),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Debian {
    /// All that `rustc -vV` says.
    pub(super) verbose_version: String,
    /// `rustc --print sysroot`.
    pub(super) prefix: PathBuf,
    pub(super) linker: PathBuf,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Path { version } => write!(f, "{version} of PATH"),
            Toolchain::Debian(debian) => {
                let version = debian.verbose_version.lines().next().unwrap_or_default();
                write!(f, "{version} from Debian's packages, linked by {}", debian.linker.display())
            }
        }
    }
}

impl Toolchain {
    /// What cargo needs to build with it; on Debian this builds std the first time.
    pub(super) fn prepare(
        &self,
        cache: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Tools, ToolchainError> {
        match self {
            // Named, because a user's own settings may ask for wasm-component-ld, which gives no module.
            Toolchain::Path { .. } => {
                Ok(Tools { cargo: "cargo".into(), rustc: None, linker: Some("rust-lld".into()) })
            }
            Toolchain::Debian(debian) => {
                let rustc = sysroot::rustc(debian, cache, progress)?;
                Ok(Tools {
                    cargo: "/usr/bin/cargo".into(),
                    rustc: Some(rustc),
                    linker: Some(debian.linker.clone()),
                })
            }
        }
    }
}

/// A route and how it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// "rustup" or "Debian".
    pub route: &'static str,
    pub ready: bool,
    /// What was found, or what is missing.
    pub detail: String,
    /// The command that makes it ready.
    pub fix: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.ready { "ready" } else { "not ready" };
        write!(f, "{}: {state}: {}", self.route, self.detail)?;
        if let Some(fix) = &self.fix {
            write!(f, "; run: {fix}")?;
        }
        Ok(())
    }
}

/// The routes in the order in which they are tried. The first that is ready builds.
#[derive(Clone, Debug, PartialEq)]
pub struct Doctor {
    pub candidates: Vec<Candidate>,
    /// Whether Debian's std, where that route would be taken, is built already.
    pub std_is_cached: bool,
}

impl Doctor {
    pub fn chosen(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.ready)
    }
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.chosen() {
            Some(chosen) => write!(f, "plugins are built by way of {}", chosen.route)?,
            None => write!(f, "plugins can't be built here")?,
        }
        if self.chosen().is_some_and(|chosen| chosen.route == "Debian") && !self.std_is_cached {
            write!(f, "; the first build also compiles std, about a minute")?;
        }
        self.candidates.iter().try_for_each(|candidate| write!(f, "\n  {candidate}"))
    }
}

/// Looks at both routes, changes nothing. `dir` is where cargo would run: a rust-toolchain.toml there counts.
pub fn doctor(dir: &Path, cache: &Path) -> Doctor {
    let debian = look_at_debian();
    let std_is_cached = debian.as_ref().is_ok_and(|debian| sysroot::is_built(debian, cache));
    let path = look_at_path(dir).map(|version| Toolchain::Path { version });
    Doctor {
        candidates: vec![report("rustup", path), report("Debian", debian.map(Toolchain::Debian))],
        std_is_cached,
    }
}

fn report(route: &'static str, found: Result<Toolchain, Missing>) -> Candidate {
    match found {
        Ok(toolchain) => Candidate { route, ready: true, detail: toolchain.to_string(), fix: None },
        Err(missing) => {
            Candidate { route, ready: false, detail: missing.detail, fix: Some(missing.fix.into()) }
        }
    }
}

pub(super) fn choose(
    dir: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Toolchain, ToolchainError> {
    let mut path = look_at_path(dir);
    if path.as_ref().is_err_and(|missing| missing.fix == RUSTUP_LINE) && options.may_install {
        progress(&format!("running {RUSTUP_LINE}"));
        let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(dir).output();
        match added {
            Ok(output) if output.status.success() => path = look_at_path(dir),
            Ok(output) => progress(&format!("it failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(e) => progress(&format!("it failed: {e}")),
        }
    }
    let path = match path {
        Ok(version) => return Ok(Toolchain::Path { version }),
        Err(missing) => missing,
    };
    match look_at_debian() {
        Ok(debian) => Ok(Toolchain::Debian(debian)),
        Err(debian) => Err(ToolchainError::NoToolchain {
            tried: vec![report("rustup", Err(path)), report("Debian", Err(debian))],
        }),
    }
}

pub(super) struct Missing {
    pub(super) detail: String,
    pub(super) fix: &'static str,
}

/// The version of PATH's rustc, if its sysroot has the target.
fn look_at_path(dir: &Path) -> Result<String, Missing> {
    const INSTALL: &str = "curl https://sh.rustup.rs | sh";
    let missing = |detail: String, fix| Err(Missing { detail, fix });
    let rustc = Path::new("rustc");
    let Some(version) = ask(rustc, &["-vV"], dir) else {
        return missing("there is no rustc in PATH".into(), INSTALL);
    };
    let line = version.lines().next().unwrap_or_default().to_owned();
    if !is_new_enough(&version) {
        let update = if ask(Path::new("rustup"), &["--version"], dir).is_some() {
            "rustup update stable"
        } else {
            INSTALL
        };
        return missing(format!("{line} is older than {}.{}", RUST_OLDEST.0, RUST_OLDEST.1), update);
    }
    if ask(Path::new("cargo"), &["--version"], dir).is_none() {
        return missing("there is no cargo in PATH".into(), INSTALL);
    }
    let folder = ask(rustc, &["--print", "target-libdir", "--target", TARGET], dir);
    if folder.is_some_and(|folder| has_std(Path::new(folder.trim()))) {
        return Ok(line);
    }
    let has_rustup = ask(Path::new("rustup"), &["--version"], dir).is_some();
    missing(format!("{line} has no {TARGET}"), if has_rustup { RUSTUP_LINE } else { INSTALL })
}

pub(super) fn look_at_debian() -> Result<Debian, Missing> {
    let missing = |detail: String| Err(Missing { detail, fix: DEBIAN_LINE });
    let (rustc, root) = (Path::new("/usr/bin/rustc"), Path::new("/"));
    let Some(verbose_version) = ask(rustc, &["-vV"], root) else {
        return missing("there is no /usr/bin/rustc".into());
    };
    if !is_new_enough(&verbose_version) {
        let line = verbose_version.lines().next().unwrap_or_default();
        return missing(format!("/usr/bin/rustc is {line}, older than {}.{}", RUST_OLDEST.0, RUST_OLDEST.1));
    }
    if ask(Path::new("/usr/bin/cargo"), &["--version"], root).is_none() {
        return missing("there is no /usr/bin/cargo".into());
    }
    let Some(prefix) = ask(rustc, &["--print", "sysroot"], root).map(|prefix| PathBuf::from(prefix.trim()))
    else {
        return missing("/usr/bin/rustc names no sysroot".into());
    };
    let library = sysroot::library(&prefix);
    if !library.join("std/Cargo.toml").is_file() || !library.join("vendor").is_dir() {
        return missing(format!("{} does not hold the source of std", library.display()));
    }
    match linker() {
        Some(linker) => Ok(Debian { verbose_version, prefix, linker }),
        None => missing("there is no wasm-ld-19 or newer, nor rustup's rust-lld".into()),
    }
}

/// The newest of Debian's linkers, or else the one in a rustup tool chain.
fn linker() -> Option<PathBuf> {
    let debian = (19..=40)
        .rev()
        .map(|major| PathBuf::from(format!("/usr/bin/wasm-ld-{major}")))
        .find(|path| path.is_file());
    debian.or_else(|| {
        let sysroot = ask(Path::new("rustc"), &["--print", "sysroot"], Path::new("/"))?;
        let host = host(&ask(Path::new("rustc"), &["-vV"], Path::new("/"))?)?.to_owned();
        let linker = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld");
        linker.is_file().then_some(linker)
    })
}

/// The host triple in what `rustc -vV` says.
pub(super) fn host(verbose_version: &str) -> Option<&str> {
    verbose_version.lines().find_map(|line| line.strip_prefix("host: "))
}

fn has_std(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

pub(super) fn is_new_enough(verbose_version: &str) -> bool {
    let release = verbose_version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap_or_default();
    let mut parts = release.split(['.', '-']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= RUST_OLDEST,
        _ => false,
    }
}

/// What the program prints, if it starts and succeeds.
fn ask(program: &Path, arguments: &[&str], dir: &Path) -> Option<String> {
    let output = super::cargo::clean(program).args(arguments).current_dir(dir).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
