//! The machine: its processor, the cores to measure on, and what the report says of both.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// "0-3,8" as numbers.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, until) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse().ok()?..=until.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The cores that this process may use, one for each physical core; the last ones first, since interrupts
/// usually go to the first.
pub fn cores() -> Vec<usize> {
    // As they were before anything was pinned.
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(find_cores).clone()
}

fn find_cores() -> Vec<usize> {
    let allowed = list(&field("/proc/self/status", "Cpus_allowed_list").unwrap_or_default());
    let first_of_siblings = |core: &usize| {
        let file = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(file).map(|t| list(t.trim())).unwrap_or_default();
        siblings.iter().filter(|s| allowed.contains(s)).min().is_none_or(|first| first == core)
    };
    allowed.iter().copied().filter(first_of_siblings).rev().collect()
}

fn says(program: &str, args: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(folder).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// What the report says of it.
pub fn describe() -> Value {
    let detected = cpu::Cpu::detected();
    let memory = field("/proc/meminfo", "MemTotal").and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": detected.cores,
        "isa": detected.isa.name(),
        "cpu_features": detected.features,
        "memory_bytes": memory.map(|kib| kib * 1024),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|t| t.trim().to_string()),
    })
}

/// The revision of the sources, and whether they differ from it.
pub fn revision(root: &Path) -> (Option<String>, bool) {
    let changed = says("git", &["status", "--porcelain"], root).is_some_and(|s| !s.is_empty());
    (says("git", &["rev-parse", "HEAD"], root), changed)
}

/// Processor time that a process has used, all its threads together.
pub fn used_ns(process: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let used = |task: fs::DirEntry| -> Option<u64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Some(tasks.filter_map(|task| used(task.ok()?)).sum())
}

/// Processor time that everything on this machine has used: clock ticks of 10 ms.
pub fn busy_ns() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).map_while(|t| t.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = ticks.get(..3)?.iter().chain(ticks.get(5..8)?);
    Some(busy.sum::<u64>() * 10_000_000)
}

/// The most memory that a process has had resident.
pub fn peak_bytes(process: u32) -> Option<u64> {
    let text = field(&format!("/proc/{process}/status"), "VmHWM")?;
    text.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        assert_eq!(list("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(list("3"), [3]);
        assert!(list("").is_empty());
    }
}
