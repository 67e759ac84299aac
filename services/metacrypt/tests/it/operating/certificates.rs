//! A certificate that is kept from ending, and what certificates name.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown, symlink},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::error;
use crate::world::World;

/// A service with a CA, and what an administrator types.
pub(crate) struct Ca {
    pub(crate) world: World,
    token: String,
}

impl Ca {
    async fn new() -> Self {
        Self::of(World::open().await).await
    }

    /// In one that is open.
    pub(crate) async fn of(world: World) -> Self {
        let file = world.root.path().join("admin.token");
        // Of a file that others may not read.
        fs::copy(world.root.path().join("token"), &file).unwrap();
        let token = world.token("admin", &world.mcias.password).await;
        fs::write(&file, token).unwrap();
        let token = file.display().to_string();
        let ca = Self { world, token };
        for line in [
            "mount create pki --engine pki",
            "pki issuer create-root pki/root --common-name Root",
            "pki issuer create pki/services --under root --common-name Services",
            "pki profile put pki/web --issuer services --below svc.example.org --ip 192.0.2.0/24 --for-server --ttl 7d --max-ttl 30d",
        ] {
            let out = ca.run(line);
            assert!(out.status.success(), "{line}: {out:?}");
        }
        ca
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        let words = line.split_whitespace().chain(["--token-file", &self.token]);
        self.world.run(&words.collect::<Vec<_>>(), "")
    }

    /// What anybody is answered without TLS.
    fn plain(&self, address: std::net::SocketAddr, path: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--output", "/dev/null"])
            .args(["--write-out", "%{http_code} %{content_type}"])
            .arg(format!("http://{address}{path}"));
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_kept_from_ending() {
    let ca = Ca::new().await;
    let (cert, key) = (
        ca.world.root.path().join("web.pem"),
        ca.world.root.path().join("web.key"),
    );
    let base = format!(
        "pki keep pki/web --cert {} --key {}",
        cert.display(),
        key.display()
    );
    let one = "--name a.svc.example.org --name 192.0.2.1";
    let read = || {
        (
            fs::read(&cert).unwrap_or_default(),
            fs::read(&key).unwrap_or_default(),
        )
    };
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (description, names, told, renewed) in [
        ("the first", one.to_owned(), "there was none", true),
        ("it is good", one.to_owned(), "is kept", false),
        (
            "soon enough",
            format!("{one} --renew-before 1d"),
            "is kept",
            false,
        ),
        (
            "soon enough, whatever was said",
            format!("{one} --renew-before 8d"),
            "is kept",
            false,
        ),
        ("it is revoked", one.to_owned(), "was revoked", true),
        (
            "fewer names",
            "--name 192.0.2.1".to_owned(),
            "for a.svc.example.org, too",
            true,
        ),
        (
            "another name",
            format!("{one} --name b.svc.example.org"),
            "not for a.svc",
            true,
        ),
        (
            "another address",
            "--name 192.0.2.2 --name b.svc.example.org".to_owned(),
            "not for 192.0.2.2",
            true,
        ),
        (
            "none of the names",
            "--name c.svc.example.org --replace".to_owned(),
            "not for c.svc.example.org",
            true,
        ),
        (
            "another key",
            format!("{one} --replace"),
            "is not the private key",
            true,
        ),
        ("no text", one.to_owned(), "", true),
        ("another CA's", format!("{one} --replace"), "", true),
        ("an issuer's own", format!("{one} --replace"), "", true),
        ("it is good again", one.to_owned(), "is kept", false),
    ] {
        match description {
            "another key" => fs::write(&key, &other).unwrap(),
            "another CA's" => {
                let own = vec!["a.svc.example.org".to_owned()];
                let made = rcgen::generate_simple_self_signed(own).unwrap();
                fs::write(&cert, made.cert.pem()).unwrap();
                fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            }
            "an issuer's own" => {
                let out = ca.run("--json pki issuer show pki/root");
                let root: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
                fs::write(&cert, root["chain"].as_str().unwrap()).unwrap();
                fs::remove_file(&key).unwrap();
            }
            "no text" => fs::write(&cert, "").unwrap(),
            "it is revoked" => {
                let out = ca.run("--json pki certificate list pki");
                let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
                let leaves = all.as_array().unwrap().iter();
                let leaves =
                    leaves.filter(|one| one["profile"].as_str().is_some_and(|p| !p.is_empty()));
                for one in leaves {
                    let serial = one["serial"].as_str().unwrap();
                    ca.run(&format!("pki certificate revoke pki {serial} --yes"));
                }
            }
            _ => {}
        }
        let before = read();
        if let Some(meant) = names.strip_suffix(" --replace") {
            let out = ca.run(&format!("{base} {meant}"));
            assert!(error(&out).contains("--replace"), "{description}: {out:?}");
            assert!(out.status.code() == Some(5) && read() == before);
        }
        let out = ca.run(&format!("{base} {names}"));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success() && text.contains(told),
            "{description}: {out:?}"
        );
        let after = read();
        let changed = (before.0 != after.0, before.1 != after.1);
        assert_eq!(changed, (renewed, renewed), "{description}: {text}");
    }
    // Who may only issue cannot know of a revocation, and is told; one whose token is none fails while the certificate is still good.
    let before = read();
    let user = ca.world.root.path().join("user.token");
    fs::copy(&ca.token, &user).unwrap();
    fs::write(&user, ca.world.user().await).unwrap();
    let user = user.display().to_string();
    let put =
        "policy put keeper --allow --account ada --action pki:issue --resource pki/profiles/web";
    assert!(ca.run(put).status.success());
    let line = format!("{base} {one}");
    let words: Vec<_> = line.split(' ').chain(["--token-file", &user]).collect();
    let out = ca.world.run(&words, "");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && told.contains("needs `pki:read` on pki/profiles/web"),
        "{out:?}"
    );
    fs::write(&user, "eyJ.eyJ.none").unwrap();
    let out = ca.world.run(&words, "");
    assert!(error(&out).contains("cannot be asked"), "{out:?}");
    assert!(read() == before);
    let out = ca.run(&format!("{base} --name elsewhere.example.org"));
    assert!(!out.status.success(), "{out:?}");
    assert!(read() == before, "what is refused changes nothing");
    fs::write(&cert, "no certificate").unwrap();
    let out = ca.run(&format!("{base} {one}"));
    assert!(error(&out).contains("is not overwritten"), "{out:?}");
    assert_eq!(fs::read(&cert).unwrap(), b"no certificate");
}

