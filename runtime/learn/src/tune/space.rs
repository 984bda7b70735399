//! The space that is searched: each parameter's domain, and how a user narrows it.
//!
//! `low..high` (both inside), `low..high:log`, `a,b,c`, or one value, which fixes the parameter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::trial::{Parameter, Parameters};
use crate::random::Random;

/// Parameters in one space, and choices of one parameter.
pub const PARAMETERS_MAX: usize = 160;
pub const CHOICES_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Domain {
    /// Bounds are inside. `log`: the logarithm is drawn evenly.
    Number {
        low: f64,
        high: f64,
        log: bool,
    },
    Integer {
        low: i64,
        high: i64,
        log: bool,
    },
    /// Without an order.
    Choice {
        options: Vec<Parameter>,
    },
}

/// In the order of their names, which are the only ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Space {
    domains: std::collections::BTreeMap<String, Domain>,
}

impl Domain {
    pub fn fixed(value: Parameter) -> Domain {
        Domain::Choice { options: vec![value] }
    }

    pub fn contains(&self, value: &Parameter) -> bool {
        match (self, value) {
            (Domain::Number { low, high, .. }, Parameter::Number(x)) => (low..=high).contains(&x),
            (Domain::Number { low, high, .. }, Parameter::Integer(n)) => {
                (*low..=*high).contains(&(*n as f64))
            }
            (Domain::Integer { low, high, .. }, Parameter::Integer(n)) => (low..=high).contains(&n),
            (Domain::Choice { options }, value) => options.contains(value),
            (Domain::Number { .. } | Domain::Integer { .. }, _) => false,
        }
    }

    /// How many values there are; `None`: numbers.
    pub fn count(&self) -> Option<u64> {
        match self {
            Domain::Number { low, high, .. } => (low == high).then_some(1),
            Domain::Integer { low, high, .. } => Some(high.abs_diff(*low).saturating_add(1)),
            Domain::Choice { options } => Some(options.len() as u64),
        }
    }

    /// Evenly over the domain, or over its logarithm.
    pub fn draw(&self, random: &mut Random) -> Parameter {
        match self {
            Domain::Choice { options } => options[random.below(options.len())].clone(),
            Domain::Number { .. } | Domain::Integer { .. } => {
                let (low, high) = self.bounds();
                self.at(low + (high - low) * random.uniform())
            }
        }
    }

    /// The ends of a numeric domain on the axis that samplers work on: logarithms where `log`, and integers with half a
    /// step to either side.
    pub fn bounds(&self) -> (f64, f64) {
        let scale = |x: f64, log: bool| if log { x.ln() } else { x };
        match *self {
            Domain::Number { low, high, log } => (scale(low, log), scale(high, log)),
            Domain::Integer { low, high, log } => {
                (scale(low as f64 - 0.5, log), scale(high as f64 + 0.5, log))
            }
            Domain::Choice { .. } => (0.0, 0.0),
        }
    }

    /// The value at a place of that axis.
    pub fn at(&self, place: f64) -> Parameter {
        match *self {
            Domain::Number { low, high, log } => {
                let x = if log { place.exp() } else { place };
                Parameter::Number(x.clamp(low, high))
            }
            Domain::Integer { low, high, log } => {
                let x = if log { place.exp() } else { place };
                Parameter::Integer((x.round() as i64).clamp(low, high))
            }
            Domain::Choice { ref options } => options[0].clone(),
        }
    }

    /// The place of a value, and of an integer the ends of what is rounded to it.
    pub fn place(&self, value: &Parameter) -> Option<(f64, f64, f64)> {
        let x = value.as_f64()?;
        let scale = |x: f64, log: bool| if log { x.ln() } else { x };
        match *self {
            Domain::Number { log, .. } => {
                let place = scale(x, log);
                Some((place, place, place))
            }
            Domain::Integer { log, .. } => Some((scale(x, log), scale(x - 0.5, log), scale(x + 0.5, log))),
            Domain::Choice { .. } => None,
        }
    }

    /// This domain narrowed to what the text says: see the module's header.
    fn narrowed(&self, name: &str, text: &str) -> Result<Domain, SpaceError> {
        let bad = |reason: String| SpaceError { name: name.into(), reason };
        let Some((low, rest)) = text.split_once("..") else {
            let options = text.split(',').map(|one| self.parse(one.trim()).map_err(&bad));
            let options = options.collect::<Result<Vec<_>, _>>()?;
            let mut seen: Vec<&Parameter> = Vec::new();
            for option in &options {
                if seen.contains(&option) {
                    return Err(bad(format!("{option} stands there twice")));
                }
                seen.push(option);
            }
            if options.len() > CHOICES_MAX {
                return Err(bad(format!("{} choices are too many; at most {CHOICES_MAX} go", options.len())));
            }
            return Ok(Domain::Choice { options });
        };
        let (high, scale) = rest.split_once(':').unwrap_or((rest, ""));
        let (low, high) = (self.parse(low.trim()).map_err(&bad)?, self.parse(high.trim()).map_err(&bad)?);
        let log = match (scale, self) {
            ("log", _) => true,
            ("linear", _) => false,
            ("", Domain::Number { log, .. } | Domain::Integer { log, .. }) => *log,
            ("", Domain::Choice { .. }) => false,
            _ => return Err(bad(format!("'{scale}' is no scale; it must be log or linear"))),
        };
        let domain = match (low, high) {
            (Parameter::Integer(low), Parameter::Integer(high)) => Domain::Integer { low, high, log },
            (Parameter::Number(low), Parameter::Number(high)) => Domain::Number { low, high, log },
            _ => return Err(bad("it has choices, not a range: list them, as a,b".into())),
        };
        domain.check().map_err(bad)?;
        Ok(domain)
    }

