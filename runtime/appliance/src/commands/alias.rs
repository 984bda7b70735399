//! `alphaplus models alias|rollback|history`: where a model's aliases point, and how they came there.

use market::Timestamp;
use registry::{Change, ChangeKind, Reference, Registry, Which};
use serde_json::json;

use crate::cli;
use crate::config::Settings;
use crate::events::{Event, Events};

/// "at" of the history, and what else is written down of a change.
fn author<'a>(at: &'a str, author: &'a cli::Author) -> registry::Author<'a> {
    registry::Author { at, who: &author.who, why: &author.why }
}

pub fn set(settings: &Settings, registry: &Registry, args: &cli::Alias) -> Result<(), String> {
    let now = Timestamp::now().to_string();
    let by = author(&now, &args.author);
    let (name, alias) = (args.name.as_str(), args.alias.as_str());
    let moved = match &args.to {
        None => registry.remove_alias(name, alias, by),
        Some(to) => {
            let number = version(registry, name, to)?;
            registry.set_alias(name, alias, number, by)
        }
    };
    match moved.map_err(|e| e.to_string())? {
        Some(change) => tell(settings, name, &change),
        None => println!("{name}@{alias} is there already: nothing was written"),
    }
    Ok(())
}

/// "7", "latest" or "@challenger", of the model.
fn version(registry: &Registry, name: &str, to: &str) -> Result<u32, String> {
    let text = if to.starts_with('@') { format!("{name}{to}") } else { format!("{name}/{to}") };
    let reference = Reference::parse(&text).map_err(|e| e.to_string())?;
    if let Which::Number(number) = reference.which {
        return Ok(number);
    }
    registry.load_reference(&reference).map(|folder| folder.manifest.version).map_err(|e| e.to_string())
}

pub fn roll_back(settings: &Settings, registry: &Registry, args: &cli::Rollback) -> Result<(), String> {
    let now = Timestamp::now().to_string();
    let change =
        registry.roll_back(&args.name, &args.alias, author(&now, &args.author)).map_err(|e| e.to_string())?;
    tell(settings, &args.name, &change);
    Ok(())
}

fn tell(settings: &Settings, name: &str, change: &Change) {
    println!("{name}@{} {}", change.alias, moves(change));
    println!("a running appliance that deploys it follows within models.check_ms; see GET /v1/deployments");
    // It is in the alias's own history already.
    if let Err(e) = note(settings, name, change) {
        eprintln!("{e}");
    }
}

/// Writes a move of an alias into the event log.
fn note(settings: &Settings, name: &str, change: &Change) -> Result<(), String> {
    let events = Events::open(&settings.raw.models.events).map_err(|e| e.to_string())?;
    events.append(&Event::of_change(name, change)).map(|_| ()).map_err(|e| e.to_string())
}

/// "1 → 2".
fn moves(change: &Change) -> String {
    let shown = |version: Option<u32>| version.map_or("–".to_string(), |n| n.to_string());
    format!("{} → {}", shown(change.from), shown(change.to))
}

pub fn history(registry: &Registry, name: &str, alias: Option<&str>, as_json: bool) -> Result<(), String> {
    let reference = Reference { name: name.into(), which: Which::Latest };
    registry.load_reference(&reference).map_err(|e| e.to_string())?;
    let history = registry.history(name).map_err(|e| e.to_string())?;
    let changes: Vec<&Change> =
        history.changes.iter().filter(|c| alias.is_none_or(|a| a == c.alias)).collect();
    if as_json {
        println!("{}", json!({ "name": name, "changes": changes }));
        return Ok(());
    }
    if changes.is_empty() {
        println!("no alias of {name} was moved yet: see 'alphaplus models alias --help'");
        return Ok(());
    }
    println!("{:<32} {:<16} {:<9} {:<12} {:<16} why", "WHEN", "ALIAS", "MOVE", "", "WHO");
    for change in changes {
        let kind = match change.kind {
            ChangeKind::Set => "set",
            ChangeKind::Rollback => "rollback",
            ChangeKind::Remove => "remove",
        };
        let Change { at, alias, who, why, .. } = change;
        println!("{at:<32} {alias:<16} {kind:<9} {:<12} {who:<16} {why}", moves(change));
    }
    for (alias, version) in history.aliases() {
        println!("{name}@{alias} is {version}");
    }
    Ok(())
}
