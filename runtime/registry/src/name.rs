//! What a model and a file in its folder may be called, so that no name can leave the folder.

/// 1 to 64 of `a–z 0–9 _ -`, starting with a letter or a digit.
pub fn is_model_name(name: &str) -> bool {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    fits && !name.starts_with(['_', '-'])
}

/// 1 to 64 of `A–Z a–z 0–9 _ - .`, not starting with a dot, and not the manifest itself.
pub fn is_file_name(name: &str) -> bool {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    fits && !name.starts_with('.') && name != crate::folder::MANIFEST_FILE
}

/// "7" as 7: a positive decimal number without sign or leading zeros.
pub fn parse_version(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        for good in ["lstm", "btc-1h_lstm", "7x", &"a".repeat(64)] {
            assert!(is_model_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            "a\\b",
            "A",
            "a b",
            "-x",
            "_x",
            "ä",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(!is_model_name(bad), "{bad:?}");
        }
        for bad in ["", ".hidden", "..", "a/b", "manifest.toml"] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
        assert!(is_file_name("model.onnx"));
    }

    #[test]
    fn versions_are_plain_numbers() {
        assert_eq!(parse_version("7"), Some(7));
        for bad in ["", "0", "07", "+7", "-1", "7 ", "1e3", "99999999999"] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }
}
