use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::{Error, TokenSeed};

/// Bytes of a salt, of a public key and of a payload to sign.
pub(crate) const LENGTH: usize = 32;
/// Bytes of a signature, which stands before what it signs.
const SIGNATURE: usize = 64;

/// Random bytes of one daemon, made when it starts, so that keys mean nothing elsewhere or later.
#[derive(Clone)]
pub struct Salt([u8; LENGTH]);

impl Salt {
    /// A new salt.
    ///
    /// # Panics
    /// When the system has no random numbers, without which no connection is safe either.
    pub fn random() -> Self {
        Self(random())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

pub(crate) fn random() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// Public half of the key that stands for a user at a registry towards one daemon.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// A key of 32 bytes.
    ///
    /// # Errors
    /// When it has another length.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::KeyLength(bytes.len()))
    }

    /// The key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `signed` is a signature by this key followed by `payload` (the form of NaCl's `sign`).
    pub fn verify(&self, signed: &[u8], payload: &[u8]) -> bool {
        let Some((signature, message)) = signed.split_at_checked(SIGNATURE) else { return false };
        // Both are known to whoever asks: there is no secret to be told by the time this takes.
        message == payload && UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&hex::encode(self.0)).finish()
    }
}

/// The key that stands for a user at a registry towards one daemon.
pub struct AuthorityKey(Ed25519KeyPair);

impl AuthorityKey {
    /// The key that a daemon's salt and a client's seed make: HMAC-SHA256 with the salt as key is the
    /// private half of an Ed25519 key.
    ///
    /// The seed keeps daemons from choosing what is signed with a key that others know.
    pub fn derive(salt: &[u8], seed: &TokenSeed) -> Self {
        let private = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), &seed.0);
        let pair = Ed25519KeyPair::from_seed_unchecked(private.as_ref());
        Self(pair.expect("any 32 bytes are a private key"))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public_key().as_ref()).expect("public keys have 32 bytes")
    }

    /// A signature followed by the payload.
    pub fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let mut signed = self.0.sign(payload).as_ref().to_vec();
        signed.extend_from_slice(payload);
        signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032 (7.1), in the form of NaCl's `sign` as Go has it.
    #[test]
    fn signatures_of_the_standard() {
        let public =
            hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").expect("hex");
        let signed = hex::decode(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        )
        .expect("hex");
        let public = PublicKey::new(&public).expect("a key");
        assert!(public.verify(&signed, b""));
        assert!(!public.verify(&signed, b"x") && !public.verify(&signed[1..], b""));
        assert!(matches!(PublicKey::new(&[0; 31]), Err(Error::KeyLength(31))));
    }

    /// Made with Go's `crypto/hmac` and `crypto/ed25519` as upstream puts them together.
    #[test]
    fn keys_of_go_clients() {
        let salt: Vec<u8> = (0..32).collect();
        let payload = b"payload of the daemon";
        for (seed, public, signature) in [
            (
                &b"0123456789abcdef"[..],
                "e8fc5aa623ea69e8e91f30d0d1c6ae53c1d4b87660865a2108bb4879071d2603",
                "3d3d1a6b7d63cc1fe8793e19b958579cd426eb3cff27d748f3c20bf178aeb57e\
                 b51d9d67f1cbfefabe156c830f0ed3ec3c8d88e06defa1b12d799c9cc31bf309",
            ),
            (
                b"",
                "040621616cad1cec87d58de663a3da915dc2bf8afbd0bd361931d2c207644cc4",
                "c5fcf01e7aa918e0f51a20c01904904ea2230321cfc02d07b9d450157ce5e9ba\
                 95ad871ef8815b1e203da7ce29ab2b8174fd6141014a2599abb71699dd90ef04",
            ),
        ] {
            let key = AuthorityKey::derive(&salt, &TokenSeed(seed.to_vec()));
            assert_eq!(hex::encode(key.public().as_bytes()), public);
            let signed = [hex::decode(signature).expect("hex"), payload.to_vec()].concat();
            assert_eq!(key.sign(payload), signed);
            assert!(key.public().verify(&signed, payload));
        }
    }

    #[test]
    fn only_the_same_salt_and_seed_make_the_same_key() {
        let seed = |bytes: &[u8]| TokenSeed(bytes.to_vec());
        let key = AuthorityKey::derive(&[7; 32], &seed(b"seed"));
        assert_eq!(key.public(), AuthorityKey::derive(&[7; 32], &seed(b"seed")).public());
        let signed = key.sign(b"payload");
        assert!(key.public().verify(&signed, b"payload"));
        for (salt, other) in [([8; 32], seed(b"seed")), ([7; 32], seed(b"tree")), ([7; 32], seed(b""))] {
            let other = AuthorityKey::derive(&salt, &other);
            assert_ne!(key.public(), other.public());
            assert!(!key.public().verify(&other.sign(b"payload"), b"payload"));
        }
        // A good signature of something else.
        assert!(!key.public().verify(&key.sign(b"other"), b"payload"));
    }
}
