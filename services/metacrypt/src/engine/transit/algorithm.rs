//! What keys can do, by the libraries that do it.

use aes_siv::{KeyInit as _, siv::Aes256Siv};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac, rand,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
        ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::hpke;
use crate::barrier::KeyError;

/// Bytes of a key that is random bytes.
const KEY: usize = 32;
/// Of two such keys: one for the synthetic IV, one that encrypts.
const SIV_KEY: usize = 2 * KEY;
/// Bytes of XChaCha20-Poly1305's nonces.
const XNONCE: usize = 24;

/// What a key is for, and by which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Algorithm {
    Aes256Gcm,
    Xchacha20Poly1305,
    Aes256Siv,
    X25519Mlkem768,
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    HmacSha256,
}

/// A key that is ready to be used.
pub(super) enum Ready {
    AesGcm(LessSafeKey),
    XChaCha(Box<XChaCha20Poly1305>),
    /// The bytes: what is made of them keeps state.
    AesSiv(Box<Zeroizing<[u8; SIV_KEY]>>),
    Hybrid(Box<hpke::Receiver>),
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static dyn VerificationAlgorithm),
    Hmac(Box<hmac::Key>),
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, KeyError> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(&mut bytes[..]).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// Whether the owner of this public key signed that.
pub(super) fn verified(
    algorithm: &'static dyn VerificationAlgorithm,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = UnparsedPublicKey::new(algorithm, public_key);
    key.verify(message, signature).is_ok()
}

/// What AES-SIV (RFC 5297) sealed with these headers; `None`: it did not.
pub(super) fn siv_open(
    key: &[u8; SIV_KEY],
    headers: &[&[u8]],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let opened = Aes256Siv::new(key.into()).decrypt(headers, sealed);
    opened.ok().map(Zeroizing::new)
}

/// Of what cannot be: a key that was made here is one.
fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("a transit key".to_owned())
}

impl Algorithm {
    /// Whether it encrypts; else it signs.
    pub(super) fn encrypts(self) -> bool {
        match self {
            Self::Aes256Gcm | Self::Xchacha20Poly1305 | Self::Aes256Siv | Self::X25519Mlkem768 => {
                true
            }
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP384 | Self::HmacSha256 => false,
        }
    }

    /// Whether the same plaintext is encrypted to the same ciphertext, so that associated data has to tell places apart.
    pub(super) fn is_deterministic(self) -> bool {
        self == Self::Aes256Siv
    }

    /// How often a version may be used, where there is a bound: random nonces of 96 bits (NIST SP 800-38D §8.3).
    pub(super) fn max_uses(self) -> Option<u64> {
        (self == Self::Aes256Gcm).then_some(1 << 32)
    }

    /// How many versions a key may have: they are stored as one value, and those of ML-KEM are long.
    pub(super) fn max_versions(self) -> usize {
        match self {
            Self::X25519Mlkem768 => 128,
            _ => 1024,
        }
    }

    /// About how many microseconds of a processor one use takes, but for what each byte takes.
    pub(super) fn cost_us(self) -> usize {
        match self {
            Self::Aes256Gcm | Self::Xchacha20Poly1305 | Self::Aes256Siv | Self::HmacSha256 => 1,
            Self::Ed25519 | Self::EcdsaP256 | Self::X25519Mlkem768 => 100,
            Self::EcdsaP384 => 1000,
        }
    }

    fn ecdsa(
        self,
    ) -> Option<(
        &'static EcdsaSigningAlgorithm,
        &'static dyn VerificationAlgorithm,
    )> {
        match self {
            Self::EcdsaP256 => Some((&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_ASN1)),
            Self::EcdsaP384 => Some((&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1)),
            _ => None,
        }
    }

