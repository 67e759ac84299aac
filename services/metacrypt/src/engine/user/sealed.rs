//! What was written by one account to others: made, and opened again.

use std::time::SystemTime;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use mc_proto::metacrypt::v1::{SealedHeader, SealedKey, SealedToUsers, UserCurve, UserKeyId};
use prost::Message as _;
use zeroize::Zeroizing;

use super::key::{Curve, KEY, Keys, Version};
use crate::{barrier::KeyError, engine::EngineError};

/// Most who read one.
pub(super) const MAX_RECIPIENTS: usize = 64;
/// Bytes of HKDF's salt.
const SALT: usize = 32;
/// What two agree on a key for; it goes with the form.
const PURPOSE: &[u8] = b"metacrypt user to user 1";

fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("a message".to_owned())
}

/// A key that encrypts once: its nonce is no matter.
fn once(key: &[u8; KEY]) -> Result<(LessSafeKey, Nonce), KeyError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(broken)?;
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    Ok((LessSafeKey::new(key), nonce))
}

fn encrypt(key: &[u8; KEY], plaintext: &[u8], about: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (key, nonce) = once(key)?;
    let mut sealed = Vec::with_capacity(plaintext.len() + MAX_TAG_LEN);
    sealed.extend_from_slice(plaintext);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(about), &mut sealed);
    sealed.extend_from_slice(tag.map_err(broken)?.as_ref());
    Ok(sealed)
}

/// `None`: not by this key and about this, or changed.
fn decrypt(key: &[u8; KEY], sealed: &[u8], about: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (key, nonce) = once(key).ok()?;
    let mut opened = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(about), &mut opened)
        .ok()?
        .len();
    opened.truncate(length);
    Some(opened)
}

/// Parts behind each other, none of which can be taken for two.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

/// One of two who agree on a key: whose version, and its public half.
struct Side<'a> {
    id: &'a UserKeyId,
    public: Vec<u8>,
}

impl<'a> Side<'a> {
    fn of(id: &'a UserKeyId, version: &Version, curve: Curve) -> Result<Self, KeyError> {
        let public = version.public(curve)?;
        Ok(Self { id, public })
    }
}

/// What the key that two agree on is for: who writes to whom by which keys.
fn between(sender: &Side<'_>, recipient: &Side<'_>) -> Vec<u8> {
    let side = |side: &Side<'_>| {
        let (account, version) = (side.id.account.as_bytes(), side.id.version.to_be_bytes());
        joined(&[account, &version, &side.public])
    };
    joined(&[PURPOSE, &side(sender), &side(recipient)])
}

fn id(keys: &Keys, version: &Version) -> UserKeyId {
    UserKeyId {
        account: keys.account.to_string(),
        name: keys.name.to_string(),
        version: version.number,
    }
}

fn curve_message(curve: Curve) -> UserCurve {
    match curve {
        Curve::X25519 => UserCurve::X25519,
        Curve::P256 => UserCurve::P256,
    }
}

/// The curve that a client or a header names.
pub(super) fn curve_of(sent: i32) -> Result<Curve, EngineError> {
    match UserCurve::try_from(sent) {
        Ok(UserCurve::Unspecified | UserCurve::X25519) => Ok(Curve::X25519),
        Ok(UserCurve::P256) => Ok(Curve::P256),
        Err(_) => Err(EngineError::field(
            "curve",
            "USER_CURVE_X25519 or USER_CURVE_P256",
        )),
    }
}

/// Writes to these.
pub(super) fn seal(
    sender: &Keys,
    recipients: &[Keys],
    curve: Curve,
    plaintext: &[u8],
    about: &[u8],
    now: SystemTime,
) -> Result<Vec<u8>, EngineError> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| KeyError::Random)?;
    let mut key = Zeroizing::new([0; KEY]);
    rand::fill(&mut key[..]).map_err(|_| KeyError::Random)?;
    let own = sender.newest()?;
    let own_id = id(sender, own);
    let own_side = Side::of(&own_id, own, curve)?;
    let wrap = |keys: &Keys| -> Result<_, EngineError> {
        let version = keys.newest()?;
        let recipient = id(keys, version);
        let side = Side::of(&recipient, version, curve)?;
        let info = between(&own_side, &side);
        let shared = own.shared(curve, &side.public, &salt, &[&info])?;
        let key = encrypt(&shared, &key[..], &info)?;
        let recipient = Some(recipient);
        Ok(SealedKey { recipient, key })
    };
    let keys = recipients.iter().map(wrap).collect::<Result<_, _>>()?;
    let header = SealedHeader {
        sender: Some(own_id.clone()),
        curve: curve_message(curve).into(),
        sealed: Some(now.into()),
        salt: salt.to_vec(),
        keys,
    };
    let header = header.encode_to_vec();
    let body = encrypt(&key, plaintext, &joined(&[&header, about]))?;
    Ok(SealedToUsers { header, body }.encode_to_vec())
}

/// What was written, read and not yet opened: nothing of it is known to be true.
pub(super) struct Sealed {
    whole: SealedToUsers,
    header: SealedHeader,
}

impl Sealed {
    /// `None`: it is none, or has what was not written here: each message has one form.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let whole = SealedToUsers::decode(bytes).ok()?;
        let header = SealedHeader::decode(&*whole.header).ok()?;
        let same = whole.encode_to_vec() == bytes && header.encode_to_vec() == whole.header;
        let good = same && header.keys.len() <= MAX_RECIPIENTS;
        good.then_some(Self { whole, header })
    }

    /// Who it says has written it: the account's id.
    pub(super) fn sender(&self) -> Option<&str> {
        let sender = self.header.sender.as_ref()?;
        Some(&sender.account)
    }

    /// Opens it by a reader's keys; who wrote it, by which name, and when. `None`: it was not written to them by that sender, or it was changed.
    pub(super) fn open(&self, reader: &Keys, sender: &Keys, about: &[u8]) -> Option<Opened> {
        let by = self.header.sender.as_ref()?;
        let curve = curve_of(self.header.curve).ok()?;
        let theirs = sender.version(by.version)?;
        let mine = |sealed: &&SealedKey| {
            let to = sealed.recipient.as_ref();
            to.is_some_and(|to| to.account == reader.account.as_str())
        };
        let sealed = self.header.keys.iter().find(mine)?;
        let to = sealed.recipient.as_ref()?;
        let own = reader.version(to.version)?;
        if by.account != sender.account.as_str() {
            return None;
        }
        let theirs = Side::of(by, theirs, curve).ok()?;
        let info = between(&theirs, &Side::of(to, own, curve).ok()?);
        let shared = own
            .shared(curve, &theirs.public, &self.header.salt, &[&info])
            .ok()?;
        let key = decrypt(&shared, &sealed.key, &info)?;
        let key: Zeroizing<[u8; KEY]> = Zeroizing::new(key[..].try_into().ok()?);
        let about = joined(&[&self.whole.header, about]);
        Some(Opened {
            plaintext: decrypt(&key, &self.whole.body, &about)?,
            sender: by.name.clone(),
            account: by.account.clone(),
            header: self.header.clone(),
        })
    }
}

/// What was opened.
pub(super) struct Opened {
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    /// The sender's name when it was written.
    pub(super) sender: String,
    /// The sender's id.
    pub(super) account: String,
    pub(super) header: SealedHeader,
}
