//! Private keys from files, as `ssh-keygen` and others write them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaKeyPair,
};
use num_bigint::BigUint;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::openssh::{self, Numbers};
use crate::wire;

/// Flags of a request for a signature: the hash that goes with an RSA key.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// Why a file gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(
        "this private key is passphrase protected: add it to an agent with `ssh-add` and name the agent's socket"
    )]
    Encrypted,
    #[error("keys of this type are not supported")]
    Unsupported,
    #[error("not a private key")]
    Invalid,
}

/// A private key that can sign.
pub(crate) struct Key {
    /// The public key in SSH's form, by which requests name the key.
    pub(crate) blob: Vec<u8>,
    pub(crate) comment: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Box<Ed25519KeyPair>),
    Ecdsa(&'static Curve, Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A curve of ECDSA keys.
struct Curve {
    /// What SSH calls it (RFC 5656, section 10.1).
    name: &'static str,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// Bytes of a number on it.
    width: usize,
}

static P256: Curve = Curve { name: "nistp256", algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING, width: 32 };
static P384: Curve = Curve { name: "nistp384", algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING, width: 48 };
static P521: Curve = Curve { name: "nistp521", algorithm: &ECDSA_P521_SHA512_FIXED_SIGNING, width: 66 };

impl Curve {
    fn key_type(&self) -> String {
        format!("ecdsa-sha2-{}", self.name)
    }
}

impl Key {
    /// The key of a file: OpenSSH's form, or PKCS #1, SEC 1 or PKCS #8 as PEM.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeyError> {
        if contains(text, b"BEGIN OPENSSH PRIVATE KEY") {
            return Self::openssh(text);
        }
        // `Proc-Type: 4,ENCRYPTED` of old keys, and the label of new ones.
        if contains(text, b"ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        if contains(text, b"BEGIN DSA PRIVATE KEY") {
            return Err(KeyError::Unsupported);
        }
        let pair = match PrivateKeyDer::from_pem_slice(text).map_err(|_| KeyError::Invalid)? {
            PrivateKeyDer::Pkcs1(der) => {
                Pair::rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|_| KeyError::Invalid)?)
            }
            PrivateKeyDer::Sec1(der) => Pair::sec1(der.secret_sec1_der()).ok_or(KeyError::Unsupported)?,
            PrivateKeyDer::Pkcs8(der) => Pair::pkcs8(der.secret_pkcs8_der()).ok_or(KeyError::Unsupported)?,
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self { blob: pair.blob(), comment: String::new(), pair })
    }

    fn openssh(text: &[u8]) -> Result<Self, KeyError> {
        let file = openssh::parse(text)?;
        let pair = match file.numbers {
            Numbers::Ed25519 { seed, public } => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public);
                Pair::Ed25519(Box::new(pair.map_err(|_| KeyError::Invalid)?))
            }
            Numbers::Ecdsa { curve, public, scalar } => {
                let curve = [&P256, &P384, &P521].into_iter().find(|known| known.name == curve);
                let curve = curve.ok_or(KeyError::Unsupported)?;
                let missing = curve.width.checked_sub(scalar.len()).ok_or(KeyError::Invalid)?;
                let scalar = [vec![0; missing], scalar].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &scalar, &public);
                Pair::Ecdsa(curve, Box::new(pair.map_err(|_| KeyError::Invalid)?))
            }
            Numbers::Rsa { n, e, d, inverse, p, q } => {
                let pair = rsa(PublicKeyComponents { n, e }, d, inverse, p, q);
                Pair::rsa(pair.ok_or(KeyError::Invalid)?)
            }
        };
        Ok(Self { blob: pair.blob(), comment: file.comment, pair })
    }

    /// A signature in SSH's form; none when the flags ask for one that this key does not make.
    ///
    /// SHA-1, which RSA keys are asked for without flags, is broken and refused by servers.
    pub(crate) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut signature = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                wire::string(&mut signature, b"ssh-ed25519");
                wire::string(&mut signature, pair.sign(data).as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                let numbers = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = numbers.as_ref().split_at_checked(curve.width)?;
                let mut both = Vec::new();
                wire::positive(&mut both, r);
                wire::positive(&mut both, s);
                wire::string(&mut signature, curve.key_type().as_bytes());
                wire::string(&mut signature, &both);
            }
            Pair::Rsa(pair) => {
                let (name, encoding) = if flags & RSA_SHA2_512 != 0 {
                    ("rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA2_256 != 0 {
                    ("rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), data, &mut bytes).ok()?;
                wire::string(&mut signature, name.as_bytes());
                wire::string(&mut signature, &bytes);
            }
        }
        Some(signature)
    }
}

