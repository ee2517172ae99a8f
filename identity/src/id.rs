use rand::RngExt as _;

/// Length of an identifier in characters.
pub const ID_LEN: usize = 25;

/// A new random identifier: 25 characters of base 36 with 124 bits of randomness.
///
/// The alphabet (`0-9a-z`) and length are those of upstream's `identity.NewID`, so that ids of both
/// look alike in logs and file names; the first character is never special in a path or a flag.
pub fn new_id() -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    (0..ID_LEN).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_shape_and_differ() {
        let a = new_id();
        assert_eq!(a.len(), ID_LEN);
        assert!(a.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()));
        assert_ne!(a, new_id());
    }
}
