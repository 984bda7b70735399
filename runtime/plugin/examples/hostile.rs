//! Builds the misbehaving guests of `plugins/hostile` into `tests/data/plugins`: run it after a change there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plugin::toolchain::{BuildOptions, build};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::args().nth(1).map_or_else(|| root.join("target/plugin-std"), PathBuf::from);
    let options = BuildOptions { cache, keep_debug: true, may_install: false };
    for kind in ["features", "architecture"] {
        let out = root.join(format!("tests/data/plugins/hostile-{kind}.wasm"));
        match build(&root.join("plugins/hostile").join(kind), &out, &options, &mut |line| eprintln!("{line}"))
        {
            Ok(built) => println!("{} {} {} bytes", out.display(), built.digest, built.size_bytes),
            Err(e) => {
                eprintln!("{e}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