impl Pair {
    fn rsa(pair: RsaKeyPair) -> Self {
        Self::Rsa(Box::new(pair))
    }

    fn sec1(der: &[u8]) -> Option<Self> {
        [&P256, &P384, &P521].into_iter().find_map(|curve| {
            let pair = EcdsaKeyPair::from_private_key_der(curve.algorithm, der).ok()?;
            Some(Self::Ecdsa(curve, Box::new(pair)))
        })
    }

    fn pkcs8(der: &[u8]) -> Option<Self> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Some(Self::Ed25519(Box::new(pair)));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return Some(Self::rsa(pair));
        }
        [&P256, &P384, &P521].into_iter().find_map(|curve| {
            let pair = EcdsaKeyPair::from_pkcs8(curve.algorithm, der).ok()?;
            Some(Self::Ecdsa(curve, Box::new(pair)))
        })
    }

    /// The public key in SSH's form (RFC 4253, section 6.6; RFC 5656, section 3.1; RFC 8709).
    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                wire::string(&mut blob, b"ssh-ed25519");
                wire::string(&mut blob, pair.public_key().as_ref());
            }
            Self::Ecdsa(curve, pair) => {
                wire::string(&mut blob, curve.key_type().as_bytes());
                wire::string(&mut blob, curve.name.as_bytes());
                wire::string(&mut blob, pair.public_key().as_ref());
            }
            Self::Rsa(pair) => {
                let public = pair.public_key();
                wire::string(&mut blob, b"ssh-rsa");
                wire::positive(&mut blob, public.exponent().big_endian_without_leading_zero());
                wire::positive(&mut blob, public.modulus().big_endian_without_leading_zero());
            }
        }
        blob
    }
}

/// The key pair of OpenSSH's numbers, which leave out two that can be computed.
fn rsa(
    public_key: PublicKeyComponents<Vec<u8>>,
    d: Vec<u8>,
    inverse: Vec<u8>,
    p: Vec<u8>,
    q: Vec<u8>,
) -> Option<RsaKeyPair> {
    let exponent = BigUint::from_bytes_be(&d);
    let less_one = |prime: &[u8]| {
        let prime = BigUint::from_bytes_be(prime);
        (prime > BigUint::from(1u8)).then(|| prime - 1u8)
    };
    let components = KeyPairComponents {
        public_key,
        dP: (&exponent % less_one(&p)?).to_bytes_be(),
        dQ: (&exponent % less_one(&q)?).to_bytes_be(),
        d,
        p,
        q,
        qInv: inverse,
    };
    RsaKeyPair::from_components(&components).ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
    };

    #[test]
    fn flags_choose_the_hash_of_rsa_signatures() {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("made");
        let public = pair.public_key().as_ref().to_vec();
        let key = Key { blob: Vec::new(), comment: String::new(), pair: Pair::rsa(pair) };
        let cases: [(u32, &str, &RsaParameters); 3] = [
            (2, "rsa-sha2-256", &RSA_PKCS1_2048_8192_SHA256),
            (4, "rsa-sha2-512", &RSA_PKCS1_2048_8192_SHA512),
            (6, "rsa-sha2-512", &RSA_PKCS1_2048_8192_SHA512),
        ];
        for (flags, name, parameters) in cases {
            let signature = key.sign(b"data", flags).expect(name);
            let mut rest = signature.as_slice();
            assert_eq!(wire::take_string(&mut rest), Some(name.as_bytes()));
            let bytes = wire::take_string(&mut rest).expect("a signature");
            UnparsedPublicKey::new(parameters, &public).verify(b"data", bytes).expect("it is good");
            assert!(rest.is_empty());
        }
        for flags in [0, 1, 8] {
            assert_eq!(key.sign(b"data", flags), None, "SHA-1 with {flags}");
        }
    }

    #[test]
    fn what_is_no_key() {
        for (text, expect) in [
            ("", KeyError::Invalid),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                KeyError::Invalid,
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", KeyError::Invalid),
            ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", KeyError::Unsupported),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", KeyError::Unsupported),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                KeyError::Encrypted,
            ),
        ] {
            assert_eq!(Key::parse(text.as_bytes()).err(), Some(expect), "{text}");
        }
    }
}
