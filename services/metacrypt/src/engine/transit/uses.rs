//! What is done with keys.

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::rand;
use mc_proto::metacrypt::v1::{
    Ciphertext, CreateDataKeyRequest, CreateDataKeyResponse, DecryptRequest, DecryptResponse,
    EncryptRequest, EncryptResponse, Plain, RandomRequest, RandomResponse, RewrapRequest,
    RewrapResponse, SignRequest, SignResponse, VerifyRequest, VerifyResponse,
};
use mcdsl::{audit::Detail, server::Caller};
use zeroize::Zeroizing;

use super::{
    KIND, action, enter,
    ring::Ring,
    rings::{ring, ring_for},
    written::Written,
};
use crate::{api::Api, barrier::KeyError, engine::EngineError, entered::Entered};

/// Most entries of a request.
const MAX_ENTRIES: usize = 1024;
/// Most random bytes of an answer.
const MAX_RANDOM: u32 = 4096;

/// How many entries there are.
fn entries<T>(field: &str, all: &[T]) -> Result<u64, EngineError> {
    if all.is_empty() || all.len() > MAX_ENTRIES {
        let why = format!("1 to {MAX_ENTRIES} entries, not {}", all.len());
        return Err(EngineError::field(field, why));
    }
    Ok(u64::try_from(all.len()).unwrap_or(u64::MAX))
}

/// The key, if it is one that encrypts, or one that signs.
async fn that(at: &Arc<Entered>, encrypts: bool) -> Result<Arc<Ring>, EngineError> {
    let ring = ring(at).await?;
    let why = match (ring.algorithm.encrypts(), encrypts) {
        (true, false) => "the key encrypts; it does not sign",
        (false, true) => "the key signs; it does not encrypt",
        _ => return Ok(ring),
    };
    Err(EngineError::Precondition(why.to_owned()))
}

/// Why associated data may not be missing.
const TELLS_APART: &str = "AES_256_SIV needs it, to tell apart where the same plaintext is";

/// Of an algorithm that gives the same ciphertext again there has to be associated data, with each of a list.
fn tells_apart<'a>(
    ring: &Ring,
    list: &str,
    abouts: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Result<(), EngineError> {
    if !ring.algorithm.is_deterministic() {
        return Ok(());
    }
    match abouts.into_iter().position(Vec::is_empty) {
        None => Ok(()),
        Some(index) => {
            let field = format!("{list}[{index}].associated_data");
            Err(EngineError::field(&field, TELLS_APART))
        }
    }
}

/// About how many microseconds a batch takes.
fn cost_us(ring: &Ring, entries: usize, bytes: usize) -> usize {
    entries * ring.algorithm.cost_us() + bytes / 1024
}

fn of_ciphertexts(ring: &Ring, all: &[Ciphertext]) -> usize {
    let bytes = |c: &Ciphertext| c.ciphertext.len() + c.associated_data.len();
    cost_us(ring, all.len(), all.iter().map(bytes).sum())
}

/// The version that was used, and the plaintext.
type Opened = (u32, Zeroizing<Vec<u8>>);

fn opened(ring: &Ring, sent: &Ciphertext, index: usize) -> Result<Opened, EngineError> {
    let field = |why: String| EngineError::field(&format!("ciphertexts[{index}]"), why);
    let written: Written = sent.ciphertext.parse().map_err(|e| field(format!("{e}")))?;
    let key = ring.version(written.version)?.map_err(field)?;
    let opened = key.decrypt(&written.bytes, &sent.associated_data);
    let not = "not encrypted by this key with this associated data, or changed";
    Ok((
        written.version,
        opened.ok_or_else(|| field(not.to_owned()))?,
    ))
}

fn sealed(ring: &Ring, plaintext: &[u8], about: &[u8]) -> Result<String, EngineError> {
    let (version, key) = ring.newest()?;
    let bytes = key.encrypt(plaintext, about)?;
    Ok(Written { version, bytes }.text())
}

fn all<S, T>(
    sent: &[S],
    each: impl Fn(usize, &S) -> Result<T, EngineError>,
) -> Result<Vec<T>, EngineError> {
    sent.iter()
        .enumerate()
        .map(|(index, one)| each(index, one))
        .collect()
}

fn count(entries: u64) -> Detail {
    Detail::new().number("entries", i64::try_from(entries).unwrap_or(i64::MAX))
}

