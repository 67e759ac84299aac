//! The engine's methods.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{
    Ciphertext, CreateDataKeyRequest, CreateDataKeyResponse, CreateKeyRequest, DecryptRequest,
    DecryptResponse, DeleteKeyRequest, DeleteKeyResponse, EncryptRequest, EncryptResponse,
    ExportKeyRequest, ExportKeyResponse, GetKeyRequest, KeyAlgorithm, ListKeysRequest,
    ListKeysResponse, Plain, RandomRequest, RandomResponse, RewrapRequest, RewrapResponse,
    RotateKeyRequest, SignRequest, SignResponse, TransitKey, TransitKeyVersion, UpdateKeyRequest,
    VerifyRequest, VerifyResponse, transit_server::Transit,
};
use mcdsl::{audit::Detail, server::Caller};
use tonic::{Request, Response, Status, async_trait};
use zeroize::Zeroizing;

use super::{
    Algorithm, KIND, PLACE, Rings, action,
    key::{Key, Ring},
    path, ring, ring_for, stored,
    written::Written,
};
use crate::{
    api::Api,
    barrier::{Items, KeyError},
    engine::{Act, EngineError},
    entered::Entered,
};

/// Most entries of a request.
const MAX_ENTRIES: usize = 1024;
/// Most keys of an answer.
const PAGE: usize = 100;
/// Most random bytes of an answer.
const MAX_RANDOM: u32 = 4096;
/// Longest age of a version: ten years.
const MAX_AGE_S: u64 = 10 * 365 * 24 * 60 * 60;

fn algorithm(sent: i32) -> Result<Algorithm, EngineError> {
    Ok(match KeyAlgorithm::try_from(sent) {
        Ok(KeyAlgorithm::Aes256Gcm) => Algorithm::Aes256Gcm,
        Ok(KeyAlgorithm::Xchacha20Poly1305) => Algorithm::Xchacha20Poly1305,
        Ok(KeyAlgorithm::Ed25519) => Algorithm::Ed25519,
        Ok(KeyAlgorithm::EcdsaP256) => Algorithm::EcdsaP256,
        Ok(KeyAlgorithm::EcdsaP384) => Algorithm::EcdsaP384,
        Ok(KeyAlgorithm::HmacSha256) => Algorithm::HmacSha256,
        Ok(KeyAlgorithm::Unspecified) | Err(_) => {
            return Err(EngineError::field(
                "algorithm",
                "say which; AES_256_GCM encrypts, ED25519 signs",
            ));
        }
    })
}

fn message_of(algorithm: Algorithm) -> KeyAlgorithm {
    match algorithm {
        Algorithm::Aes256Gcm => KeyAlgorithm::Aes256Gcm,
        Algorithm::Xchacha20Poly1305 => KeyAlgorithm::Xchacha20Poly1305,
        Algorithm::Ed25519 => KeyAlgorithm::Ed25519,
        Algorithm::EcdsaP256 => KeyAlgorithm::EcdsaP256,
        Algorithm::EcdsaP384 => KeyAlgorithm::EcdsaP384,
        Algorithm::HmacSha256 => KeyAlgorithm::HmacSha256,
    }
}

/// PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem + "-----END PUBLIC KEY-----\n"
}

/// A key, as clients read it.
fn message(name: &str, key: &Key) -> Result<TransitKey, EngineError> {
    let version = |version: &super::key::Version| -> Result<_, KeyError> {
        let public = key.algorithm.ready(&version.secret()?)?.public_key()?;
        let made = UNIX_EPOCH + Duration::from_secs(version.made_s);
        Ok(TransitKeyVersion {
            version: version.number,
            created: Some(made.into()),
            public_key: public.map(|der| pem(&der)).unwrap_or_default(),
        })
    };
    Ok(TransitKey {
        name: name.to_owned(),
        algorithm: message_of(key.algorithm).into(),
        versions: key.versions.iter().map(version).collect::<Result<_, _>>()?,
        min_decryption_version: key.min_decryption,
        exportable: key.exportable,
        deletable: key.deletable,
        rotate_after_s: key.rotate_after_s,
    })
}

fn age(seconds: u64) -> Result<u64, EngineError> {
    if seconds > MAX_AGE_S || (1..60).contains(&seconds) {
        let why = format!("0 (never), or 60 to {MAX_AGE_S} seconds");
        return Err(EngineError::field("rotate_after_s", why));
    }
    Ok(seconds)
}

