//! What is issued, as other programs read it: OpenSSL and pkilint (which `xtask/src/setup.rs` installs).

mod imported;
mod requests;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use mc_proto::metacrypt::v1::{
    CertificateKey, PkiProfile, RenewCertificateRequest, RevocationReason,
    RevokeCertificateRequest, SetUrlsRequest,
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