/// Which version was used for so many entries.
fn by_newest(ring: &Ring, entries: u64) -> Result<Detail, EngineError> {
    Ok(count(entries).number("version", ring.newest()?.0.into()))
}

/// Which versions were used.
fn by(detail: Detail, versions: impl IntoIterator<Item = u32>) -> Detail {
    let versions: BTreeSet<u32> = versions.into_iter().collect();
    let texts: Vec<String> = versions.iter().map(u32::to_string).collect();
    detail.list("versions", texts.iter().map(String::as_str))
}

pub(super) async fn encrypt(
    api: &Api,
    caller: &Caller,
    asked: EncryptRequest,
) -> Result<EncryptResponse, EngineError> {
    let at = enter(api, caller, action::ENCRYPT, &asked.mount, &asked.name)?;
    let uses = entries("plaintexts", &asked.plaintexts)?;
    let abouts = asked.plaintexts.iter().map(|p| &p.associated_data);
    tells_apart(&*that(&at, true).await?, "plaintexts", abouts)?;
    let ring = ring_for(&at, uses, api.0.seal.clock().now()).await?;
    let detail = at.noted(by_newest(&ring, uses)?, &asked)?;
    let bytes = asked.plaintexts.iter();
    let bytes = bytes.map(|p| p.plaintext.len() + p.associated_data.len());
    let cost_us = cost_us(&ring, asked.plaintexts.len(), bytes.sum());
    let encrypt = move || {
        all(&asked.plaintexts, |_, p| {
            sealed(&ring, &p.plaintext, &p.associated_data)
        })
    };
    let ciphertexts = at.beside(cost_us, encrypt).await?;
    at.done(detail).await?;
    Ok(EncryptResponse { ciphertexts })
}

pub(super) async fn decrypt(
    api: &Api,
    caller: &Caller,
    asked: DecryptRequest,
) -> Result<DecryptResponse, EngineError> {
    let at = enter(api, caller, action::DECRYPT, &asked.mount, &asked.name)?;
    let number = entries("ciphertexts", &asked.ciphertexts)?;
    let ring = that(&at, true).await?;
    let cost_us = of_ciphertexts(&ring, &asked.ciphertexts);
    let decrypt = move || all(&asked.ciphertexts, |index, c| opened(&ring, c, index));
    let opened = at.beside(cost_us, decrypt).await?;
    let versions = opened.iter().map(|(version, _)| *version);
    let detail = by(count(number), versions);
    let plain = |(_, mut plaintext): Opened| Plain {
        plaintext: std::mem::take(&mut *plaintext),
    };
    let plaintexts = opened.into_iter().map(plain).collect();
    let answer = DecryptResponse { plaintexts };
    at.done(at.noted(detail, &answer)?).await?;
    Ok(answer)
}

pub(super) async fn rewrap(
    api: &Api,
    caller: &Caller,
    asked: RewrapRequest,
) -> Result<RewrapResponse, EngineError> {
    let at = enter(api, caller, action::REWRAP, &asked.mount, &asked.name)?;
    let uses = entries("ciphertexts", &asked.ciphertexts)?;
    let old = that(&at, true).await?;
    let abouts = asked.ciphertexts.iter().map(|c| &c.associated_data);
    tells_apart(&old, "ciphertexts", abouts)?;
    let cost_us = of_ciphertexts(&old, &asked.ciphertexts);
    // First, so that what cannot be opened takes no uses.
    let open = move || {
        let opened = all(&asked.ciphertexts, |index, c| opened(&old, c, index))?;
        Ok((asked.ciphertexts, opened))
    };
    let (sent, opened) = at.beside(cost_us, open).await?;
    let versions = by(Detail::new(), opened.iter().map(|(version, _)| *version));
    let ring = ring_for(&at, uses, api.0.seal.clock().now()).await?;
    let detail = versions
        .number("entries", i64::try_from(uses).unwrap_or(i64::MAX))
        .number("version", ring.newest()?.0.into());
    let seal = move || {
        all(&opened, |index, (_, plaintext)| {
            sealed(&ring, plaintext, &sent[index].associated_data)
        })
    };
    let ciphertexts = at.beside(cost_us, seal).await?;
    at.done(detail).await?;
    Ok(RewrapResponse { ciphertexts })
}

