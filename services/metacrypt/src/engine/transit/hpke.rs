//! Encryption to a public key that a quantum computer does not open: HPKE (RFC 9180) in its base mode, one message for each encapsulated key.
//!
//! The KEM is X-Wing (draft-connolly-cfrg-xwing-kem; 0x647a in draft-ietf-hpke-pq), which is X25519 and ML-KEM-768 (FIPS 203) under SHA3-256: what it gives
//! depends on both, and on what was sent. HKDF-SHA256 (0x0001) and AES-256-GCM (0x0002) do the rest. Whoever has the public key can do so without this
//! service: it is `enc || ct`, with [`INFO`] for `info` and the associated data for `aad`.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    digest::{Context, SHA3_256},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk},
    hmac::{HMAC_SHA256, Key, Tag, sign},
    kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768, SharedSecret},
};
use zeroize::Zeroizing;

/// What the keys are for: `info` of HPKE.
pub(super) const INFO: &[u8] = b"metacrypt transit";
/// Bytes of a public or private key of X25519, and of what two of them agree on.
const X: usize = 32;
/// Bytes of what ML-KEM-768 calls a decapsulation key, which ends with the encapsulation key, its hash and 32 random bytes.
const DK: usize = 2400;
/// Bytes of its encapsulation keys.
const EK: usize = 1184;
/// Where the one is in the other (FIPS 203, algorithm 16).
const EK_AT: usize = 1152;
/// Bytes of its ciphertexts.
const CT: usize = 1088;
/// Bytes of a private key: ML-KEM's, then X25519's.
pub(super) const SECRET: usize = DK + X;
/// What X-Wing ends its hash with.
const LABEL: &[u8] = br"\.//^\";
/// X-Wing, HKDF-SHA256, AES-256-GCM.
const SUITE: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x02";
/// Of all that HPKE derives.
const VERSION: &[u8] = b"HPKE-v1";
/// SubjectPublicKeyInfo of an X-Wing key (id-XWing, 1.3.6.1.4.1.62253.25722) up to the key itself.
const SPKI: [u8; 24] = [
    0x30, 0x82, 0x04, 0xd4, 0x30, 0x0d, 0x06, 0x0b, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xe6, 0x2d,
    0x81, 0xc8, 0x7a, 0x03, 0x82, 0x04, 0xc1, 0x00,
];

/// Who can open what is sealed to its public key.
pub(super) struct Receiver {
    dk: DecapsulationKey,
    x: PrivateKey,
    /// X-Wing's: ML-KEM's, then X25519's.
    public: Vec<u8>,
}

/// As many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Extract (RFC 5869 §2.2) of labelled bytes.
fn extract(salt: &[u8], label: &[u8], from: &[u8]) -> Tag {
    let all = Zeroizing::new([VERSION, SUITE, label, from].concat());
    sign(&Key::new(HMAC_SHA256, salt), &all)
}

/// HKDF-Expand (RFC 5869 §2.3) to labelled bytes.
fn expand<const N: usize>(
    secret: &Tag,
    label: &[u8],
    context: &[u8],
) -> Result<Zeroizing<[u8; N]>, Unspecified> {
    let mut bytes = Zeroizing::new([0; N]);
    let length = u16::try_from(N).map_err(|_| Unspecified)?.to_be_bytes();
    let info = [&length, VERSION, SUITE, label, context];
    Prk::new_less_safe(HKDF_SHA256, secret.as_ref())
        .expand(&info, Length(N))?
        .fill(&mut bytes[..])?;
    Ok(bytes)
}

/// The key schedule (RFC 9180 §5.1) for one message.
fn schedule(shared: &[u8]) -> Result<(LessSafeKey, Nonce), Unspecified> {
    let (nobody, info) = (
        extract(b"", b"psk_id_hash", b""),
        extract(b"", b"info_hash", INFO),
    );
    let context = [&[0][..], nobody.as_ref(), info.as_ref()].concat();
    let secret = extract(shared, b"secret", b"");
    let key = expand::<32>(&secret, b"key", &context)?;
    let nonce = expand::<NONCE_LEN>(&secret, b"base_nonce", &context)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..])?);
    Ok((key, Nonce::assume_unique_for_key(*nonce)))
}

/// X-Wing's combiner.
fn combine(kem: &[u8], agreed: &[u8], sent: &[u8], public: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut hash = Context::new(&SHA3_256);
    for part in [kem, agreed, sent, public, LABEL] {
        hash.update(part);
    }
    Zeroizing::new(hash.finish().as_ref().to_vec())
}

/// What two keys of X25519 agree on.
pub(super) fn agreed(ours: &PrivateKey, theirs: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    // All zeros, which a point of small order gives, is an error.
    let kept = |agreed: &[u8]| Ok(Zeroizing::new(agreed.to_vec()));
    agree(
        ours,
        UnparsedPublicKey::new(&X25519, theirs),
        Unspecified,
        kept,
    )
}

/// A new private key.
pub(super) fn generate() -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let dk = DecapsulationKey::generate(&ML_KEM_768)?.key_bytes()?;
    let mut secret = Zeroizing::new(Vec::with_capacity(SECRET));
    secret.extend_from_slice(dk.as_ref());
    let mut x = Zeroizing::new([0; X]);
    aws_lc_rs::rand::fill(&mut x[..])?;
    secret.extend_from_slice(&x[..]);
    Ok(secret)
}