    /// A new key: PKCS #8 in DER of what signs, else its bytes.
    pub(super) fn generate(self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let pkcs8 = match (self, self.ecdsa()) {
            (_, Some((signing, _))) => {
                EcdsaKeyPair::generate_pkcs8(signing, &rand::SystemRandom::new())
            }
            (Self::Ed25519, _) => Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()),
            (Self::X25519Mlkem768, _) => return hpke::generate().map_err(|_| KeyError::Random),
            (Self::Aes256Siv, _) => return Ok(Zeroizing::new(random::<SIV_KEY>()?.to_vec())),
            _ => return Ok(Zeroizing::new(random::<KEY>()?.to_vec())),
        };
        let pkcs8 = pkcs8.map_err(|_| KeyError::Random)?;
        Ok(Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    /// The key of these bytes, as [`Self::generate`] made them.
    pub(super) fn ready(self, secret: &[u8]) -> Result<Ready, KeyError> {
        Ok(match (self, self.ecdsa()) {
            (_, Some((signing, verifying))) => {
                let pair = EcdsaKeyPair::from_pkcs8(signing, secret).map_err(broken)?;
                Ready::Ecdsa(pair, verifying)
            }
            (Self::Ed25519, _) => {
                Ready::Ed25519(Ed25519KeyPair::from_pkcs8(secret).map_err(broken)?)
            }
            (Self::Xchacha20Poly1305, _) => {
                let key = XChaCha20Poly1305::new_from_slice(secret).map_err(broken)?;
                Ready::XChaCha(Box::new(key))
            }
            (Self::HmacSha256, _) => {
                Ready::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
            }
            (Self::Aes256Siv, _) => {
                let mut key = Box::new(Zeroizing::new([0; SIV_KEY]));
                if secret.len() != SIV_KEY {
                    return Err(broken(()));
                }
                key.copy_from_slice(secret);
                Ready::AesSiv(key)
            }
            (Self::X25519Mlkem768, _) => {
                Ready::Hybrid(Box::new(hpke::Receiver::of(secret).map_err(broken)?))
            }
            _ => {
                let key = UnboundKey::new(&AES_256_GCM, secret).map_err(broken)?;
                Ready::AesGcm(LessSafeKey::new(key))
            }
        })
    }
}

impl Ready {
    /// What [`Self::decrypt`] opens: nonce, ciphertext and tag, in the order of the algorithm.
    pub(super) fn encrypt(&self, plaintext: &[u8], about: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::AesGcm(key) => {
                let nonce = random::<NONCE_LEN>()?;
                let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + 16);
                sealed.extend_from_slice(&nonce[..]);
                sealed.extend_from_slice(plaintext);
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let tag = key.seal_in_place_separate_tag(
                    nonce,
                    Aad::from(about),
                    &mut sealed[NONCE_LEN..],
                );
                sealed.extend_from_slice(tag.map_err(broken)?.as_ref());
                Ok(sealed)
            }
            Self::XChaCha(key) => {
                let nonce = random::<XNONCE>()?;
                let payload = Payload {
                    msg: plaintext,
                    aad: about,
                };
                let sealed = key.encrypt(XNonce::from_slice(&nonce[..]), payload);
                Ok([&nonce[..], &sealed.map_err(broken)?].concat())
            }
            Self::AesSiv(key) => {
                let sealed = Aes256Siv::new((&***key).into()).encrypt([about], plaintext);
                sealed.map_err(broken)
            }
            Self::Hybrid(key) => key.seal(plaintext, about).map_err(|_| KeyError::Random),
            _ => Err(broken(())),
        }
    }

    /// What was encrypted; `None`: not by this key, not with this associated data, or it was changed.
    pub(super) fn decrypt(&self, sealed: &[u8], about: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::AesGcm(key) => {
                let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let mut opened = Zeroizing::new(sealed.to_vec());
                let length = key
                    .open_in_place(nonce, Aad::from(about), &mut opened)
                    .ok()?
                    .len();
                opened.truncate(length);
                Some(opened)
            }
            Self::XChaCha(key) => {
                let (nonce, sealed) = sealed.split_at_checked(XNONCE)?;
                let payload = Payload {
                    msg: sealed,
                    aad: about,
                };
                let opened = key.decrypt(XNonce::from_slice(nonce), payload).ok()?;
                Some(Zeroizing::new(opened))
            }
            Self::AesSiv(key) => siv_open(key, &[about], sealed),
            Self::Hybrid(key) => key.open(sealed, about),
            _ => None,
        }
    }

    /// A signature or a code.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Ecdsa(pair, _) => {
                let signature = pair.sign(&rand::SystemRandom::new(), message);
                Ok(signature.map_err(|_| KeyError::Random)?.as_ref().to_vec())
            }
            Self::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            _ => Err(broken(())),
        }
    }

    /// Whether this key signed that.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(pair) => {
                verified(&ED25519, pair.public_key().as_ref(), message, signature)
            }
            Self::Ecdsa(pair, algorithm) => {
                verified(*algorithm, pair.public_key().as_ref(), message, signature)
            }
            Self::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            _ => false,
        }
    }

    /// SubjectPublicKeyInfo in DER, of keys that have a public half.
    pub(super) fn public_key(&self) -> Result<Option<Vec<u8>>, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Ecdsa(pair, _) => pair.public_key().as_der(),
            Self::Hybrid(key) => return Ok(Some(key.public_key())),
            _ => return Ok(None),
        };
        Ok(Some(der.map_err(broken)?.as_ref().to_vec()))
    }
}
