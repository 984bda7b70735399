//! What the demo and the tests need beside cargo: the binary, a tool chain for WASM guests, Python packages.
//! Each install is printed before it is done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{cargo, root, run, target};

/// Debian's compiler with the sources of std, and a linker for wasm32.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];

const C_PACKAGES: [&str; 2] = ["clang-22", "lld-22"];

/// Folder under `plugins/`, and name.
const PLUGINS: [(&str, &str); 6] = [
    ("architectures", "lstm"),
    ("architectures", "gru"),
    ("architectures", "cnn"),
    ("architectures", "transformer"),
    ("architectures", "dlinear"),
    ("features", "technical"),
];

pub fn all() -> Result<(), String> {
    let binary = binary()?;
    guests(&binary)?;
    if let Err(reason) = c_compiler() {
        println!("no C compiler for plugins: {reason}");
    }
    if let Err(reason) = python() {
        println!("no Python packages: {reason}");
    }
    Ok(())
}

/// Builds `alphaplus`.
pub fn binary() -> Result<PathBuf, String> {
    println!("building alphaplus (several minutes the first time)");
    run(cargo().args(["build", "--release", "--workspace"]))?;
    Ok(target().join("release/alphaplus"))
}

fn answers(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A tool chain that can build guests: rustup's target, or Debian's packages.
pub fn guest_toolchain() -> Result<(), String> {
    let target = "wasm32-unknown-unknown";
    let debian =
        || Path::new("/usr/bin/wasm-ld-22").exists() && Path::new("/usr/src").exists() && debian_installed();
    let rustup = answers("rustup", &["target", "list", "--installed"]);
    if rustup.as_deref().is_some_and(|list| list.lines().any(|l| l.trim() == target)) || debian() {
        return Ok(());
    }
    if rustup.is_some() {
        println!("installing Rust's target {target} with rustup, to build plugins");
        if run(Command::new("rustup").args(["target", "add", target])).is_ok() {
            return Ok(());
        }
    }
    if may_apt() {
        println!("installing {} with apt-get, to build plugins", DEBIAN_PACKAGES.join(" "));
        return apt(&DEBIAN_PACKAGES);
    }
    Err(format!(
        "no tool chain for WASM guests: run `rustup target add {target}`, or as root `apt-get install {}`",
        DEBIAN_PACKAGES.join(" ")
    ))
}

fn debian_installed() -> bool {
    let mut args = vec!["-W", "-f", "${db:Status-Status}\n"];
    args.extend(DEBIAN_PACKAGES);
    answers("dpkg-query", &args)
        .is_some_and(|s| s.lines().filter(|l| *l == "installed").count() == DEBIAN_PACKAGES.len())
}

/// A C compiler for wasm32, which the test of a plugin in C needs: Debian's clang, beside the linker of the plugins.
pub fn c_compiler() -> Result<(), String> {
    let is_there = |name: &str| {
        let linker = answers(name, &["--print-prog-name=wasm-ld"]).unwrap_or_default();
        answers(name, &["--print-targets"]).is_some_and(|targets| targets.contains("wasm32"))
            && Path::new(linker.trim()).is_absolute()
    };
    let mut names = (16..=30).map(|major| format!("clang-{major}")).chain(["clang".to_string()]);
    if names.any(|name| is_there(&name)) {
        return Ok(());
    }
    if may_apt() {
        println!("installing {} with apt-get, to build the plugin in C", C_PACKAGES.join(" "));
        return apt(&C_PACKAGES);
    }
    Err(format!("no clang for wasm32: as root, `apt-get install {}`", C_PACKAGES.join(" ")))
}

fn may_apt() -> bool {
    answers("apt-get", &["--version"]).is_some() && answers("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

fn apt(packages: &[&str]) -> Result<(), String> {
    let apt =
        |args: &[&str]| run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(args));
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)
}

/// Builds the plugins of this repository into `target/plugins`.
pub fn guests(binary: &Path) -> Result<PathBuf, String> {
    guest_toolchain()?;
    let out = target().join("plugins");
    std::fs::create_dir_all(&out).map_err(|e| e.to_string())?;
    for (kind, name) in PLUGINS {
        let component = out.join(format!("{name}.wasm"));
        let folder = format!("plugins/{kind}/{name}");
        run(Command::new(binary).args(["plugin", "build", &folder, "--out"]).arg(&component))?;
    }
    Ok(out)
}

/// A virtual environment with the packages that the tests compare with; its interpreter.
pub fn python() -> Result<PathBuf, String> {
    environment("python", "tests/python/requirements.txt")
}

/// One with the engines that the bench compares with.
pub fn peers() -> Result<PathBuf, String> {
    environment("peers", "tests/bench/requirements.txt")
}

/// Makes `target/NAME` where it doesn't have what the file lists.
fn environment(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let folder = target().join(name);
    let interpreter = folder.join("bin/python");
    let wanted = root().join(requirements);
    if interpreter.exists() && has(&interpreter, &wanted) {
        return Ok(interpreter);
    }
    if answers("python3", &["--version"]).is_none() {
        return Err("python3 is not installed".into());
    }
    println!("installing {} into {}", wanted.display(), folder.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&wanted))?;
    Ok(interpreter)
}

/// Whether each `name==version` of the file is installed.
fn has(interpreter: &Path, requirements: &Path) -> bool {
    const CHECK: &str = "import sys; from importlib.metadata import version\n\
        for line in open(sys.argv[1]):\n    \
            name, _, wanted = line.strip().partition('==')\n    \
            assert not wanted or name.startswith('#') or version(name) == wanted";
    let done = Command::new(interpreter).args(["-c", CHECK]).arg(requirements).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
