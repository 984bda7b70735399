//! `alphaplus plugin new|build|wrap|check|test|bench|inspect`.

use std::path::{Path, PathBuf};

use market::read::{ReadOptions, read_bars};
use market::{Bar, Symbol};
use plugin::FeaturePlugin;
use plugin::toolchain::{self, BuildOptions, Built, Naming};
use serde_json::Map;

use crate::cli::{Plugin, PluginKind};
use crate::config::Settings;
use crate::load;

pub fn run(settings: &Settings, command: &Plugin) -> Result<(), String> {
    match command {
        Plugin::New { kind, name } => new(*kind, name),
        Plugin::Build { folder, out } => build(settings, folder, out.as_deref()),
        Plugin::Wrap { module, name, plugin_version, licence, out } => {
            let naming =
                Naming { name: name.clone(), version: plugin_version.clone(), licence: licence.clone() };
            let out = out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
            let built = toolchain::wrap(module, &naming, &out, false).map_err(|e| e.to_string())?;
            say_built(&built);
            Ok(())
        }
        Plugin::Check { component } => check(settings, component),
        Plugin::Test { component, bars, rounds, seed } => {
            test(settings, component, bars.as_deref(), *rounds, *seed)
        }
        Plugin::Bench { component } => bench(settings, component),
        Plugin::Inspect { component } => inspect(settings, component),
    }
}

fn new(kind: PluginKind, name: &str) -> Result<(), String> {
    let kind = match kind {
        PluginKind::Features => toolchain::PluginKind::Features,
        PluginKind::Architecture => toolchain::PluginKind::Architecture,
    };
    let folder = PathBuf::from(name);
    toolchain::new_plugin(kind, name, &folder).map_err(|e| e.to_string())?;
    println!(
        "made {}; next:\n  cd {name}\n  cargo test\n  alphaplus plugin build\n  alphaplus plugin test {name}.wasm",
        folder.display()
    );
    Ok(())
}

fn build(settings: &Settings, folder: &Path, out: Option<&Path>) -> Result<(), String> {
    let options = BuildOptions {
        cache: settings.raw.plugins.cache_folder.join("std"),
        keep_debug: false,
        may_install: false,
    };
    let out = out.unwrap_or(folder);
    let built = toolchain::build(folder, out, &options, &mut |line| eprintln!("{line}"))
        .map_err(|e| e.to_string())?;
    say_built(&built);
    Ok(())
}

fn say_built(built: &Built) {
    println!(
        "{}@{} {:?}: {} ({} bytes)",
        built.name,
        built.version,
        built.kind,
        built.path.display(),
        built.size_bytes
    );
    println!("sha256 {}", built.digest);
}

/// Loads it and asks it what it is, within all limits.
fn check(settings: &Settings, path: &Path) -> Result<(), String> {
    let (host, path) = (load::host(settings)?, load::component_path(settings, &path.to_string_lossy())?);
    let found = plugin::inspect(&host, &path).map_err(|e| e.to_string())?;
    println!(
        "{}@{} is a {} component that loads here",
        found.metadata.name,
        found.metadata.version,
        found.world.name()
    );
    Ok(())
}

fn inspect(settings: &Settings, path: &Path) -> Result<(), String> {
    let (host, path) = (load::host(settings)?, load::component_path(settings, &path.to_string_lossy())?);
    let found = plugin::inspect(&host, &path).map_err(|e| e.to_string())?;
    println!(
        "plugin    {}@{}\nworld     {}",
        found.metadata.name,
        found.metadata.version,
        found.world.name()
    );
    println!("sha256    {}\nsize      {} bytes", found.digest, found.size_bytes);
    println!("imports   {}\nexports   {}", found.imports.join(", "), found.exports.join(", "));
    if let Some(spec) = &found.spec {
        print!("options\n{}", indented(&found.schema.describe()));
        println!("warm-up   {} bars", spec.warmup);
        print!("columns   {}\n{}", spec.names.len(), indented(&spec.names.join("\n")));
    }
    if let Some(size) = &found.graph {
        print!("hyper-parameters\n{}", indented(&found.schema.describe()));
        println!("graph     {} nodes, {} parameters (60 bars of 8 features)", size.nodes, size.parameters);
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

fn test(
    settings: &Settings,
    path: &Path,
    bars: Option<&Path>,
    rounds: usize,
    seed: u64,
) -> Result<(), String> {
    let (host, path) = (load::host(settings)?, load::component_path(settings, &path.to_string_lossy())?);
    for line in plugin::inspect::test(&host, &path, seed, rounds).map_err(|e| e.to_string())? {
        println!("ok  {line}");
    }
    let Some(file) = bars else { return Ok(()) };
    let component = host.load(&path).map_err(|e| e.to_string())?;
    let mut features = FeaturePlugin::new(&component, &Map::new()).map_err(|e| e.to_string())?;
    let symbol = Symbol::new("TEST").ok();
    let read =
        read_bars(file, &ReadOptions { symbol, ..ReadOptions::default() }).map_err(|e| e.to_string())?;
    let bars: Vec<Bar> = read.streams.into_iter().next().map(|s| s.1).ok_or("the file holds no bars")?;
    plugin::check_causality(&mut features, &bars, seed, rounds).map_err(|e| e.to_string())?;
    println!("ok  the same over {} bars of {}", bars.len(), file.display());
    Ok(())
}

fn bench(settings: &Settings, path: &Path) -> Result<(), String> {
    let path = load::component_path(settings, &path.to_string_lossy())?;
    let host = load::host(settings)?;
    let report = plugin::bench(&host, &path).map_err(|e| e.to_string())?;
    println!("{report}");
    Ok(())
}
