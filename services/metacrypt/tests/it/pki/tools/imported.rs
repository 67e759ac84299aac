//! A CA that OpenSSL made.

use std::{fs, path::Path};

use mc_proto::metacrypt::v1::{
    GetIssuerRequest, ImportIssuerRequest, PkiProfile, PutPkiProfileRequest,
};

use super::{
    super::{Ca, MOUNT, profile, wanted},
    openssl, text,
};

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
