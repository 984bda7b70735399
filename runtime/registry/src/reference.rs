//! How a model is named: `models:/btc@champion`, `models:/btc/7`, `models:/btc`, and the same without `models:/`.

use std::fmt;

use crate::folder::Version;
use crate::name::{is_model_name, parse_version};

const SCHEME: &str = "models:/";

/// Which version of a model is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The highest number.
    Latest,
    Number(u32),
    /// Where this alias points at the time.
    Alias(String),
}

/// A model's name and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    pub which: Which,
}

impl Reference {
    /// Reads `name`, `name/7`, `name/latest` or `name@alias`, each with or without `models:/` before it.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        let refused = |reason| ReferenceError { text: text.chars().take(160).collect(), reason };
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if !is_model_name(name) {
            return Err(refused(Reason::Name));
        }
        let which = match (rest.strip_prefix('@'), rest.strip_prefix('/')) {
            (Some(alias), _) if is_alias_name(alias) => Which::Alias(alias.into()),
            (Some(_), _) => return Err(refused(Reason::Alias)),
            (_, Some("latest")) => Which::Latest,
            (_, Some(text)) if text.contains('@') => return Err(refused(Reason::Both)),
            (_, Some(text)) => match parse_version(text) {
                Some(number) => Which::Number(number),
                None => return Err(refused(Reason::Version)),
            },
            (None, None) => Which::Latest,
        };
        Ok(Reference { name: name.into(), which })
    }
}

impl From<Version> for Which {
    fn from(version: Version) -> Which {
        match version {
            Version::Latest => Which::Latest,
            Version::Number(number) => Which::Number(number),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Latest => write!(f, "{SCHEME}{}", self.name),
            Which::Number(number) => write!(f, "{SCHEME}{}/{number}", self.name),
            Which::Alias(alias) => write!(f, "{SCHEME}{}@{alias}", self.name),
        }
    }
}

/// An alias is called as a model is; `latest` is none, since it always means the highest number.
pub fn is_alias_name(name: &str) -> bool {
    is_model_name(name) && name != "latest"
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Name,
    Version,
    Alias,
    Both,
}

/// The text names no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceError {
    pub text: String,
    pub reason: Reason,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            Reason::Name => "the name must be 1 to 64 of a-z 0-9 _ -, starting with a letter or digit",
            Reason::Version => "the version must be a number from 1, or latest",
            Reason::Alias => {
                "the alias must be 1 to 64 of a-z 0-9 _ -, starting with a letter or digit, and not latest"
            }
            Reason::Both => "give a version or an alias, not both",
        };
        let text = &self.text;
        write!(
            f,
            "{text:?} names no model: {why}; write models:/name, models:/name/7 or models:/name@champion"
        )
    }
}

impl std::error::Error for ReferenceError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, which: Which) {
        let expected = Reference { name: name.into(), which };
        for text in [text.to_string(), format!("models:/{text}")] {
            let found = Reference::parse(&text).unwrap();
            assert_eq!(found, expected, "{text}");
            assert_eq!(Reference::parse(&found.to_string()), Ok(found));
        }
    }

    #[test]
    fn every_form_is_read() {
        check("btc-vol", "btc-vol", Which::Latest);
        check("btc-vol/latest", "btc-vol", Which::Latest);
        check("btc-vol/7", "btc-vol", Which::Number(7));
        check("btc-vol@champion", "btc-vol", Which::Alias("champion".into()));
        check("btc-vol@7", "btc-vol", Which::Alias("7".into()));
    }

    #[test]
    fn what_names_nothing_says_why() {
        let cases = [
            ("", Reason::Name),
            ("models:/", Reason::Name),
            ("models://btc", Reason::Name),
            ("runs:/btc", Reason::Name),
            ("../btc", Reason::Name),
            ("btc/0", Reason::Version),
            ("btc/07", Reason::Version),
            ("btc/7/8", Reason::Version),
            ("btc/../x", Reason::Version),
            ("btc@", Reason::Alias),
            ("btc@latest", Reason::Alias),
            ("btc@a@b", Reason::Alias),
            ("btc@Champion", Reason::Alias),
            ("btc/7@champion", Reason::Both),
            ("Btc@champion", Reason::Name),
        ];
        for (text, reason) in cases {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            assert!(error.to_string().contains("models:/name@champion"), "{error}");
        }
    }
}