impl Receiver {
    /// Of a private key, as [`generate`] made it.
    pub(super) fn of(secret: &[u8]) -> Result<Self, Unspecified> {
        if secret.len() != SECRET {
            return Err(Unspecified);
        }
        let (dk, x) = secret.split_at(DK);
        let ek = dk.get(EK_AT..EK_AT + EK).ok_or(Unspecified)?;
        let x = PrivateKey::from_private_key(&X25519, x)?;
        let public = [ek, x.compute_public_key()?.as_ref()].concat();
        let dk = DecapsulationKey::new(&ML_KEM_768, dk)?;
        Ok(Self { dk, x, public })
    }

    /// SubjectPublicKeyInfo in DER.
    pub(super) fn public_key(&self) -> Vec<u8> {
        [&SPKI[..], &self.public].concat()
    }

    pub(super) fn seal(&self, plaintext: &[u8], about: &[u8]) -> Result<Vec<u8>, Unspecified> {
        seal(&self.public, plaintext, about)
    }

    /// What ML-KEM gives, for a ciphertext that was changed too (FIPS 203 §6.3).
    pub(super) fn decapsulated(&self, ct: &[u8]) -> Result<SharedSecret, Unspecified> {
        self.dk.decapsulate(Ciphertext::from(ct))
    }

    /// What an encapsulated key gives.
    fn shared(&self, ct: &[u8], sent: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        let kem = self.decapsulated(ct)?;
        let agreed = agreed(&self.x, sent)?;
        Ok(combine(kem.as_ref(), &agreed, sent, &self.public[EK..]))
    }

    /// `None`: not to this key, not with this associated data, or changed.
    pub(super) fn open(&self, sealed: &[u8], about: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (ct, sealed) = sealed.split_at_checked(CT)?;
        let (sent, sealed) = sealed.split_at_checked(X)?;
        let (key, nonce) = schedule(&self.shared(ct, sent).ok()?).ok()?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(about), &mut opened)
            .ok()?
            .len();
        opened.truncate(length);
        Some(opened)
    }
}

/// Seals to a public key, which is X-Wing's: `enc || ct`.
pub(super) fn seal(public: &[u8], plaintext: &[u8], about: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let (ek, theirs) = public.split_at_checked(EK).ok_or(Unspecified)?;
    let (ct, kem) = EncapsulationKey::new(&ML_KEM_768, ek)?.encapsulate()?;
    let ours = PrivateKey::generate(&X25519)?;
    let sent = ours.compute_public_key()?;
    let shared = combine(kem.as_ref(), &agreed(&ours, theirs)?, sent.as_ref(), theirs);
    let (key, nonce) = schedule(&shared)?;
    let mut sealed = Vec::with_capacity(CT + X + plaintext.len() + 16);
    sealed.extend_from_slice(ct.as_ref());
    sealed.extend_from_slice(sent.as_ref());
    let from = sealed.len();
    sealed.extend_from_slice(plaintext);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(about), &mut sealed[from..])?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use hpke::{
        Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, aead::AesGcm256,
        kdf::HkdfSha256, kem::XWing, single_shot_open, single_shot_seal,
    };

    use super::*;

    /// A vector of the draft's, appendix C, with its seed expanded (§5.2; FIPS 203, algorithm 16): aws-lc-rs makes no keys of seeds.
    #[derive(serde::Deserialize)]
    struct Vector {
        secret: String,
        public: String,
        enc: String,
        shared: String,
    }

    #[test]
    fn decapsulation_agrees_with_the_vectors() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("xwing.json")).unwrap();
        assert_eq!(vectors.len(), 3);
        let bytes = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).unwrap();
        for vector in vectors {
            let receiver = Receiver::of(&bytes(&vector.secret)).unwrap();
            assert_eq!(receiver.public, bytes(&vector.public));
            let enc = bytes(&vector.enc);
            let (ct, sent) = enc.split_at(CT);
            assert_eq!(*receiver.shared(ct, sent).unwrap(), bytes(&vector.shared));
        }
    }

    #[test]
    fn another_implementation_opens_what_is_sealed_here() {
        let (private, public) = XWing::gen_keypair();
        let public = public.to_bytes();
        for plaintext in [&b""[..], b"a", &[7; 3000]] {
            let sealed = seal(&public, plaintext, b"about").unwrap();
            let (enc, ct) = sealed.split_at(CT + X);
            let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(enc).unwrap();
            let open = |about| {
                single_shot_open::<AesGcm256, HkdfSha256, XWing>(
                    &OpModeR::Base,
                    &private,
                    &enc,
                    INFO,
                    ct,
                    about,
                )
            };
            assert_eq!(open(b"about").unwrap(), plaintext);
            assert!(open(b"other").is_err());
        }
        for length in [0, EK, EK + X - 1, EK + X + 1] {
            let mut other = public.to_vec();
            other.resize(length, 0);
            assert!(seal(&other, b"a", b"").is_err(), "{length}");
        }
    }

    #[test]
    fn what_another_implementation_seals_is_opened_here() {
        let receiver = Receiver::of(&generate().unwrap()).unwrap();
        let der = receiver.public_key();
        let (head, public) = der.split_at(SPKI.len());
        assert_eq!(head, SPKI);
        let public = <XWing as hpke::Kem>::PublicKey::from_bytes(public).unwrap();
        for plaintext in [&b""[..], b"a", &[7; 3000]] {
            let (enc, ct) = single_shot_seal::<AesGcm256, HkdfSha256, XWing>(
                &OpModeS::Base,
                &public,
                INFO,
                plaintext,
                b"about",
            )
            .unwrap();
            let sealed = [&enc.to_bytes()[..], &ct].concat();
            let opened = receiver.open(&sealed, b"about").unwrap();
            assert_eq!(&opened[..], plaintext);
            assert!(receiver.open(&sealed, b"other").is_none());
        }
    }
}
