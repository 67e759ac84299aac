//! Encryption and signatures in batches, beside `openssl speed`.
//!
//! All that the services do is done on the first core, where `openssl speed` runs in its turn, and requests are made on the last one, by threads that look at
//! nothing but the length of an answer.

use std::{
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{
    CreateKeyRequest, EncryptRequest, KeyAlgorithm, Plaintext, SignRequest,
    transit_client::TransitClient,
};
use prost::Message as _;
use serde_json::json;

use crate::{
    Line, ROUNDS, median, pin,
    world::{Asked, World},
};

/// Connections that are kept.
const CONNECTIONS: usize = 4;
/// Entries of a batch: with 1 KiB each about as much as a request may be.
const BATCH: usize = 512;
/// Bytes of a plaintext.
const PLAINTEXT: usize = 1024;
/// What a request is on.
const KEYS: &str = "/v1/transit/bench/keys";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// What `openssl speed` does.
#[derive(Clone, Copy)]
enum Peer {
    Aes,
    Ed25519,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Aes => "openssl speed, AES-256-GCM of 1 KiB, one core",
            Self::Ed25519 => "openssl speed, Ed25519 sign, one core",
        }
    }

    /// How often a second, on the core of the services.
    fn round(self) -> Result<f64> {
        let (args, fields) = match self {
            Self::Aes => (&["-bytes", "1024", "-evp", "aes-256-gcm"][..], "+F:"),
            Self::Ed25519 => (&["ed25519"][..], "+F6:"),
        };
        let run = thread::spawn(move || {
            pin(0)?;
            let mut command = Command::new("openssl");
            command.args(["speed", "-mr", "-seconds", "1"]).args(args);
            command.stderr(Stdio::null());
            anyhow::Ok(command.output().context("cannot run openssl")?)
        });
        let Ok(output) = run.join() else {
            bail!("the thread of openssl panicked");
        };
        let text = String::from_utf8(output?.stdout)?;
        let line = text.lines().find(|line| line.starts_with(fields));
        let line = line.with_context(|| format!("openssl said {text:?}"))?;
        let figure = |at: usize| line.split(':').nth(at).context("a figure");
        Ok(match self {
            // Bytes a second.
            Self::Aes => figure(3)?.parse::<f64>()? / PLAINTEXT as f64,
            Self::Ed25519 => figure(4)?.parse()?,
        })
    }
}

/// Makes the keys, and measures.
pub(crate) fn run() -> Result<()> {
    let last = thread::available_parallelism()?.get() - 1;
    let world = World::start("transit", true)?;
    let mut transit = TransitClient::new(world.channel.clone());
    for (name, algorithm) in [
        ("aes", KeyAlgorithm::Aes256Gcm),
        ("ed25519", KeyAlgorithm::Ed25519),
    ] {
        let create = CreateKeyRequest {
            mount: "bench".to_owned(),
            name: name.to_owned(),
            algorithm: algorithm.into(),
            ..CreateKeyRequest::default()
        };
        world.block_on(transit.create_key(world.by(create)?))?;
    }
    let plaintext = || Plaintext {
        plaintext: vec![7; PLAINTEXT],
        ..Plaintext::default()
    };
    let encrypt = |batch| EncryptRequest {
        plaintexts: vec![plaintext(); batch],
        ..EncryptRequest::default()
    };
    let sign = |batch| SignRequest {
        messages: vec![vec![0; 3]; batch],
        ..SignRequest::default()
    };
    let one = json!({ "plaintext": BASE64.encode(&[7; PLAINTEXT]) });
    let in_json = |batch| {
        json!({ "plaintexts": vec![&one; batch] })
            .to_string()
            .into_bytes()
    };
    let signed_json = |batch| {
        json!({ "messages": vec!["AAAA"; batch] })
            .to_string()
            .into_bytes()
    };
    let (aes, ed25519) = (Peer::Aes, Peer::Ed25519);
    for (name, path, media, body, batch, peer) in [
        ("encrypt", "aes/encrypt", JSON, in_json(BATCH), BATCH, aes),
        (
            "encrypt.protobuf",
            "aes/encrypt",
            PROTOBUF,
            encrypt(BATCH).encode_to_vec(),
            BATCH,
            aes,
        ),
        ("encrypt.single", "aes/encrypt", JSON, in_json(1), 1, aes),
        (
            "sign",
            "ed25519/sign",
            JSON,
            signed_json(BATCH),
            BATCH,
            ed25519,
        ),
        (
            "sign.protobuf",
            "ed25519/sign",
            PROTOBUF,
            sign(BATCH).encode_to_vec(),
            BATCH,
            ed25519,
        ),
        (
            "sign.single",
            "ed25519/sign",
            JSON,
            signed_json(1),
            1,
            ed25519,
        ),
    ] {
        let path = format!("{KEYS}/{path}");
        let request = world.request(&Asked {
            path: &path,
            media,
            body: &body,
        });
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(world.round(&request, CONNECTIONS, Some(last))? * batch as f64);
            theirs.push(peer.round()?);
        }
        let theirs = median(theirs);
        let line = Line {
            name: format!("crypto.{name}"),
            unit: "1/s",
            ours: median(ours),
            peer: Some((peer.name(), theirs)),
            // Half of it, by a batch.
            asked: (batch == BATCH).then_some(theirs / 2.0),
        };
        line.print();
    }
    world.stop();
    Ok(())
}
