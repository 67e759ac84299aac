//! What is issued, as other programs read it: OpenSSL and pkilint (which `xtask/src/setup.rs` installs).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use mc_proto::metacrypt::v1::{
    CertificateKey, GetIssuerRequest, ImportIssuerRequest, PkiProfile, PutPkiProfileRequest,
    RenewCertificateRequest, RevocationReason, RevokeCertificateRequest, SetUrlsRequest,
    SignCsrRequest,
};

use super::{Ca, MOUNT, profile, wanted};

/// What a program says, whether it succeeds or not.
fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn openssl(args: &[&str]) -> (bool, String) {
    run("openssl", args)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has pkilint find no warning in a document.
fn linted(linter: &str, args: &[&str], file: &Path) {
    let home = env::var_os("HOME").unwrap();
    // It reads one certificate, and files of servers have a chain.
    let one = file.with_extension("one");
    let file = match linter {
        "lint_pkix_cert" => {
            let (good, said) = openssl(&["x509", "-in", text(file), "-out", text(&one)]);
            assert!(good, "{said}");
            &one
        }
        _ => file,
    };
    let bin = PathBuf::from(home).join(".cache/metacircular/pkilint-0.13.3/bin");
    let all = [&["lint", "--severity", "WARNING"], args, &[text(file)]].concat();
    let (good, said) = run(bin.join(linter), &all);
    assert!(
        good && said.trim().is_empty(),
        "{linter} {}: {said}",
        file.display()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_issued_is_read_and_revoked_by_other_programs() {
    let mut ca = Ca::new().await;
    let request = SetUrlsRequest {
        mount: MOUNT.to_owned(),
        base: "http://pki.example.org/".to_owned(),
    };
    ca.pki.set_urls(request).await.unwrap();
    use CertificateKey::{EcdsaP256, EcdsaP384, Ed25519};
    for (n, of_root, of_issuer, of_leaf) in [
        (1, Ed25519, EcdsaP384, EcdsaP256),
        (2, EcdsaP256, Ed25519, EcdsaP384),
        (3, EcdsaP384, EcdsaP256, Ed25519),
    ] {
        let (root_name, name) = (format!("root-{n}"), format!("issuer-{n}"));
        ca.chain(of_root, of_issuer, &root_name, &name).await;
        let common_name = n == 2;
        ca.put(PkiProfile {
            common_name,
            wildcards: true,
            ..profile(&name)
        })
        .await;
        let mut request = wanted(
            "web",
            &[
                "a.svc.example.org",
                "*.b.svc.example.org",
                "10.0.0.1",
                "spiffe://example.org/service/a",
            ],
        );
        request.key_algorithm = of_leaf.into();
        let issued = ca.pki.issue(request).await.unwrap().into_inner();
        let request = RenewCertificateRequest {
            mount: MOUNT.to_owned(),
            serial: issued.serial.clone(),
            ..RenewCertificateRequest::default()
        };
        let other = ca.pki.renew(request).await.unwrap().into_inner();
        let root = ca.write("root.pem", &issued.root);
        let leaf = ca.write("leaf.pem", &issued.chain);
        let good = ca.write("good.pem", &other.chain);
        let (status, kind, pem) = ca.get(&format!("{MOUNT}/issuer/{name}"), None);
        assert_eq!((status, &*kind), (200, "application/pem-certificate-chain"));
        let issuer = ca.write("issuer.pem", pem);
        let key = ca.write("leaf.key", &issued.private_key);
        // The key is the certificate's.
        let (_, of_key) = openssl(&["pkey", "-in", text(&key), "-pubout"]);
        let (_, of_cert) = openssl(&["x509", "-in", text(&leaf), "-noout", "-pubkey"]);
        assert_eq!(of_key, of_cert);
        let (_, shown) = openssl(&["x509", "-in", text(&leaf), "-noout", "-text"]);
        for wanted in [
            "DNS:a.svc.example.org, DNS:*.b.svc.example.org, IP Address:10.0.0.1, URI:spiffe://example.org/service/a",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            &format!("URI:http://pki.example.org/v1/pki/ca/issuer/{name}/crl"),
            &format!("OCSP - URI:http://pki.example.org/v1/pki/ca/issuer/{name}/ocsp"),
        ] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        // RFC 5280 alone knows no wildcards (RFC 6125 does), and pkilint not the scheme of SPIFFE: those are for OpenSSL.
        let plain = ca
            .issue(&["a.svc.example.org", "10.0.0.1", "10.0.0.2"])
            .await;
        let plain = ca.write("plain.pem", &plain.chain);
        for file in [&root, &issuer, &plain] {
            linted("lint_pkix_cert", &[], file);
        }
        let crls = [&root_name, &name].map(|name| {
            let (status, kind, der) = ca.get(&format!("{MOUNT}/issuer/{name}/crl"), None);
            assert_eq!((status, &*kind), (200, "application/pkix-crl"));
            let path = ca.write(&format!("{name}.crl"), der);
            linted("lint_crl", &["--type", "CRL", "--profile", "PKIX"], &path);
            let (_, pem) = openssl(&["crl", "-inform", "DER", "-in", text(&path)]);
            pem
        });
        let crls = ca.write("crls.pem", crls.concat());
        let verify = |leaf: &Path, crls: &Path| {
            openssl(&[
                "verify",
                "-x509_strict",
                "-crl_check_all",
                "-CRLfile",
                text(crls),
                "-CAfile",
                text(&root),
                "-untrusted",
                text(&issuer),
                "-purpose",
                "sslserver",
                "-verify_ip",
                "10.0.0.1",
                "-verify_hostname",
                "x.b.svc.example.org",
                text(leaf),
            ])
        };
        let (valid, said) = verify(&leaf, &crls);
        assert!(valid, "{said}");
        assert_eq!(asked(&ca, &name, &issuer, &root, &leaf, &[]), "good");
        assert_eq!(
            asked(&ca, &name, &issuer, &root, &leaf, &["-sha256"]),
            "good"
        );
        assert_eq!(
            asked(&ca, &name, &issuer, &root, &leaf, &["-no_nonce"]),
            "good"
        );
        assert_eq!(asked(&ca, &name, &issuer, &root, &leaf, &["get"]), "good");
        let request = RevokeCertificateRequest {
            mount: MOUNT.to_owned(),
            serial: issued.serial.clone(),
            reason: RevocationReason::KeyCompromise.into(),
        };
        let revoked = ca.pki.revoke(request).await.unwrap().into_inner();
        assert!(revoked.revoked.is_some());
        let (_, _, der) = ca.get(&format!("{MOUNT}/issuer/{name}/crl"), None);
        let path = ca.write("after.crl", der);
        linted("lint_crl", &["--type", "CRL", "--profile", "PKIX"], &path);
        let (_, pem) = openssl(&["crl", "-inform", "DER", "-in", text(&path)]);
        let (verified, said) = openssl(&[
            "crl",
            "-inform",
            "DER",
            "-in",
            text(&path),
            "-CAfile",
            text(&issuer),
            "-noout",
            "-text",
        ]);
        assert!(verified && said.contains("verify OK"), "{said}");
        assert!(
            said.contains("Key Compromise") && said.contains("X509v3 CRL Number"),
            "{said}"
        );
        let before = fs::read_to_string(&crls).unwrap();
        let of_root = before
            .split_inclusive("-----END X509 CRL-----\n")
            .next()
            .unwrap();
        let crls = ca.write("crls.pem", [of_root, &pem].concat());
        let (valid, said) = verify(&leaf, &crls);
        assert!(!valid && said.contains("certificate revoked"), "{said}");
        let (valid, said) = verify(&good, &crls);
        assert!(valid, "{said}");
        assert_eq!(asked(&ca, &name, &issuer, &root, &leaf, &[]), "revoked");
        assert_eq!(asked(&ca, &name, &issuer, &root, &good, &[]), "good");
    }
}

/// What the responder says of a certificate, as OpenSSL reads it.
fn asked(ca: &Ca, name: &str, issuer: &Path, root: &Path, leaf: &Path, how: &[&str]) -> String {
    let request = ca.file("ocsp.request");
    let get = how == ["get"];
    let how = if get { &["-no_nonce"] } else { how };
    let (hash, nonce): (Vec<&str>, Vec<&str>) =
        how.iter().copied().partition(|arg| arg.starts_with("-sha"));
    let mut args = vec!["ocsp", "-issuer", text(issuer)];
    args.extend(&hash);
    args.extend(["-cert", text(leaf), "-reqout", text(&request)]);
    args.extend(nonce);
    let (good, said) = openssl(&args);
    assert!(good, "{said}");
    let sent = fs::read(&request).unwrap();
    let path = format!("{MOUNT}/issuer/{name}/ocsp");
    let (status, kind, answer) = if get {
        let encoded = data_encoding::BASE64
            .encode(&sent)
            .replace('/', "%2F")
            .replace('+', "%2B");
        ca.get(&format!("{path}/{encoded}"), None)
    } else {
        ca.get(&path, Some(&sent))
    };
    assert_eq!((status, &*kind), (200, "application/ocsp-response"));
    let answer = ca.write("ocsp.response", answer);
    if how.is_empty() {
        // It takes seconds; what is asked otherwise is answered in the same form.
        linted("lint_ocsp_response", &[], &answer);
    }
    let mut args = vec!["ocsp", "-issuer", text(issuer)];
    args.extend(hash);
    // The request has its nonce; another would be added.
    args.push("-no_nonce");
    args.extend([
        "-cert",
        text(leaf),
        "-reqin",
        text(&request),
        "-respin",
        text(&answer),
        "-CAfile",
        text(root),
        "-verify_other",
        text(issuer),
    ]);
    let (_, said) = openssl(&args);
    assert!(said.contains("Response verify OK"), "{said}");
    assert!(
        !said.contains("WARNING: Nonce") || how.contains(&"-no_nonce"),
        "{said}"
    );
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{}: ", text(leaf))));
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_was_made_elsewhere_is_taken() {
    let mut ca = Ca::new().await;
    let config = ca.write("ca.cnf", "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nCN=Elsewhere\n[v3]\nsubjectKeyIdentifier=hash\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n[sub]\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nnameConstraints=critical,permitted;DNS:svc.example.org,excluded;DNS:secret.svc.example.org\n");
    let (key, root) = (ca.file("e.key"), ca.file("e.pem"));
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-config",
        text(&config),
    ];
    let (made, said) = openssl(
        &[
            &[
                "req",
                "-x509",
                "-days",
                "100",
                "-keyout",
                text(&key),
                "-out",
                text(&root),
            ],
            &curve[..],
        ]
        .concat(),
    );
    assert!(made, "{said}");
    let (sub_key, csr, sub) = (ca.file("s.key"), ca.file("s.csr"), ca.file("s.pem"));
    let (made, said) = openssl(
        &[
            &[
                "req",
                "-new",
                "-subj",
                "/CN=Below",
                "-keyout",
                text(&sub_key),
                "-out",
                text(&csr),
            ],
            &curve[..],
        ]
        .concat(),
    );
    assert!(made, "{said}");
    let (made, said) = openssl(&[
        "x509",
        "-req",
        "-in",
        text(&csr),
        "-CA",
        text(&root),
        "-CAkey",
        text(&key),
        "-days",
        "50",
        "-extfile",
        text(&config),
        "-extensions",
        "sub",
        "-out",
        text(&sub),
    ]);
    assert!(made, "{said}");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let (root, sub, key, sub_key) = (read(&root), read(&sub), read(&key), read(&sub_key));
    let import = |name: &str, chain: String, key: &str| ImportIssuerRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        chain,
        private_key: key.to_owned(),
    };
    for (description, request, text) in [
        (
            "without its root",
            import("below", sub.clone(), &sub_key),
            "chain: the last certificate is no root",
        ),
        (
            "with another's key",
            import("below", format!("{sub}{root}"), &key),
            "private_key: ",
        ),
        (
            "in another order",
            import("below", format!("{root}{sub}"), &sub_key),
            "private_key: ",
        ),
        (
            "without a key",
            import("below", format!("{sub}{root}"), ""),
            "private_key: ",
        ),
        (
            "no certificate",
            import("below", "hello".to_owned(), &sub_key),
            "chain: ",
        ),
    ] {
        let refused = ca.pki.import_issuer(request).await.unwrap_err();
        assert!(
            refused.message().starts_with(text),
            "{description}: {refused:?}"
        );
        assert!(!format!("{refused:?}").contains(&sub_key), "{description}");
    }
    let taken = ca
        .pki
        .import_issuer(import("below", format!("{sub}{root}"), &sub_key))
        .await;
    let taken = taken.unwrap().into_inner();
    assert_eq!(
        taken.constraints.unwrap().permitted_dns,
        ["svc.example.org"]
    );
    // One CA has one name, and one CRL.
    let again = import("again", format!("{sub}{root}"), &sub_key);
    let refused = ca.pki.import_issuer(again).await.unwrap_err();
    assert!(
        refused.message().contains("the CA \"below\" of this mount"),
        "{refused:?}"
    );
    // No profile is of what its issuer may not sign.
    let within = PkiProfile {
        dns_names: Vec::new(),
        uri_prefixes: Vec::new(),
        ..profile("below")
    };
    type Change = fn(&mut PkiProfile);
    let rows: [(Change, &str); 3] = [
        (
            |p| p.dns_names = vec!["example.org".to_owned()],
            "dns_names: example.org is not within",
        ),
        (
            |p| p.dns_suffixes = vec!["example.org".to_owned()],
            "dns_suffixes: example.org is not within",
        ),
        (
            |p| p.uris = vec!["spiffe://example.org/a".to_owned()],
            "uris: spiffe://example.org/a is a URI",
        ),
    ];
    for (change, wanted) in rows {
        let mut profile = within.clone();
        change(&mut profile);
        let request = PutPkiProfileRequest {
            mount: MOUNT.to_owned(),
            name: profile.name.clone(),
            profile: Some(profile),
        };
        let refused = ca.pki.put_profile(request).await.unwrap_err();
        assert!(refused.message().starts_with(wanted), "{refused:?}");
    }
    ca.put(within).await;
    for (name, good) in [
        ("a.svc.example.org", true),
        ("secret.svc.example.org", false),
        ("example.org", false),
    ] {
        let issued = ca.pki.issue(wanted("web", &[name])).await;
        assert_eq!(issued.is_ok(), good, "{name}: {issued:?}");
        if let Ok(issued) = issued {
            let issued = issued.into_inner();
            let (root, leaf) = (
                ca.write("root.pem", &issued.root),
                ca.write("leaf.pem", &issued.chain),
            );
            let (valid, said) = openssl(&[
                "verify",
                "-x509_strict",
                "-CAfile",
                text(&root),
                "-untrusted",
                text(&leaf),
                text(&leaf),
            ]);
            assert!(valid, "{said}");
        }
    }
    let request = GetIssuerRequest {
        mount: MOUNT.to_owned(),
        name: "below".to_owned(),
    };
    let got = ca.pki.get_issuer(request).await.unwrap().into_inner();
    assert!(!got.root && got.chain.matches("BEGIN").count() == 2);
    assert!(!format!("{got:?}").contains("PRIVATE"));
}