pub(super) async fn create_data_key(
    api: &Api,
    caller: &Caller,
    asked: CreateDataKeyRequest,
) -> Result<CreateDataKeyResponse, EngineError> {
    let which = match asked.only_ciphertext {
        true => action::DATAKEY_WRAPPED,
        false => action::DATAKEY,
    };
    let at = enter(api, caller, which, &asked.mount, &asked.name)?;
    let length = match asked.length {
        0 => 32,
        length @ 16..=64 => length,
        _ => return Err(EngineError::field("length", "16 to 64 bytes; 0: 32")),
    };
    let key = that(&at, true).await?;
    if key.algorithm.is_deterministic() && asked.associated_data.is_empty() {
        return Err(EngineError::field("associated_data", TELLS_APART));
    }
    let ring = ring_for(&at, 1, api.0.seal.clock().now()).await?;
    let made = random_bytes(length)?;
    let ciphertext = sealed(&ring, &made, &asked.associated_data)?;
    let detail = by_newest(&ring, 1)?.flag("only_ciphertext", asked.only_ciphertext);
    let plaintext = match asked.only_ciphertext {
        true => Vec::new(),
        false => made.to_vec(),
    };
    let answer = CreateDataKeyResponse {
        plaintext,
        ciphertext,
    };
    at.done(at.noted(detail, &answer)?).await?;
    Ok(answer)
}

pub(super) async fn sign(
    api: &Api,
    caller: &Caller,
    asked: SignRequest,
) -> Result<SignResponse, EngineError> {
    let at = enter(api, caller, action::SIGN, &asked.mount, &asked.name)?;
    let uses = entries("messages", &asked.messages)?;
    that(&at, false).await?;
    let ring = ring_for(&at, uses, api.0.seal.clock().now()).await?;
    let detail = by_newest(&ring, uses)?;
    let bytes = asked.messages.iter().map(Vec::len).sum();
    let cost_us = cost_us(&ring, asked.messages.len(), bytes);
    let sign = move || {
        let (version, key) = ring.newest()?;
        all(&asked.messages, |_, message| {
            let bytes = key.sign(message)?;
            Ok(Written { version, bytes }.text())
        })
    };
    let signatures = at.beside(cost_us, sign).await?;
    at.done(detail).await?;
    Ok(SignResponse { signatures })
}

pub(super) async fn verify(
    api: &Api,
    caller: &Caller,
    asked: VerifyRequest,
) -> Result<VerifyResponse, EngineError> {
    let at = enter(api, caller, action::VERIFY, &asked.mount, &asked.name)?;
    let number = entries("signed", &asked.signed)?;
    let ring = that(&at, false).await?;
    let bytes = asked.signed.iter();
    let bytes = bytes.map(|s| s.message.len() + s.signature.len()).sum();
    let cost_us = cost_us(&ring, asked.signed.len(), bytes);
    let verify = move || {
        all(&asked.signed, |index, signed| {
            let field = |why| EngineError::field(&format!("signed[{index}].signature"), why);
            let written: Written = signed.signature.parse().map_err(field)?;
            // One by a version that is not used any more is not valid any more.
            let key = ring.version(written.version)?;
            let valid = key.is_ok_and(|key| key.verify(&signed.message, &written.bytes));
            Ok((written.version, valid))
        })
    };
    let verified = at.beside(cost_us, verify).await?;
    at.done(by(
        count(number),
        verified.iter().map(|(version, _)| *version),
    ))
    .await?;
    Ok(VerifyResponse {
        valid: verified.into_iter().map(|(_, valid)| valid).collect(),
    })
}

pub(super) async fn random(
    api: &Api,
    caller: &Caller,
    asked: RandomRequest,
) -> Result<RandomResponse, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::RANDOM, &asked.mount, &["random"])?;
    let length = match asked.length {
        0 => 32,
        length @ 1..=MAX_RANDOM => length,
        _ => {
            let why = format!("1 to {MAX_RANDOM} bytes; 0: 32");
            return Err(EngineError::field("length", why));
        }
    };
    let bytes = random_bytes(length)?.to_vec();
    let detail = Detail::new().number("bytes", length.into());
    let answer = RandomResponse { bytes };
    at.done(at.noted(detail, &answer)?).await?;
    Ok(answer)
}

/// So many random bytes.
fn random_bytes(length: u32) -> Result<Zeroizing<Vec<u8>>, EngineError> {
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or_default()]);
    rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}
