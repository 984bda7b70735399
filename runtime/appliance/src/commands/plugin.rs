//! `alphaplus plugin new|build|check|test|bench|inspect`.

use std::path::{Path, PathBuf};

use market::read::{ReadOptions, read_bars};
use market::{Bar, Symbol};
use plugin::toolchain::{self, BuildOptions};
use plugin::{Component, FeaturePlugin, World};
use serde_json::Map;

use crate::cli::{Plugin, PluginKind};
use crate::config::Settings;
use crate::load;

pub fn run(settings: &Settings, command: &Plugin) -> Result<(), String> {
    match command {
        Plugin::New { kind, name } => new(*kind, name),
        Plugin::Build { folder, out } => build(settings, folder, out.as_deref()),
        Plugin::Check { component } => check(settings, component),
        Plugin::Test { component, bars, rounds, seed } => test(settings, component, bars.as_deref(), *rounds, *seed),
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
    println!("made {}; next:\n  cd {name}\n  cargo test\n  alphaplus plugin build\n  alphaplus plugin test {name}.wasm", folder.display());
    Ok(())
}

fn build(settings: &Settings, folder: &Path, out: Option<&Path>) -> Result<(), String> {
    let options = BuildOptions {
        cache: settings.raw.plugins.cache_folder.join("std"),
        keep_debug: false,
        may_install: false,
    };
    let out = out.unwrap_or(folder);
    let built = toolchain::build(folder, out, &options, &mut |line| eprintln!("{line}")).map_err(|e| e.to_string())?;
    println!("{}@{} {:?}: {} ({} bytes)", built.name, built.version, built.kind, built.path.display(), built.size_bytes);
    println!("sha256 {}", built.digest);
    Ok(())
}

fn loaded(settings: &Settings, name: &Path) -> Result<Component, String> {
    let text = name.to_string_lossy();
    let path = load::component_path(settings, &text)?;
    load::host(settings)?.load(&path).map_err(|e| e.to_string())
}

fn check(settings: &Settings, path: &Path) -> Result<(), String> {
    let component = loaded(settings, path)?;
    match component.world() {
        World::Features => {
            FeaturePlugin::new(&component, &Map::new()).map_err(|e| e.to_string())?;
        }
        World::Architecture => {
            plugin::Architecture::new(&component).map_err(|e| e.to_string())?;
        }
    }
    println!("{} is a {} component that loads here", component.id(), component.world().name());
    Ok(())
}

fn inspect(settings: &Settings, path: &Path) -> Result<(), String> {
    let c = loaded(settings, path)?;
    println!("plugin    {}\nworld     {}\nsha256    {}\nsize      {} bytes", c.id(), c.world().name(), c.digest(), c.size_bytes());
    println!("imports   {}\nexports   {}", c.imports().join(", "), c.exports().join(", "));
    match c.world() {
        World::Features => {
            let features = FeaturePlugin::new(&c, &Map::new()).map_err(|e| e.to_string())?;
            let spec = market::Features::spec(&features);
            print!("options\n{}", indented(&features.schema().describe()));
            println!("warm-up   {} bars", spec.warmup);
            println!("columns   {}\n{}", spec.names.len(), indented(&spec.names.join("\n")));
        }
        World::Architecture => {
            let architecture = plugin::Architecture::new(&c).map_err(|e| e.to_string())?;
            print!("hyper-parameters\n{}", indented(&architecture.schema().describe()));
        }
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

fn test(settings: &Settings, path: &Path, bars: Option<&Path>, rounds: usize, seed: u64) -> Result<(), String> {
    let component = loaded(settings, path)?;
    if component.world() == World::Architecture {
        let architecture = plugin::Architecture::new(&component).map_err(|e| e.to_string())?;
        for (window, features) in [(1, 1), (60, 32), (17, 5)] {
            let dimensions = plugin::Dimensions { window, features, outputs: 1 };
            let build = || architecture.build(&Map::new(), dimensions, &graph::Limits::default());
            let (one, two) = (build().map_err(|e| e.to_string())?, build().map_err(|e| e.to_string())?);
            if one != two {
                return Err(format!("{} builds different graphs from the same arguments", component.id()));
            }
            println!("window {window}, {features} features: {} nodes, the same twice", one.nodes.len());
        }
        return Ok(());
    }
    let mut features = FeaturePlugin::new(&component, &Map::new()).map_err(|e| e.to_string())?;
    let bars: Vec<Bar> = match bars {
        Some(file) => {
            let symbol = Symbol::new("TEST").ok();
            let read = read_bars(file, &ReadOptions { symbol, ..ReadOptions::default() }).map_err(|e| e.to_string())?;
            read.streams.into_iter().next().map(|s| s.1).ok_or("the file holds no bars")?
        }
        None => plugin::causality::synthetic_bars(seed, 2_000),
    };
    println!("{} over {} bars, {rounds} rounds", component.id(), bars.len());
    plugin::causality::check_causality(&mut features, &bars, seed, rounds).map_err(|e| e.to_string())?;
    println!("rows depend on no later bar; batches, replay and snapshots give the same bits");
    Ok(())
}

fn bench(settings: &Settings, path: &Path) -> Result<(), String> {
    let path = load::component_path(settings, &path.to_string_lossy())?;
    let host = load::host(settings)?;
    let report = plugin::bench::bench(&host, &path).map_err(|e| e.to_string())?;
    println!("{report}");
    Ok(())
}
