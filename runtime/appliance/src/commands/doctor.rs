//! `alphaplus doctor`: what this machine can do, and what is missing.

use std::path::Path;

use registry::Manifest;

use crate::config::Settings;
use crate::deployment::UNCALIBRATED;
use crate::load;

pub fn run(settings: &Settings) -> Result<(), String> {
    println!(
        "alphaplus {} on {} ({})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    cpu();
    gpu();
    println!("database      not part of this version: predictions stay in the spool");
    disk(settings);
    plugins(settings);
    toolchain(settings);
    models(settings);
    Ok(())
}

fn cpu() {
    println!("cpu           {}", cpu::Cpu::detected());
}

/// This version has no GPU executor; what the driver's files say is shown all the same.
fn gpu() {
    let places = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/lib/wsl/lib",
        "/usr/local/nvidia/lib64",
        "/usr/lib/aarch64-linux-gnu",
    ];
    let driver = places.iter().map(|p| Path::new(p).join("libcuda.so.1")).find(|p| p.exists());
    let device = Path::new("/dev/nvidia0").exists();
    let seen = match (driver, device) {
        (Some(path), true) => format!("a driver ({}) and a device are here", path.display()),
        (Some(path), false) => format!("a driver ({}) is here but no device", path.display()),
        (None, true) => "a device is here but no driver (libcuda.so.1)".into(),
        (None, false) => "no driver (libcuda.so.1) and no device (/dev/nvidia0)".into(),
    };
    println!("gpu           not used: this version has no GPU executor; {seen}");
}

fn disk(settings: &Settings) {
    let folder = &settings.raw.store.folder;
    let measured = std::fs::create_dir_all(folder).and_then(|()| store::disk_sync_time(folder));
    match measured {
        Ok(t) => println!(
            "spool         {}: a sync takes {:.2} ms (from {:.2} to {:.2}, {} measured)",
            folder.display(),
            t.median.as_secs_f64() * 1e3,
            t.shortest.as_secs_f64() * 1e3,
            t.longest.as_secs_f64() * 1e3,
            t.count
        ),
        Err(e) => {
            println!("spool         {}: can't be written: {e}; choose another store.folder", folder.display())
        }
    }
}

fn plugins(settings: &Settings) {
    let cache = &settings.raw.plugins.cache_folder;
    let host = match load::host(settings) {
        Ok(host) => host,
        Err(e) => {
            println!("plugins       {e}");
            return;
        }
    };
    let cached = std::fs::read_dir(cache).map_or(0, Iterator::count);
    println!("plugin cache  {} ({cached} files)", cache.display());
    for path in load::component_files(settings) {
        match host.load(&path) {
            Ok(c) => println!(
                "plugin        {} {} ({}, {} bytes)",
                c.id(),
                c.world().name(),
                path.display(),
                c.size_bytes()
            ),
            Err(e) => println!("plugin        {}: {e}", path.display()),
        }
    }
}

fn toolchain(settings: &Settings) {
    let doctor = plugin::toolchain::doctor(Path::new("."), &settings.raw.plugins.cache_folder);
    for candidate in &doctor.candidates {
        let mark = if candidate.ready { "ready" } else { "missing" };
        println!("plugin build  {} {mark}: {}", candidate.route, candidate.detail);
        if let Some(fix) = candidate.fix.as_ref().filter(|_| doctor.chosen().is_none()) {
            println!("              to mend it: {fix}");
        }
    }
}

fn models(settings: &Settings) {
    let registry = match registry::Registry::open(&settings.raw.models.folder) {
        Ok(r) => r,
        Err(e) => {
            println!("models        {e}");
            return;
        }
    };
    match registry.list() {
        Ok(listing) => {
            let count: usize = listing.models.iter().map(|m| m.versions.len()).sum();
            println!("models        {count} in {}", settings.raw.models.folder.display());
        }
        Err(e) => println!("models        {e}"),
    }
    let rows = settings.deployments.iter().enumerate();
    for (reference, _) in rows.flat_map(|(row, wanted)| wanted.seats(row)) {
        match registry.load_reference(&reference) {
            Ok(folder) => println!("{}", deployed(&reference.to_string(), &folder.manifest)),
            Err(e) => println!("deployed      {reference}: {e}"),
        }
    }
}

/// What a deployed model's replies have.
fn deployed(reference: &str, manifest: &Manifest) -> String {
    let uncertainty = match &manifest.calibration {
        Some(c) => format!("with a confidence and an interval of {} %", c.level * 100.0),
        None => format!("not calibrated: {UNCALIBRATED}"),
    };
    format!("deployed      {reference} is {}/{}, {uncertainty}", manifest.name, manifest.version)
}
