//! `alphaplus events`: the log of what was done with models and why.

use std::io::{self, Write};
use std::time::Duration;

use registry::Reference;

use crate::cli::EventsOf;
use crate::config::Settings;
use crate::events::{Events, Recorded};

/// Between two looks at the log.
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub fn run(settings: &Settings, args: &EventsOf) -> Result<(), String> {
    let model = args.model.as_deref().map(Reference::parse).transpose().map_err(|e| e.to_string())?;
    let name = model.map(|reference| reference.name);
    let fits = |one: &Recorded| {
        let of = one.event.model.split('/').next();
        name.as_deref().is_none_or(|name| of == Some(name))
            && args.kind.as_deref().is_none_or(|kind| kind == one.event.kind.name())
    };
    let events = Events::open(&settings.raw.models.events).map_err(|e| e.to_string())?;
    let mut found = events.read().map_err(|e| e.to_string())?;
    let mut next = found.last().map_or(0, |last| last.number + 1);
    found.retain(fits);
    let last = found.split_off(found.len().saturating_sub(args.last));
    if last.is_empty() && !args.json && !args.follow {
        let path = events.path().display();
        println!("no such event in {path}: retrainings, promotions and moves of aliases are written there");
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let mut show = |one: &Recorded| print(&mut out, one, args.json);
    let ended = |e: io::Error| match e.kind() {
        // Whoever read it has seen enough.
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(format!("the events can't be printed: {e}")),
    };
    for one in &last {
        if let Err(e) = show(one) {
            return ended(e);
        }
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK_EVERY);
        for one in &events.after(next).map_err(|e| e.to_string())? {
            next = one.number + 1;
            if fits(one)
                && let Err(e) = show(one)
            {
                return ended(e);
            }
        }
    }
}

fn print(out: &mut impl Write, one: &Recorded, as_json: bool) -> io::Result<()> {
    if as_json {
        writeln!(out, "{}", serde_json::to_string(one)?)?;
        return out.flush();
    }
    let Recorded { number, event } = one;
    let at = event.at.to_string();
    let seconds = at.get(..19).unwrap_or(&at);
    writeln!(
        out,
        "{number:>6}  {seconds}Z  {:<19}  {:<20}  {:<12}  {}",
        event.kind.name(),
        event.model,
        event.who,
        event.why
    )?;
    out.flush()
}
