//! Who may do what.

use mc_proto::metacrypt::v1::{
    CreateIssuerRequest, CreateRuleRequest, GetCertificateRequest, ListCertificatesRequest,
    ListIssuersRequest, ListPkiProfilesRequest, PkiProfile, PutPkiProfileRequest,
    RenewCertificateRequest, RevokeCertificateRequest, Rule,
};
use tonic::{Code, Status};

use super::{Ca, MOUNT, client, profile, wanted};

async fn allow(ca: &mut Ca, name: &str, deny: bool, actions: &[&str], on: &[&str]) {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    let rule = Rule {
        name: name.to_owned(),
        deny,
        accounts: vec!["ada".to_owned()],
        actions: texts(actions),
        resources: texts(on),
        ..Rule::default()
    };
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: true,
    };
    ca.admin.system.create_rule(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_judged_by_the_profile_that_made_them() {
    let mut ca = Ca::new().await;
    let other = PkiProfile {
        name: "other".to_owned(),
        ..profile("services")
    };
    ca.put(other).await;
    let of_web = ca.issue(&["example.org"]).await.serial;
    let of_other = ca.pki.issue(wanted("other", &["example.org"])).await;
    let of_other = of_other.unwrap().into_inner().serial;
    let absent = "6b".repeat(20);
    let mut ada = client(&ca.world, &ca.world.user().await).await;
    allow(&mut ca, "web", false, &["pki:*"], &["ca/profiles/web"]).await;
    let issued = ada.issue(wanted("web", &["example.org"])).await;
    let own = issued.unwrap().into_inner().serial;
    for profile in ["other", "nothing"] {
        let refused = ada
            .issue(wanted(profile, &["example.org"]))
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Code::PermissionDenied,
            "{profile}: {refused:?}"
        );
    }
    let get = |serial: &str| GetCertificateRequest {
        mount: MOUNT.to_owned(),
        serial: serial.to_owned(),
    };
    assert_eq!(
        ada.get_certificate(get(&of_web))
            .await
            .unwrap()
            .into_inner()
            .serial,
        of_web
    );
    // Who may not, learns nothing: neither that there is one, nor by which profile it was made.
    let said = |refused: Status, serial: &str| refused.message().replace(serial, "X");
    for serial in [&of_other, &absent] {
        let renew = RenewCertificateRequest {
            mount: MOUNT.to_owned(),
            serial: serial.clone(),
            ..RenewCertificateRequest::default()
        };
        let revoke = RevokeCertificateRequest {
            mount: MOUNT.to_owned(),
            serial: serial.clone(),
            reason: 0,
        };
        let refused = [
            ada.get_certificate(get(serial))
                .await
                .map(drop)
                .unwrap_err(),
            ada.renew(renew).await.map(drop).unwrap_err(),
            ada.revoke(revoke).await.map(drop).unwrap_err(),
        ];
        for (refused, action) in refused.into_iter().zip(["read", "renew", "revoke"]) {
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
            let wanted = format!("ada may not pki:{action} on ca/certificates/X");
            assert_eq!(said(refused, serial), wanted);
        }
    }
    let list = ListCertificatesRequest {
        mount: MOUNT.to_owned(),
        ..ListCertificatesRequest::default()
    };
    let serials = |list: tonic::Response<mc_proto::metacrypt::v1::ListCertificatesResponse>| {
        let all = list.into_inner().certificates.into_iter();
        let mut all: Vec<_> = all.map(|certificate| certificate.serial).collect();
        all.sort_unstable();
        all
    };
    let mut both = vec![of_web.clone(), own.clone()];
    both.sort_unstable();
    assert_eq!(
        serials(ada.list_certificates(list.clone()).await.unwrap()),
        both
    );
    let request = ListPkiProfilesRequest {
        mount: MOUNT.to_owned(),
        ..ListPkiProfilesRequest::default()
    };
    let profiles = ada
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
        .profiles;
    assert_eq!(profiles.len(), 1);
    let request = ListIssuersRequest {
        mount: MOUNT.to_owned(),
        ..ListIssuersRequest::default()
    };
    let issuers = ada
        .list_issuers(request)
        .await
        .unwrap()
        .into_inner()
        .issuers;
    assert_eq!(issuers.len(), 0);
    // A rule that denies holds for lists, too.
    allow(&mut ca, "deny", true, &["pki:read"], &["ca/profiles/web"]).await;
    assert_eq!(serials(ada.list_certificates(list).await.unwrap()), [""; 0]);
    let refused = ada.get_certificate(get(&own)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // In the log it is found by what it was, and by what it was judged.
    let audit = ca.world.audit();
    let row = audit
        .iter()
        .find(|row| row.0.ends_with("/Issue") && row.3.contains(&own))
        .unwrap();
    assert_eq!((&*row.1, &*row.2), ("ca/profiles/web", "OK"));
    assert!(
        row.3.contains("example.org") && !row.3.contains("PRIVATE"),
        "{row:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_profiles_or_issuers_needs_the_ca_too() {
    let mut ca = Ca::new().await;
    let mut ada = client(&ca.world, &ca.world.user().await).await;
    let request = PutPkiProfileRequest {
        mount: MOUNT.to_owned(),
        name: "web".to_owned(),
        profile: Some(profile("services")),
    };
    let issuer = CreateIssuerRequest {
        mount: MOUNT.to_owned(),
        name: "own".to_owned(),
        under: "root".to_owned(),
        key_algorithm: 1,
        common_name: "Own".to_owned(),
        ..CreateIssuerRequest::default()
    };
    for (on, profile, own) in [
        (&["ca/profiles/web"][..], false, false),
        (&["ca/issuers/services"], false, false),
        (&["ca/profiles/web", "ca/issuers/services"], true, false),
        (&["ca/issuers/own"], false, false),
        (&["ca/issuers/root"], false, false),
        (&["ca/issuers/own", "ca/issuers/root"], false, true),
    ] {
        allow(&mut ca, "some", false, &["pki:*"], on).await;
        for (got, wanted) in [
            (ada.put_profile(request.clone()).await.map(drop), profile),
            (ada.create_issuer(issuer.clone()).await.map(drop), own),
        ] {
            let code = got.as_ref().err().map(Status::code);
            assert_eq!(
                code,
                (!wanted).then_some(Code::PermissionDenied),
                "{on:?}: {got:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renews_what_was_issued_to_another_has_to_be_allowed_to_issue_it() {
    let mut ca = Ca::new().await;
    let mut ada = client(&ca.world, &ca.world.user().await).await;
    let of_admin = ca.issue(&["example.org"]).await.serial;
    let on = ["ca/profiles/web"];
    allow(&mut ca, "some", false, &["pki:issue"], &on).await;
    let issued = ada.issue(wanted("web", &["example.org"])).await;
    let own = issued.unwrap().into_inner().serial;
    let renew = |serial: &str| RenewCertificateRequest {
        mount: MOUNT.to_owned(),
        serial: serial.to_owned(),
        ..RenewCertificateRequest::default()
    };
    for (actions, his, others) in [
        (&["pki:issue"][..], false, false),
        (&["pki:renew"], true, false),
        (&["pki:renew", "pki:sign"], true, false),
        (&["pki:renew", "pki:issue"], true, true),
    ] {
        allow(&mut ca, "some", false, actions, &on).await;
        for (serial, wanted) in [(&own, his), (&of_admin, others)] {
            let got = ada.renew(renew(serial)).await;
            let code = got.as_ref().err().map(Status::code);
            let refused = (!wanted).then_some(Code::PermissionDenied);
            assert_eq!(code, refused, "{actions:?}: {got:?}");
        }
    }
}