/// Run as root, as all tests are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_stays_whose_it_is_and_what_is_good_stays() {
    let ca = Ca::new().await;
    let directory = ca.world.root.path().join("tls");
    fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name);
    let (cert, key, copy, lock) = (
        at("web.pem"),
        at("web.key"),
        at(".web.pem.kept"),
        at(".web.pem.lock"),
    );
    let to = |cert: &Path| format!("--cert {} --key {}", cert.display(), key.display());
    let base = format!("pki keep pki/web {} --name a.svc.example.org", to(&cert));
    let certificates = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.matches("BEGIN CERTIFICATE").count()
    };
    let refused = |line: &str, code: i32, told: &str| {
        let out = ca.run(line);
        assert!(error(&out).contains(told), "{line}: {out:?}");
        assert_eq!(out.status.code(), Some(code), "{line}: {out:?}");
    };
    let nowhere = to(&at("no/where.pem"));
    for command in ["keep", "issue"] {
        let line = format!("pki {command} pki/web {nowhere} --name a.svc.example.org");
        refused(&line, 2, "there is no directory");
    }

    let kept = |line: &str| -> Value {
        let out = ca.run(&format!("--json {line}"));
        assert!(out.status.success(), "{line}: {out:?}");
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let first = kept(&base);
    assert!(lock.exists() && first["renewed"] == true, "{first}");
    assert_eq!((certificates(&cert), certificates(&copy)), (2, 1));
    fs::remove_file(&lock).unwrap();
    let mut good = kept(&base);
    assert_eq!(good["renewed"].take(), false);
    for field in ["serial", "until"] {
        assert!(good[field].is_string(), "{good}");
        assert_eq!(good[field], first[field]);
    }
    assert!(!lock.exists(), "what is good is not locked");

    let owner = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    for path in [&cert, &key] {
        chown(path, Some(1234), Some(1235)).unwrap();
    }
    let more = format!("{base} --name b.svc.example.org");
    assert_eq!(kept(&more)["renewed"], true);
    assert_eq!((owner(&cert), owner(&key)), ((1234, 1235), (1234, 1235)));
    assert_eq!((certificates(&cert), certificates(&copy)), (2, 2));
    fs::remove_file(&key).unwrap();
    assert_eq!(kept(&more)["why"], "there was no key");
    assert_eq!(certificates(&copy), 1);

    fs::rename(&cert, at("real.pem")).unwrap();
    symlink("real.pem", &cert).unwrap();
    assert_eq!(kept(&more)["renewed"], false);
    refused(&base, 2, "/tls/real.pem");
    fs::remove_file(&cert).unwrap();
    fs::write(&cert, "hello").unwrap();
    fs::remove_file(&key).unwrap();
    refused(&base, 5, "holds no certificate that can be read");

    // Whatever is known of who put it there.
    let pair = rcgen::KeyPair::generate().unwrap();
    let mail = rcgen::SanType::Rfc822Name("ada@example.org".try_into().unwrap());
    for names in [vec![], vec![mail]] {
        let mut asked = rcgen::CertificateParams::default();
        asked.subject_alt_names = names;
        let made = asked.self_signed(&pair).unwrap().pem();
        fs::write(&cert, &made).unwrap();
        fs::write(&copy, &made).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        refused(&base, 5, "which has none of the names");
        assert_eq!(fs::read_to_string(&cert).unwrap(), made);
    }

    let new = at("new.pem");
    let line = format!(
        "pki issue pki/web --cert {} --key {} --name a.svc.example.org",
        new.display(),
        at("new.key").display()
    );
    let issued = kept(&line);
    assert!(at(".new.pem.lock").exists(), "it was locked");
    let serial = issued["serial"].as_str().unwrap();
    let shown = format!("pki certificate show pki {serial}");
    assert!(kept(&shown)["reason"].is_null());
    kept(&format!("pki certificate revoke pki {serial} --yes"));
    assert_eq!(kept(&shown)["reason"], "REVOCATION_REASON_UNSPECIFIED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_certificates_name_is_there_without_tls() {
    let mut ca = Ca::new().await;
    let warned = |ca: &Ca, line: &str| {
        let out = ca.run(line);
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stderr).contains("public_listen")
    };
    assert!(warned(&ca, "pki url pki --set http://pki.example.org"));
    ca.world.metacrypt.take().unwrap().terminate().unwrap();
    let address = mc_testkit::port::free();
    let config = ca.world.root.path().join("metacrypt.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = format!("{text}[service]\npublic_listen = '{address}'\n");
    fs::write(&config, text).unwrap();
    ca.world.start();
    assert!(
        ca.plain(address, "/v1/pki/pki/crl").starts_with("503"),
        "it is sealed"
    );
    ca.world.unseal().await;
    assert!(!warned(&ca, "pki url pki"));
    for (path, wanted) in [
        ("/v1/pki/pki/crl", "200 application/pkix-crl"),
        (
            "/v1/pki/pki/issuer/services/crl",
            "200 application/pkix-crl",
        ),
        (
            "/v1/pki/pki/issuer/services/der",
            "200 application/pkix-cert",
        ),
        (
            "/v1/pki/pki/issuer/services/ocsp/MAA=",
            "200 application/ocsp-response",
        ),
        ("/v1/pki/pki/ca", "404"),
        ("/v1/pki/none/crl", "404"),
        ("/v1/seal", "404"),
        ("/v1/audit", "404"),
        ("/openapi.json", "404"),
        ("/login", "404"),
    ] {
        let got = ca.plain(address, path);
        assert!(got.starts_with(wanted), "{path}: {got}");
    }
}

/// Its key is in strange hands: who looks at lists takes nothing that it has issued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_ca_that_is_revoked_is_replaced() {
    let ca = Ca::new().await;
    let at = |name: &str| ca.world.root.path().join(name).display().to_string();
    let keep = format!(
        "pki keep pki/web --cert {} --key {} --name a.svc.example.org",
        at("web.pem"),
        at("web.key")
    );
    let said = |line: &str| {
        let out = ca.run(line);
        assert!(out.status.success(), "{line}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    said(&keep);
    said("pki issuer create pki/next --under root --common-name Next");
    said(
        "pki profile put pki/web --issuer next --below svc.example.org --for-server --ttl 7d --max-ttl 30d --yes",
    );
    assert!(said(&keep).contains("is kept"), "its issuer is good");
    let all: Value = serde_json::from_str(&said("--json pki certificate list pki")).unwrap();
    let of = |one: &&Value| one["ca"] == "services";
    let serial = all.as_array().unwrap().iter().find(of).unwrap()["serial"].clone();
    let serial = serial.as_str().unwrap();
    said(&format!(
        "pki certificate revoke pki {serial} --reason key-compromise --yes"
    ));
    assert!(said(&keep).contains("was revoked, or its issuer"));
    assert!(said(&keep).contains("is kept"), "it is of the other one");
}
