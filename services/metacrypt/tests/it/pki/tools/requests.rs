//! Requests (PKCS #10) that OpenSSL made.

use std::fs;

use mc_proto::metacrypt::v1::SignCsrRequest;

use super::{
    super::{Ca, MOUNT},
    linted, openssl, text,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_other_programs_are_signed() {
    let mut ca = Ca::new().await;
    let config = "[req]\ndistinguished_name=dn\nprompt=no\nreq_extensions=ext\n[dn]\nCN=evil.example\n\
                  [ext]\nsubjectAltName=DNS:a.svc.example.org,IP:10.0.0.1\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n";
    let config = ca.write("req.cnf", config);
    let bare = ca.write(
        "bare.cnf",
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=a.svc.example.org\n",
    );
    for (description, key, config, names, good) in [
        (
            "P-256",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
            &config,
            &[][..],
            Ok(()),
        ),
        (
            "P-384",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            &config,
            &[],
            Ok(()),
        ),
        ("Ed25519", &["-newkey", "ed25519"], &config, &[], Ok(())),
        ("RSA", &["-newkey", "rsa:2048"], &config, &[], Ok(())),
        (
            "a short RSA key",
            &["-newkey", "rsa:1024"],
            &config,
            &[],
            Err("csr: its public key: an RSA key of 1024 bits"),
        ),
        (
            "another curve",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            &config,
            &[],
            Err("csr: its public key"),
        ),
        (
            "without names",
            &["-newkey", "ed25519"],
            &bare,
            &[],
            Err("names: "),
        ),
        (
            "with names beside it",
            &["-newkey", "ed25519"],
            &bare,
            &["b.svc.example.org"],
            Ok(()),
        ),
        (
            "a name that is not allowed",
            &["-newkey", "ed25519"],
            &bare,
            &["evil.example"],
            Err("names: the profile does not allow evil.example"),
        ),
    ] {
        let (key_file, file) = (ca.file("csr.key"), ca.file("csr.pem"));
        let mut args = vec![
            "req",
            "-new",
            "-nodes",
            "-config",
            text(config),
            "-keyout",
            text(&key_file),
            "-out",
            text(&file),
        ];
        args.extend(key);
        let (made, said) = openssl(&args);
        assert!(made, "{description}: {said}");
        let request = SignCsrRequest {
            mount: MOUNT.to_owned(),
            profile: "web".to_owned(),
            csr: fs::read_to_string(&file).unwrap(),
            names: names.iter().map(ToString::to_string).collect(),
            ttl_s: 0,
        };
        match (ca.pki.sign(request).await, good) {
            (Ok(signed), Ok(())) => {
                let signed = signed.into_inner();
                assert!(signed.private_key.is_empty());
                let leaf = ca.write("signed.pem", &signed.chain);
                let (_, shown) = openssl(&["x509", "-in", text(&leaf), "-noout", "-text"]);
                assert!(
                    !shown.contains("CA:TRUE") && !shown.contains("Certificate Sign"),
                    "{shown}"
                );
                assert!(!shown.contains("evil"), "{description}: {shown}");
                linted("lint_pkix_cert", &[], &leaf);
            }
            (Err(refused), Err(text)) => {
                assert!(
                    refused.message().starts_with(text),
                    "{description}: {refused:?}"
                );
            }
            (got, _) => panic!("{description}: {got:?}"),
        }
    }
    let broken = fs::read_to_string(ca.file("csr.pem")).unwrap();
    let mut der = data_encoding::BASE64
        .decode(
            broken
                .lines()
                .filter(|l| !l.starts_with('-'))
                .collect::<String>()
                .as_bytes(),
        )
        .unwrap();
    *der.last_mut().unwrap() ^= 1;
    let request = SignCsrRequest {
        mount: MOUNT.to_owned(),
        profile: "web".to_owned(),
        csr: format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            data_encoding::BASE64
                .encode(&der)
                .as_bytes()
                .chunks(64)
                .map(|l| String::from_utf8_lossy(l).into_owned())
                .collect::<Vec<_>>()
                .join("\n")
        ),
        ..SignCsrRequest::default()
    };
    let refused = ca.pki.sign(request).await.unwrap_err();
    assert!(refused.message().contains("signature"), "{refused:?}");
}
