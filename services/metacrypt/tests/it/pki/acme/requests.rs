//! Requests as nobody's library makes them.

use std::process::Command;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;

pub(super) struct Raw {
    pub(super) acme: Acme,
    key: EcdsaKeyPair,
}

impl Raw {
    pub(super) async fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            acme: Acme::new().await,
            key,
        }
    }

    pub(super) fn url(&self, what: &str) -> String {
        self.acme.directory.replace("directory", what)
    }

    fn curl(&self, url: &str, args: &[&str]) -> (String, String) {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--include",
                "--http1.1",
                "--cacert",
            ])
            .arg(self.acme.ca.file("ca.pem"));
        let output = command.args(args).arg(url).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase() + "\r\n", body.to_owned())
    }

    fn nonce(&self) -> String {
        let url = self.url("new-nonce");
        let output = Command::new("curl")
            .args(["--silent", "--head", "--cacert"])
            .arg(self.acme.ca.file("ca.pem"))
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("replay-nonce")
                .then(|| value.to_owned())
        };
        text.lines().find_map(line).unwrap()
    }

    pub(super) fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    pub(super) fn sign(&self, header: &Value, payload: &str) -> Value {
        let protected = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        let payload = BASE64URL_NOPAD.encode(payload.as_bytes());
        let signed = format!("{protected}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = BASE64URL_NOPAD.encode(signature.unwrap().as_ref());
        json!({"protected": protected, "payload": payload, "signature": signature})
    }

    pub(super) fn header(&self, what: &str) -> Value {
        json!({"alg": "ES256", "url": self.url(what), "nonce": self.nonce(), "jwk": self.jwk()})
    }

    /// The status, and the type of the error.
    pub(super) fn post(&self, what: &str, body: &Value) -> (u16, String) {
        let text = body.to_string();
        let kind = [
            "--header",
            "content-type: application/jose+json",
            "--data",
            &text,
        ];
        let (head, body) = self.curl(&self.url(what), &kind);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(head.contains("replay-nonce: "), "a fresh nonce: {head}");
        assert!(head.contains("rel=\"index\""), "{head}");
        if status >= 400 {
            assert!(head.contains("application/problem+json"), "{head}");
        }
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        let kind = value["type"].as_str().unwrap_or_default();
        (
            status,
            kind.rsplit(':').next().unwrap_or_default().to_owned(),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_as_the_rfc_has_them_or_refused() {
    let raw = Raw::new().await;
    let new = "new-account";
    let payload = r#"{"onlyReturnExisting": true}"#;
    let good = raw.sign(&raw.header(new), payload);
    let none = (400, "accountDoesNotExist".to_owned());
    assert_eq!(raw.post(new, &good), none);
    assert_eq!(raw.post(new, &good).1, "badNonce", "replayed");
    let change = |name: &str, value: Value| {
        let mut header = raw.header(new);
        header[name] = value;
        raw.sign(&header, payload)
    };
    let mut forged = raw.sign(&raw.header(new), payload);
    forged["payload"] = BASE64URL_NOPAD.encode(b"{}").into();
    let mut no_nonce = raw.header(new);
    no_nonce.as_object_mut().unwrap().remove("nonce");
    let one = raw.sign(&raw.header(new), payload);
    let list = json!([one["protected"], one["payload"], one["signature"]]);
    let kid = raw.url(&format!("acct/{}", "0".repeat(32)));
    let by = |what: &str, kid: &str| {
        let mut header = raw.header(what);
        header.as_object_mut().unwrap().remove("jwk");
        header["kid"] = kid.into();
        raw.sign(&header, "{}")
    };
    for (description, what, body, status, wanted) in [
        ("forged", new, forged, 400, "malformed"),
        (
            "no nonce",
            new,
            raw.sign(&no_nonce, payload),
            400,
            "badNonce",
        ),
        (
            "a nonce that was made up",
            new,
            change("nonce", json!("AAAA")),
            400,
            "badNonce",
        ),
        (
            "another url",
            new,
            change("url", raw.url("new-order").into()),
            403,
            "unauthorized",
        ),
        (
            "another algorithm",
            new,
            change("alg", json!("HS256")),
            400,
            "badSignatureAlgorithm",
        ),
        (
            "an unknown one",
            new,
            change("alg", json!("none")),
            400,
            "badSignatureAlgorithm",
        ),
        (
            "a bad key",
            new,
            change("jwk", json!({"kty": "oct"})),
            400,
            "badPublicKey",
        ),
        (
            "both keys",
            new,
            change("kid", kid.clone().into()),
            400,
            "malformed",
        ),
        ("no JWS", new, json!({"payload": ""}), 400, "malformed"),
        ("a list", new, list, 400, "malformed"),
        (
            "a key for an account",
            "new-order",
            raw.sign(&raw.header("new-order"), "{}"),
            400,
            "malformed",
        ),
        (
            "no such account",
            "new-order",
            by("new-order", &kid),
            400,
            "accountDoesNotExist",
        ),
        (
            "no address of one",
            "new-order",
            by("new-order", "me"),
            400,
            "accountDoesNotExist",
        ),
        (
            "an account for a new one",
            new,
            by(new, &kid),
            400,
            "malformed",
        ),
        (
            "no such address",
            "none",
            by("none", &kid),
            400,
            "accountDoesNotExist",
        ),
        (
            "not JSON inside",
            new,
            raw.sign(&raw.header(new), "{"),
            400,
            "malformed",
        ),
        (
            "no key of ours",
            new,
            raw.sign(&raw.header(new), "{}"),
            403,
            "externalAccountRequired",
        ),
    ] {
        let got = raw.post(what, &body);
        assert_eq!(got, (status, wanted.to_owned()), "{description}");
    }
    let body = good.to_string();
    for (description, args, wanted) in [
        ("another type", vec!["--json", &*body], " 415 "),
        (
            "too long",
            vec![
                "--header",
                "content-type: application/jose+json",
                "--data",
                &"a".repeat(70_000),
            ],
            " 413 ",
        ),
        ("not POST", vec![], " 405 "),
    ] {
        let (head, body) = raw.curl(&raw.url(new), &args);
        assert!(head.contains(wanted), "{description}: {head} {body}");
    }
    let (head, body) = raw.curl(&raw.acme.directory, &[]);
    assert!(head.contains(" 200 "), "{head}");
    let directory: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(directory["meta"]["externalAccountRequired"], true);
    assert_eq!(directory["meta"]["profiles"], json!({"web": "for servers"}));
    let elsewhere = raw.acme.directory.replace("/ca/", "/other/");
    assert!(raw.curl(&elsewhere, &[]).0.contains(" 404 "));
}
