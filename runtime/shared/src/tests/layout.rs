use std::collections::HashMap;

use crate::layout;

/// The numbers of Rust and C are compared when the crate is compiled; Python's here.
#[test]
fn python_has_the_numbers_of_c() {
    let c: HashMap<&str, &str> = include_str!("../../include/alphaplus.h")
        .lines()
        .filter_map(|l| l.strip_prefix("#define ALPHAPLUS_")?.split_once(' '))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap().trim_end_matches('u')))
        .collect();
    let python: Vec<(&str, &str)> = include_str!("../../python/alphaplus_shared.py")
        .lines()
        .filter_map(|l| l.split_once(" = "))
        .filter(|(name, value)| {
            name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && value.parse::<u64>().is_ok()
        })
        .filter(|(name, _)| *name != "ATTEMPTS")
        .collect();
    assert!(python.len() > 20, "{python:?}");
    for (name, value) in python {
        assert_eq!(c.get(name), Some(&value), "{name}");
    }
    assert_eq!(c["AT_DURABLE_SEQ_THEN"], layout::slot::DURABLE_SEQ.to_string());
}