/// How many entries there are.
fn entries<T>(field: &str, all: &[T]) -> Result<u64, EngineError> {
    if all.is_empty() || all.len() > MAX_ENTRIES {
        let why = format!("1 to {MAX_ENTRIES} entries, not {}", all.len());
        return Err(EngineError::field(field, why));
    }
    Ok(u64::try_from(all.len()).unwrap_or(u64::MAX))
}

fn wants(ring: &Ring, encrypts: bool) -> Result<(), EngineError> {
    match (ring.algorithm.encrypts(), encrypts) {
        (true, false) => Err(EngineError::Precondition(
            "the key encrypts; it does not sign".to_owned(),
        )),
        (false, true) => Err(EngineError::Precondition(
            "the key signs; it does not encrypt".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Runs what takes a processor for long beside the async threads, with the seal held open.
async fn beside<T: Send + 'static>(
    at: &Arc<Entered>,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let held = Arc::clone(at);
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(held);
        done
    });
    done.await.map_err(|_| mcdsl::db::StoreError::Thread)?
}

fn opened(ring: &Ring, sent: &Ciphertext, index: usize) -> Result<Zeroizing<Vec<u8>>, EngineError> {
    let field = |why: String| EngineError::Invalid(format!("ciphertexts[{index}]: {why}"));
    let written: Written = sent.ciphertext.parse().map_err(|e| field(format!("{e}")))?;
    let key = ring.version(written.version).map_err(field)?;
    let opened = key.decrypt(&written.bytes, &sent.associated_data);
    opened.ok_or_else(|| {
        field("not encrypted by this key with this associated data, or changed".to_owned())
    })
}

fn sealed(ring: &Ring, plaintext: &[u8], about: &[u8]) -> Result<String, EngineError> {
    let (version, key) = ring.newest()?;
    let bytes = key.encrypt(plaintext, about)?;
    Ok(Written { version, bytes }.to_string())
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

impl Api {
    /// Lets a caller in to a key.
    fn key(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
        name: &str,
    ) -> Result<Arc<Entered>, EngineError> {
        self.0.enter(caller, &KIND, action, mount, &["keys", name])
    }

    /// Changes a key, and answers as it then is.
    async fn change(
        &self,
        at: &Arc<Entered>,
        detail: Detail,
        change: impl FnOnce(&mut Key) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<Response<TransitKey>, Status> {
        let change = |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let mut key = stored(items, at.name())?;
            change(&mut key)?;
            items.put(&path(at.name()), &key)?;
            // Of those that were written down before it is not known how many were used.
            Ok((message(at.name(), &key)?, Ring::new(&key, 0)?))
        };
        let then = |(message, ring), at: &Entered| super::apply(at, ring).map(|_| message);
        Ok(Response::new(at.change(detail, change, then).await??))
    }
}

#[async_trait]
impl Transit for Api {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::CREATE, &asked.mount, &asked.name)?;
        let algorithm = algorithm(asked.algorithm)?;
        let rotate_after_s = age(asked.rotate_after_s)?;
        let now = self.0.seal.clock().now();
        let create = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let place = path(at.name());
            if items.get::<Key>(&place)?.is_some() {
                return Err(EngineError::Exists("key", at.name().to_owned()));
            }
            let mut key = Key::new(algorithm, now)?;
            (key.exportable, key.rotate_after_s) = (asked.exportable, rotate_after_s);
            items.put(&place, &key)?;
            Ok((message(at.name(), &key)?, Ring::new(&key, 0)?))
        };
        let then = |(message, ring), at: &Entered| super::apply(at, ring).map(|_| message);
        let detail = Detail::new().flag("exportable", asked.exportable);
        let detail = detail.text("algorithm", message_of(algorithm).as_str_name());
        Ok(Response::new(at.change(detail, create, then).await??))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let limit = match usize::try_from(asked.limit) {
            Ok(limit @ 1..PAGE) => limit,
            _ => PAGE,
        };
        let list = self
            .0
            .list(&caller, &KIND, action::READ, &asked.mount, "keys")?;
        let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
            let mut keys: Vec<TransitKey> = Vec::new();
            let mut after = format!("{PLACE}{}", asked.after);
            loop {
                let page = items.list::<Key>(PLACE, &after, PAGE)?;
                let last = page.len() < PAGE;
                for (place, key) in page {
                    let name = place.strip_prefix(PLACE).unwrap_or(&place);
                    if may(name) {
                        if keys.len() == limit {
                            let next = keys.last().map(|key| key.name.clone());
                            return Ok((keys, next.unwrap_or_default()));
                        }
                        keys.push(message(name, &key)?);
                    }
                    after = place;
                }
                if last {
                    return Ok((keys, String::new()));
                }
            }
        };
        let (keys, next) = list.read(read).await?;
        Ok(Response::new(ListKeysResponse { keys, next }))
    }

    async fn get_key(
        &self,
        request: Request<GetKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::READ, &asked.mount, &asked.name)?;
        let read = |items: &Items<'_>, at: &Entered| message(at.name(), &stored(items, at.name())?);
        let key = at.read(read).await?;
        at.done(Detail::new()).await?;
        Ok(Response::new(key))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::UPDATE, &asked.mount, &asked.name)?;
        let rotate_after_s = asked.rotate_after_s.map(age).transpose()?;
        let mut detail = Detail::new();
        for (what, value) in [
            (
                "min_decryption_version",
                asked.min_decryption_version.map(u64::from),
            ),
            ("rotate_after_s", rotate_after_s),
            ("deletable", asked.deletable.map(u64::from)),
        ] {
            if let Some(value) = value {
                detail = detail.number(what, i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        let update = move |key: &mut Key| -> Result<(), EngineError> {
            if let Some(min) = asked.min_decryption_version {
                let newest = key.versions.last().map_or(1, |version| version.number);
                if !(1..=newest).contains(&min) {
                    let why = format!("1 to {newest}, which is the newest");
                    return Err(EngineError::field("min_decryption_version", why));
                }
                key.min_decryption = min;
            }
            key.rotate_after_s = rotate_after_s.unwrap_or(key.rotate_after_s);
            key.deletable = asked.deletable.unwrap_or(key.deletable);
            Ok(())
        };
        self.change(&at, detail, update).await
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::ROTATE, &asked.mount, &asked.name)?;
        let now = self.0.seal.clock().now();
        let rotate = move |key: &mut Key| key.rotate(now);
        self.change(&at, Detail::new(), rotate).await
    }

    async fn delete_key(
        &self,
        request: Request<DeleteKeyRequest>,
    ) -> Result<Response<DeleteKeyResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::DELETE, &asked.mount, &asked.name)?;
        let delete = |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
            if !stored(items, at.name())?.deletable {
                return Err(EngineError::Precondition(
                    "the key is not deletable; say that it is (UpdateKey) first".to_owned(),
                ));
            }
            items.delete(&path(at.name()))?;
            Ok(())
        };
        let then = |(), at: &Entered| -> Result<(), EngineError> {
            Rings::of(at.mount())?.change(at.name(), None);
            Ok(())
        };
        at.change(Detail::new(), delete, then).await??;
        Ok(Response::new(DeleteKeyResponse {}))
    }

    async fn export_key(
        &self,
        request: Request<ExportKeyRequest>,
    ) -> Result<Response<ExportKeyResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::EXPORT, &asked.mount, &asked.name)?;
        let read = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let key = stored(items, at.name())?;
            if !key.exportable {
                return Err(EngineError::Precondition(
                    "the key was not created exportable".to_owned(),
                ));
            }
            let found = match asked.version {
                0 => key.versions.last(),
                number => key.versions.iter().find(|version| version.number == number),
            };
            let none = || EngineError::NotFound("version", asked.version.to_string());
            let version = found.ok_or_else(none)?;
            Ok((version.number, version.secret()?))
        };
        let (version, key) = at.read(read).await?;
        at.done(Detail::new().number("version", version.into()))
            .await?;
        let key = key.to_vec();
        Ok(Response::new(ExportKeyResponse { version, key }))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::ENCRYPT, &asked.mount, &asked.name)?;
        let uses = entries("plaintexts", &asked.plaintexts)?;
        wants(&*ring(&at).await?, true)?;
        let ring = ring_for(&at, uses, self.0.seal.clock().now()).await?;
        let detail = at.noted(count(uses), &asked);
        let encrypt = move || {
            all(&asked.plaintexts, |_, p| {
                sealed(&ring, &p.plaintext, &p.associated_data)
            })
        };
        let ciphertexts = beside(&at, encrypt).await?;
        at.done(detail).await?;
        Ok(Response::new(EncryptResponse { ciphertexts }))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::DECRYPT, &asked.mount, &asked.name)?;
        let number = entries("ciphertexts", &asked.ciphertexts)?;
        let ring = ring(&at).await?;
        wants(&ring, true)?;
        let decrypt = move || all(&asked.ciphertexts, |index, c| opened(&ring, c, index));
        let plaintexts = beside(&at, decrypt).await?;
        at.done(count(number)).await?;
        let plain = |plaintext: Zeroizing<Vec<u8>>| Plain {
            plaintext: plaintext.to_vec(),
        };
        let plaintexts = plaintexts.into_iter().map(plain).collect();
        Ok(Response::new(DecryptResponse { plaintexts }))
    }

    async fn rewrap(
        &self,
        request: Request<RewrapRequest>,
    ) -> Result<Response<RewrapResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::REWRAP, &asked.mount, &asked.name)?;
        let uses = entries("ciphertexts", &asked.ciphertexts)?;
        wants(&*ring(&at).await?, true)?;
        let ring = ring_for(&at, uses, self.0.seal.clock().now()).await?;
        let rewrap = move || {
            all(&asked.ciphertexts, |index, c| {
                sealed(&ring, &opened(&ring, c, index)?, &c.associated_data)
            })
        };
        let ciphertexts = beside(&at, rewrap).await?;
        at.done(count(uses)).await?;
        Ok(Response::new(RewrapResponse { ciphertexts }))
    }

    async fn create_data_key(
        &self,
        request: Request<CreateDataKeyRequest>,
    ) -> Result<Response<CreateDataKeyResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::DATAKEY, &asked.mount, &asked.name)?;
        let length = match asked.length {
            0 => 32,
            length @ 16..=64 => length,
            _ => return Err(EngineError::field("length", "16 to 64 bytes").into()),
        };
        wants(&*ring(&at).await?, true)?;
        let ring = ring_for(&at, 1, self.0.seal.clock().now()).await?;
        let key = random(length)?;
        let ciphertext = sealed(&ring, &key, &asked.associated_data)?;
        at.done(Detail::new().flag("only_ciphertext", asked.only_ciphertext))
            .await?;
        let plaintext = match asked.only_ciphertext {
            true => Vec::new(),
            false => key.to_vec(),
        };
        Ok(Response::new(CreateDataKeyResponse {
            plaintext,
            ciphertext,
        }))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::SIGN, &asked.mount, &asked.name)?;
        let uses = entries("messages", &asked.messages)?;
        wants(&*ring(&at).await?, false)?;
        let ring = ring_for(&at, uses, self.0.seal.clock().now()).await?;
        let sign = move || {
            let (version, key) = ring.newest()?;
            all(&asked.messages, |_, message| {
                let bytes = key.sign(message)?;
                Ok(Written { version, bytes }.to_string())
            })
        };
        let signatures = beside(&at, sign).await?;
        at.done(count(uses)).await?;
        Ok(Response::new(SignResponse { signatures }))
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.key(&caller, action::VERIFY, &asked.mount, &asked.name)?;
        let number = entries("signed", &asked.signed)?;
        let ring = ring(&at).await?;
        wants(&ring, false)?;
        let verify = move || {
            all(&asked.signed, |index, signed| {
                let field = |why| EngineError::Invalid(format!("signed[{index}]: {why}"));
                let written: Written = signed
                    .signature
                    .parse()
                    .map_err(|e| field(format!("{e}")))?;
                // One by a version that is not used any more is not valid any more.
                let key = ring.version(written.version);
                Ok(key.is_ok_and(|key| key.verify(&signed.message, &written.bytes)))
            })
        };
        let valid = beside(&at, verify).await?;
        at.done(count(number)).await?;
        Ok(Response::new(VerifyResponse { valid }))
    }

    async fn random(
        &self,
        request: Request<RandomRequest>,
    ) -> Result<Response<RandomResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self
            .0
            .enter(&caller, &KIND, action::RANDOM, &asked.mount, &["random"])?;
        let length = match asked.length {
            0 => 32,
            length @ 1..=MAX_RANDOM => length,
            _ => {
                let why = format!("1 to {MAX_RANDOM} bytes");
                return Err(EngineError::field("length", why).into());
            }
        };
        let bytes = random(length)?.to_vec();
        at.done(Detail::new().number("bytes", length.into()))
            .await?;
        Ok(Response::new(RandomResponse { bytes }))
    }
}

/// So many random bytes.
fn random(length: u32) -> Result<Zeroizing<Vec<u8>>, EngineError> {
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or_default()]);
    rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}
