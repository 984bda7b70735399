//! SHA-256 in lower-case hex: of files, of feature names, of streams of bytes.

use sha2::{Digest, Sha256};

/// SHA-256 over bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Self {
        Hasher::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 lower-case hex digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The SHA-256 of the bytes as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The fingerprint of a feature schema: SHA-256 of the names, each followed by a line feed.
pub fn names_fingerprint<S: AsRef<str>>(names: &[S]) -> String {
    let mut hasher = Hasher::new();
    for name in names {
        hasher.update(name.as_ref().as_bytes());
        hasher.update(b"\n");
    }
    hasher.finish()
}

/// Whether the text is 64 lower-case hex digits.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|n| char::from(b"0123456789abcdef"[usize::from(n)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_the_published_vectors() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), abc);
        let mut pieces = Hasher::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), abc);
        assert!(is_digest(abc));
        assert!(!is_digest(&abc.to_uppercase()));
        assert!(!is_digest(&abc[1..]));
    }

    #[test]
    fn fingerprint_tells_names_and_order_apart() {
        assert_eq!(names_fingerprint(&["a", "b"]), sha256_hex(b"a\nb\n"));
        assert_ne!(names_fingerprint(&["a", "b"]), names_fingerprint(&["b", "a"]));
        assert_ne!(names_fingerprint(&["ab"]), names_fingerprint(&["a", "b"]));
    }
}
