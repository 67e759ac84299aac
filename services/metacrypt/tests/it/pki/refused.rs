//! What is not done, and what is said of it.

use mc_proto::metacrypt::v1::{
    CertificateKey, CreateIssuerRequest, CreateRootRequest, DeleteIssuerRequest,
    DeleteMountRequest, GetCertificateRequest, IssueCertificateRequest, ListCertificatesRequest,
    ListIssuersRequest, NameConstraints, PkiProfile, PutPkiProfileRequest, RenewCertificateRequest,
    RevokeCertificateRequest, SetDefaultRequest, SetUrlsRequest, UpdateIssuerRequest,
};
use tonic::Code;

use super::{Ca, MOUNT, profile, wanted};

fn mount() -> String {
    MOUNT.to_owned()
}

fn revoke(serial: &str) -> RevokeCertificateRequest {
    RevokeCertificateRequest {
        mount: mount(),
        serial: serial.to_owned(),
        reason: 0,
    }
}

fn renew(serial: &str) -> RenewCertificateRequest {
    RenewCertificateRequest {
        mount: mount(),
        serial: serial.to_owned(),
        ..RenewCertificateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told_by_its_field() {
    let mut ca = Ca::new().await;
    let root = CreateRootRequest {
        mount: mount(),
        name: "other".to_owned(),
        key_algorithm: CertificateKey::Ed25519.into(),
        common_name: "Other".to_owned(),
        ..CreateRootRequest::default()
    };
    type Change<T> = fn(&mut T);
    let rows: [(Change<CreateRootRequest>, &str); 7] = [
        (|r| r.name = "Other".to_owned(), "name: "),
        (|r| r.key_algorithm = 0, "key_algorithm: "),
        (
            |r| r.key_algorithm = CertificateKey::Rsa.into(),
            "key_algorithm: ",
        ),
        (|r| r.common_name.clear(), "common_name: "),
        (|r| r.organization = "\n".to_owned(), "organization: "),
        (|r| r.ttl_s = 60, "ttl_s: "),
        (|r| r.ttl_s = 31 * 365 * 86400, "ttl_s: "),
    ];
    for (change, wanted) in rows {
        let mut request = root.clone();
        change(&mut request);
        let refused = ca.pki.create_root(request).await.unwrap_err();
        assert!(
            refused.message().starts_with(wanted),
            "{wanted}: {refused:?}"
        );
    }
    let taken = CreateRootRequest {
        name: "root".to_owned(),
        ..root.clone()
    };
    let refused = ca.pki.create_root(taken).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let issuer = CreateIssuerRequest {
        mount: mount(),
        name: "other".to_owned(),
        under: "root".to_owned(),
        key_algorithm: CertificateKey::Ed25519.into(),
        common_name: "Other".to_owned(),
        ..CreateIssuerRequest::default()
    };
    let rows: [(Change<CreateIssuerRequest>, &str); 6] = [
        (|r| r.under = "services".to_owned(), "under: "),
        (|r| r.under = "nothing".to_owned(), "there is no CA"),
        (|r| r.ttl_s = 11 * 365 * 86400, "ttl_s: "),
        (|r| r.name = "services".to_owned(), "there is a CA"),
        (
            |r| {
                r.constraints = Some(NameConstraints {
                    permitted_dns: vec!["example.org".to_owned(), ".example.org".to_owned()],
                    ..NameConstraints::default()
                });
            },
            "constraints.permitted_dns[1]: ",
        ),
        (
            |r| {
                r.constraints = Some(NameConstraints {
                    excluded_ips: vec!["10.0.0.1/8".to_owned()],
                    ..NameConstraints::default()
                });
            },
            "constraints.excluded_ips[0]: ",
        ),
    ];
    for (change, wanted) in rows {
        let mut request = issuer.clone();
        change(&mut request);
        let refused = ca.pki.create_issuer(request).await.unwrap_err();
        assert!(
            refused.message().starts_with(wanted),
            "{wanted}: {refused:?}"
        );
    }
    let rows: [(Change<PkiProfile>, &str); 11] = [
        (|p| p.issuer = "nothing".to_owned(), "issuer: "),
        (
            |p| p.issuer = "root".to_owned(),
            "issuer: \"root\" is a root",
        ),
        (|p| p.issuer.clear(), "issuer: "),
        (
            |p| p.dns_names = vec!["*.example.org".to_owned()],
            "dns_names[0]: ",
        ),
        (
            |p| p.dns_suffixes = vec!["a_b.example".to_owned()],
            "dns_suffixes[0]: ",
        ),
        (
            |p| p.ip_networks = vec!["10.0.0.1/8".to_owned()],
            "ip_networks[0]: ",
        ),
        (
            |p| p.uris = vec!["https://example.org".to_owned()],
            "uris[0]: ",
        ),
        (|p| p.key_algorithms = vec![0], "key_algorithms[0]: "),
        (
            |p| (p.server, p.client) = (false, false),
            "server, client: ",
        ),
        (|p| p.max_ttl_s = 0, "max_ttl_s: "),
        (|p| p.ttl_s = p.max_ttl_s + 1, "ttl_s: "),
    ];
    for (change, wanted) in rows {
        let mut profile = profile("services");
        change(&mut profile);
        let request = PutPkiProfileRequest {
            mount: mount(),
            name: "new".to_owned(),
            profile: Some(PkiProfile {
                name: String::new(),
                ..profile
            }),
        };
        let refused = ca.pki.put_profile(request).await.unwrap_err();
        assert!(
            refused.message().starts_with(wanted),
            "{wanted}: {refused:?}"
        );
    }
    let rows: [(Change<IssueCertificateRequest>, &str); 9] = [
        (|r| r.names.clear(), "names: none"),
        (
            |r| r.names = vec!["x.example.net".to_owned(), "y.example.net".to_owned()],
            "names: the profile does not allow x.example.net, y.example.net; it allows example.org; names below svc.example.org; addresses of 10.0.0.0/8;",
        ),
        (
            |r| r.names = vec!["*.svc.example.org".to_owned()],
            "names: the profile does not allow",
        ),
        (|r| r.names = vec!["a b".to_owned()], "names: \"a b\""),
        (
            |r| r.names = (0..101).map(|n| format!("n{n}.svc.example.org")).collect(),
            "names: 101",
        ),
        (|r| r.ttl_s = 86401, "ttl_s: 60 to 86400 seconds"),
        (|r| r.ttl_s = 1, "ttl_s: 60 to 86400 seconds"),
        (|r| r.ttl_s = u64::MAX, "ttl_s: 60 to 86400 seconds"),
        (
            |r| r.key_algorithm = CertificateKey::Rsa.into(),
            "key_algorithm: ",
        ),
    ];
    for (change, text) in rows {
        let mut request = wanted("web", &["a.svc.example.org"]);
        change(&mut request);
        let refused = ca.pki.issue(request).await.unwrap_err();
        assert!(refused.message().starts_with(text), "{text}: {refused:?}");
        assert_eq!(refused.code(), Code::InvalidArgument, "{text}");
    }
    for base in ["ftp://a", "https://a"] {
        let request = SetUrlsRequest {
            mount: mount(),
            base: base.to_owned(),
        };
        let refused = ca.pki.set_urls(request).await.unwrap_err();
        assert!(refused.message().starts_with("base: "), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_revoked_once_and_found_by_what_they_are() {
    let mut ca = Ca::new().await;
    let mut serials = Vec::new();
    for name in [
        "a.svc.example.org",
        "b.svc.example.org",
        "a.svc.example.org",
    ] {
        serials.push(ca.issue(&[name]).await.serial);
    }
    ca.pki.revoke(revoke(&serials[0])).await.unwrap();
    for (description, refused) in [
        ("again", ca.pki.revoke(revoke(&serials[0])).await.map(drop)),
        ("renewed", ca.pki.renew(renew(&serials[0])).await.map(drop)),
    ] {
        assert_eq!(
            refused.unwrap_err().code(),
            Code::FailedPrecondition,
            "{description}"
        );
    }
    for (serial, code) in [
        ("6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b", Code::NotFound),
        ("6b", Code::InvalidArgument),
        ("a/b", Code::InvalidArgument),
    ] {
        let refused = ca.pki.revoke(revoke(serial)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{serial}: {refused:?}");
    }
    let mut list = async |change: fn(&mut ListCertificatesRequest)| {
        let mut request = ListCertificatesRequest {
            mount: mount(),
            ..Default::default()
        };
        change(&mut request);
        let (mut all, mut pages) = (Vec::new(), 0);
        loop {
            let page = ca
                .pki
                .list_certificates(request.clone())
                .await
                .unwrap()
                .into_inner();
            all.extend(page.certificates.into_iter().map(|c| c.serial));
            pages += 1;
            if page.next.is_empty() {
                all.sort_unstable();
                return (all, pages);
            }
            request.after = page.next;
        }
    };
    let sorted = |of: &[usize]| {
        let mut all: Vec<_> = of.iter().map(|at| serials[*at].clone()).collect();
        all.sort_unstable();
        all
    };
    // The issuer's own is one of them.
    let (all, _) = list(|_| {}).await;
    assert_eq!(all.len(), 4);
    let of_web: fn(&mut ListCertificatesRequest) = |r| r.profile = "web".to_owned();
    assert_eq!(list(of_web).await.0, sorted(&[0, 1, 2]));
    assert_eq!(
        list(|r| (r.limit, r.profile) = (1, "web".to_owned()))
            .await
            .0,
        sorted(&[0, 1, 2])
    );
    assert_eq!(
        list(|r| r.name = "A.svc.example.org".to_owned()).await.0,
        sorted(&[0, 2])
    );
    assert_eq!(
        list(|r| r.name = "c.svc.example.org".to_owned()).await.0,
        sorted(&[])
    );
    assert_eq!(list(|r| r.revoked = true).await.0, sorted(&[0]));
    assert_eq!(
        list(|r| r.issuer = "services".to_owned()).await.0,
        sorted(&[0, 1, 2])
    );
    let two: fn(&mut ListCertificatesRequest) = |r| r.expires_before = Some(later(2));
    assert_eq!(list(two).await.0, sorted(&[0, 1, 2]));
    assert_eq!(
        list(|r| r.expires_before = Some(later(0))).await.0,
        sorted(&[])
    );
    let request = GetCertificateRequest {
        mount: mount(),
        serial: serials[0].to_uppercase(),
    };
    let got = ca.pki.get_certificate(request).await.unwrap().into_inner();
    assert_eq!(got.names, ["a.svc.example.org"]);
    assert!(got.revoked.is_some() && got.issuer == "services" && got.profile == "web");
}

fn later(hours: u64) -> prost_types::Timestamp {
    let now = std::time::SystemTime::now();
    (now + std::time::Duration::from_secs(hours * 3600)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_that_are_disabled_revoked_or_gone_issue_nothing() {
    let mut ca = Ca::new().await;
    let serial = ca.issue(&["example.org"]).await.serial;
    let disable = |disabled| UpdateIssuerRequest {
        mount: mount(),
        name: "services".to_owned(),
        disabled: Some(disabled),
    };
    let default = SetDefaultRequest {
        mount: mount(),
        issuer: "services".to_owned(),
    };
    ca.pki.set_default(default).await.unwrap();
    let updated = ca
        .pki
        .update_issuer(disable(true))
        .await
        .unwrap()
        .into_inner();
    assert!(updated.disabled && updated.default);
    let refused = ca
        .pki
        .issue(wanted("web", &["example.org"]))
        .await
        .unwrap_err();
    assert!(refused.message().contains("disabled"), "{refused:?}");
    // What it issued can still be revoked, and its list is of the mount now.
    ca.pki.revoke(revoke(&serial)).await.unwrap();
    let (status, _, list) = ca.get(&format!("{MOUNT}/crl"), None);
    let (_, _, same) = ca.get(&format!("{MOUNT}/issuer/services/crl"), None);
    assert_eq!((status, &list), (200, &same));
    ca.pki.update_issuer(disable(false)).await.unwrap();
    ca.issue(&["example.org"]).await;

    let delete = |name: &str, confirm: &str| DeleteIssuerRequest {
        mount: mount(),
        name: name.to_owned(),
        confirm: confirm.to_owned(),
    };
    for (name, confirm, code) in [
        ("services", "", Code::FailedPrecondition),
        ("services", "web", Code::InvalidArgument),
        ("services", "services", Code::FailedPrecondition),
        ("root", "", Code::FailedPrecondition),
        ("nothing", "", Code::NotFound),
        ("nothing", "nothing", Code::NotFound),
    ] {
        let refused = ca
            .pki
            .delete_issuer(delete(name, confirm))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{name} {confirm}: {refused:?}");
    }
    let issuers = ca
        .pki
        .list_issuers(ListIssuersRequest {
            mount: mount(),
            ..ListIssuersRequest::default()
        })
        .await;
    let issuers = issuers.unwrap().into_inner().issuers;
    let own = issuers
        .iter()
        .find(|issuer| issuer.name == "services")
        .unwrap();
    ca.pki.revoke(revoke(&own.serial)).await.unwrap();
    let refused = ca
        .pki
        .issue(wanted("web", &["example.org"]))
        .await
        .unwrap_err();
    assert!(refused.message().contains("is revoked"), "{refused:?}");
    let refused = ca.pki.update_issuer(disable(false)).await.unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused:?}");
    let mut lists = Vec::new();
    for revoked in [false, true] {
        let request = ListCertificatesRequest {
            mount: mount(),
            revoked,
            ..ListCertificatesRequest::default()
        };
        let list = ca.pki.list_certificates(request).await.unwrap();
        let list = list.into_inner().certificates;
        for one in &list {
            let by = one.issuer == "services";
            assert_eq!(one.issuer_revoked, Some(by), "{one:?}");
        }
        lists.push(list);
    }
    // Its own certificate is revoked, all others with it.
    assert!(lists[0].len() > 2 && lists[0] == lists[1], "{lists:?}");
    // What it issued is valid, and needs its list.
    let (status, _, _) = ca.get(&format!("{MOUNT}/issuer/services/crl"), None);
    assert_eq!(status, 200);
    let request = DeleteMountRequest {
        name: mount(),
        ..DeleteMountRequest::default()
    };
    let refused = ca.admin.system.delete_mount(request).await.unwrap_err();
    assert!(refused.message().contains("root"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_what_is_public_and_nothing_else() {
    let mut ca = Ca::new().await;
    let pem = "application/pem-certificate-chain";
    for (path, status, kind) in [
        ("ca/ca", 200, pem),
        ("ca/ca/chain", 200, pem),
        ("ca/issuer/services", 200, pem),
        ("ca/issuer/services/chain", 200, pem),
        ("ca/issuer/services/der", 200, "application/pkix-cert"),
        ("ca/issuer/services/crl", 200, "application/pkix-crl"),
        ("ca/issuer/root/crl", 200, "application/pkix-crl"),
        ("ca/crl", 200, "application/pkix-crl"),
        ("ca/issuer/nothing", 404, "application/json"),
        ("ca/issuer/nothing/crl", 404, "application/json"),
        ("ca/issuer/a%2Fb/crl", 404, "application/json"),
        ("ca/issuer/..%2fkeys%2froot/crl", 404, "application/json"),
        ("nothing/ca", 404, "application/json"),
        ("system/ca", 404, "application/json"),
        ("ca/issuers/services", 401, "application/json"),
    ] {
        let (got, of, body) = ca.get(path, None);
        assert_eq!((got, &*of), (status, kind), "{path}");
        let text = String::from_utf8_lossy(&body);
        assert!(!text.contains("PRIVATE"), "{path}");
    }
    let (status, _, body) = ca.get("ca/issuer/services/der", Some(b"a"));
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &said["code"]), (405, &405.into()), "{said}");
    // RFC 6960 §2.3: what is no request is told so.
    for (description, body, wanted) in [
        ("nothing", &b""[..], [0x30, 3, 0x0a, 1, 1]),
        ("no request", b"hello", [0x30, 3, 0x0a, 1, 1]),
        ("too long", &[0x30; 9000], [0x30, 3, 0x0a, 1, 1]),
    ] {
        let (status, kind, answer) = ca.get("ca/issuer/services/ocsp", Some(body));
        assert_eq!(
            (status, &*kind),
            (200, "application/ocsp-response"),
            "{description}"
        );
        assert_eq!(answer, wanted, "{description}");
    }
    let (status, _, answer) = ca.get("ca/issuer/services/ocsp/AAAA", None);
    assert_eq!((status, &*answer), (200, &[0x30, 3, 0x0a, 1, 1][..]));
    let token = ca.world.token("admin", &ca.world.mcias.password).await;
    let request = crate::world::by(&token, mc_proto::metacrypt::v1::SealRequest {});
    ca.world.client().await.seal(request).await.unwrap();
    let (status, _, _) = ca.get("ca/issuer/services/crl", None);
    assert_eq!(status, 503);
    ca.world.unseal().await;
    // The number of a list is never used again.
    let number = |der: &[u8]| {
        let at = der
            .windows(5)
            .rposition(|w| w == [0x06, 0x03, 0x55, 0x1d, 0x14])
            .unwrap();
        der[at + 9..at + 13].to_vec()
    };
    let (_, _, list) = ca.get("ca/issuer/services/crl", None);
    let serial = ca.issue(&["example.org"]).await.serial;
    ca.pki.revoke(revoke(&serial)).await.unwrap();
    let (_, _, next) = ca.get("ca/issuer/services/crl", None);
    assert!(number(&next) > number(&list));
}
