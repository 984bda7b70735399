//! As much JSON as options need: one flat object of scalars.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Number(f64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Boolean(x) => write!(f, "{x}"),
            Value::Number(x) => write!(f, "{x}"),
            Value::Text(x) => f.write_str(&quote(x)),
        }
    }
}

/// A JSON string literal.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads one object whose values are strings, numbers, booleans or null; keys are unique.
pub(crate) fn parse_object(text: &str) -> Result<Vec<(String, Value)>, String> {
    let mut parser = Parser { text, rest: text.char_indices().peekable() };
    let mut values: Vec<(String, Value)> = Vec::new();
    parser.expect('{')?;
    if parser.peek() == Some('}') {
        parser.expect('}')?;
    } else {
        loop {
            let key = parser.string()?;
            parser.expect(':')?;
            let value = parser.value()?;
            if values.iter().any(|(other, _)| *other == key) {
                return Err(format!("option {key} is given twice"));
            }
            values.push((key, value));
            if parser.peek() != Some(',') {
                break;
            }
            parser.expect(',')?;
        }
        parser.expect('}')?;
    }
    match parser.peek() {
        None => Ok(values),
        Some(_) => Err(parser.error("nothing more")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    /// The next character that isn't white space.
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|(_, c)| matches!(c, ' ' | '\t' | '\n' | '\r')).is_some() {}
        self.rest.peek().map(|&(_, c)| c)
    }

    fn error(&mut self, wanted: &str) -> String {
        match self.rest.peek() {
            Some((at, c)) => {
                format!("options are not a flat JSON object: {wanted} belongs at byte {at}, not {c:?}")
            }
            None => format!("options are not a flat JSON object: {wanted} belongs at their end"),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.peek() != Some(wanted) {
            return Err(self.error(&format!("{wanted:?}")));
        }
        self.rest.next();
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.peek() {
            Some('"') => self.string().map(Value::Text),
            Some('t' | 'f' | 'n' | '-' | '0'..='9') => self.word(),
            _ => Err(self.error("a string, number, boolean or null")),
        }
    }

    fn word(&mut self) -> Result<Value, String> {
        let start = self.rest.peek().map_or(self.text.len(), |&(at, _)| at);
        while self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')).is_some()
        {
        }
        let end = self.rest.peek().map_or(self.text.len(), |&(at, _)| at);
        match &self.text[start..end] {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            "null" => Ok(Value::Null),
            // Rust also reads "nan" and "inf", which JSON has not.
            word if word.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
                match word.parse::<f64>() {
                    Ok(x) if x.is_finite() => Ok(Value::Number(x)),
                    _ => Err(format!("options hold {word}, which is not a finite number")),
                }
            }
            word => Err(format!("options hold {word}, which is not JSON")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut string = String::new();
        loop {
            match self.rest.next() {
                Some((_, '"')) => return Ok(string),
                Some((_, '\\')) => string.push(self.escape()?),
                Some((_, c)) if c >= ' ' => string.push(c),
                _ => return Err(self.error("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        match self.rest.next().map(|(_, c)| c) {
            Some(c @ ('"' | '\\' | '/')) => Ok(c),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => {
                let high = self.unit()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).ok_or_else(|| self.error("half a character"));
                }
                let follows = self.rest.next().map(|(_, c)| c) == Some('\\')
                    && self.rest.next().map(|(_, c)| c) == Some('u');
                let low = if follows { self.unit()? } else { 0 };
                let pair = (0xdc00..0xe000)
                    .contains(&low)
                    .then(|| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                pair.and_then(char::from_u32).ok_or_else(|| self.error("the other half of a character"))
            }
            _ => Err(self.error("an escape")),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, String> {
        (0..4).try_fold(0, |unit, _| match self.rest.next().and_then(|(_, c)| c.to_digit(16)) {
            Some(digit) => Ok(unit * 16 + digit),
            None => Err(self.error("four hexadecimal digits")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_and_escapes() {
        let text = "{ \"a\\u00e9\\n\" : \"\\ud83d\\ude00\\\"\" ,\n\"b\":-1.5e2,\"c\":null,\"d\":false}";
        let expect = [
            ("aé\n".to_owned(), Value::Text("😀\"".to_owned())),
            ("b".to_owned(), Value::Number(-150.0)),
            ("c".to_owned(), Value::Null),
            ("d".to_owned(), Value::Boolean(false)),
        ];
        assert_eq!(parse_object(text).unwrap(), expect);
        assert_eq!(parse_object(" {} ").unwrap(), []);
    }

    #[test]
    fn what_is_quoted_reads_back() {
        let text = "tab\t \"quote\" back\\slash é 😀 \u{1}";
        let object = format!("{{{}:1}}", quote(text));
        assert_eq!(parse_object(&object).unwrap()[0].0, text);
    }

    #[test]
    fn anything_else_is_an_error() {
        let bad = [
            "",
            "{",
            "[]",
            "1",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}x",
            "{\"a\":{}}",
            "{\"a\":[1]}",
            "{a:1}",
            "{\"a\":nan}",
            "{\"a\":1e999}",
            "{\"a\":--1}",
            "{\"a\":tru}",
            "{\"a\":\"",
            "{\"a\":\"\\q\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\ud800x\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":\"\n\"}",
            "{\"a\":infinity}",
        ];
        for text in bad {
            assert!(parse_object(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_object("{\"a\":[1]}").unwrap_err(),
            "options are not a flat JSON object: a string, number, boolean or null belongs at byte 5, not '['"
        );
    }
}