    /// One value of this domain.
    fn parse(&self, text: &str) -> Result<Parameter, String> {
        let wrong = |reason: &str| format!("'{text}' is {reason}; it takes {self}");
        let value = match self {
            Domain::Number { .. } => text.parse().ok().filter(|x: &f64| x.is_finite()).map(Parameter::Number),
            Domain::Integer { .. } => text.parse().ok().map(Parameter::Integer),
            Domain::Choice { options } => options.iter().find(|o| o.to_string() == text).cloned(),
        };
        let value = value.ok_or_else(|| wrong("not a value of it"))?;
        if self.contains(&value) { Ok(value) } else { Err(wrong("outside of it")) }
    }

    fn check(&self) -> Result<(), String> {
        let (ordered, above_0, log) = match self {
            Domain::Number { low, high, log } => {
                (low.is_finite() && high.is_finite() && low <= high, *low > 0.0, *log)
            }
            Domain::Integer { low, high, log } => (low <= high, *low > 0, *log),
            Domain::Choice { options } => {
                let fits = (1..=CHOICES_MAX).contains(&options.len());
                return if fits { Ok(()) } else { Err(format!("1 to {CHOICES_MAX} choices go")) };
            }
        };
        match (ordered, log && !above_0) {
            (false, _) => Err("its low end must not be above its high end".into()),
            (true, true) => Err("a logarithmic scale needs a low end above 0".into()),
            (true, false) => Ok(()),
        }
    }
}

impl Space {
    /// Adds a parameter, or replaces its domain.
    pub fn set(&mut self, name: &str, domain: Domain) -> Result<(), SpaceError> {
        let bad = |reason: String| SpaceError { name: name.into(), reason };
        domain.check().map_err(bad)?;
        if self.domains.len() >= PARAMETERS_MAX && !self.domains.contains_key(name) {
            return Err(bad(format!("at most {PARAMETERS_MAX} parameters go")));
        }
        self.domains.insert(name.into(), domain);
        Ok(())
    }

    /// Narrows one parameter: "hidden=16..128:log".
    pub fn narrow(&mut self, text: &str) -> Result<(), SpaceError> {
        let (name, domain) = text.split_once('=').unwrap_or((text, ""));
        let (name, domain) = (name.trim(), domain.trim());
        let Some(whole) = self.domains.get(name) else {
            let known: Vec<&str> = self.domains.keys().map(String::as_str).collect();
            let reason = format!("there is no such parameter; there are {}", known.join(", "));
            return Err(SpaceError { name: name.into(), reason });
        };
        let narrowed = whole.narrowed(name, domain)?;
        self.domains.insert(name.into(), narrowed);
        Ok(())
    }

    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Domain)> {
        self.domains.iter().map(|(name, domain)| (name.as_str(), domain))
    }

    /// How many settings there are; `None` where a parameter is a number.
    pub fn count(&self) -> Option<u64> {
        self.domains.values().try_fold(1u64, |product, domain| Some(product.saturating_mul(domain.count()?)))
    }

    pub fn draw(&self, random: &mut Random) -> Parameters {
        self.iter().map(|(name, domain)| (name.to_string(), domain.draw(random))).collect()
    }

    /// Whether these are values of all parameters and of no others.
    pub fn contains(&self, parameters: &Parameters) -> bool {
        parameters.len() == self.domains.len()
            && parameters.iter().all(|(name, value)| self.domain(name).is_some_and(|d| d.contains(value)))
    }

    /// A space from elsewhere, such as a journal.
    pub fn check(&self) -> Result<(), SpaceError> {
        self.iter().try_for_each(|(name, domain)| {
            domain.check().map_err(|reason| SpaceError { name: name.into(), reason })
        })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = |log: bool| if log { ", on a logarithmic scale" } else { "" };
        match self {
            Domain::Number { low, high, log } => write!(f, "numbers from {low} to {high}{}", scale(*log)),
            Domain::Integer { low, high, log } => {
                write!(f, "whole numbers from {low} to {high}{}", scale(*log))
            }
            Domain::Choice { options } => {
                let options: Vec<String> = options.iter().map(Parameter::to_string).collect();
                let one_of = if options.len() == 1 { "" } else { "one of " };
                write!(f, "{one_of}{}", options.join(", "))
            }
        }
    }
}

/// A parameter whose domain can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceError {
    pub name: String,
    pub reason: String,
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the space of {}: {}", self.name, self.reason)
    }
}

impl std::error::Error for SpaceError {}
