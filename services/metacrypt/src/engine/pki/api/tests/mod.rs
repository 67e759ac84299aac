mod issuers;
mod lists;
mod renewal;

use std::{sync::Arc, time::Duration};

use mc_proto::metacrypt::v1::{
    CertificateKey, CreateIssuerRequest, CreateRootRequest, IssueCertificateRequest,
    IssuedCertificate, PkiCertificate, PkiIssuer, PkiProfile, PutPkiProfileRequest,
    RevokeCertificateRequest,
};
use mcdsl::server::Caller;
use x509_cert::{crl::CertificateList, der::Decode as _, ext::pkix::CrlNumber};

use super::{certificates, issuers as api_issuers, profiles};
use crate::{
    api::Api,
    engine::{
        EngineError,
        pki::{
            KIND, crls,
            ready::{self, Ready, Served},
            store::Record,
        },
        seconds,
    },
    jobs::round,
    testing::{World, caller, nothing},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn allow(api: &Api, name: &str, account: &str, actions: &[&str], resources: &[&str]) {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let rule = mcdsl::policy::Rule {
        name: name.to_owned(),
        description: String::new(),
        priority: 0,
        effect: mcdsl::policy::Effect::Allow,
        subjects: mcdsl::policy::Subjects {
            accounts: owned(&[account]),
            ..mcdsl::policy::Subjects::default()
        },
        actions: owned(actions),
        resources: owned(resources),
        resource_tags: Vec::new(),
    };
    let by = caller(
        "admin",
        "admin",
        "/metacircular.metacrypt.v1.System/CreateRule",
    );
    let put = move |all: &mut Vec<_>| crate::policy::put(all, rule, true);
    let put = api
        .0
        .change_policy(&by, false, mcdsl::audit::Detail::new(), put);
    put.await.unwrap();
}

/// A mount `ca` with a root, an issuer and a profile.
async fn ca(world: &World) -> (Api, Caller) {
    world.metacrypt.mount("ca", "pki", nothing()).await.unwrap();
    let api = Api(Arc::clone(&world.metacrypt));
    let admin = caller("admin", "admin", "/test/Pki");
    let request = CreateRootRequest {
        mount: "ca".to_owned(),
        name: "root".to_owned(),
        key_algorithm: CertificateKey::Ed25519.into(),
        common_name: "Root".to_owned(),
        ..CreateRootRequest::default()
    };
    let made = api_issuers::create_root(&api, &admin, request).await;
    made.unwrap();
    services(&api, &admin).await;
    let request = web("example.org");
    profiles::put_profile(&api, &admin, request).await.unwrap();
    (api, admin)
}

/// The profile `web` of the issuer `services`, for this name.
fn web(dns: &str) -> PutPkiProfileRequest {
    PutPkiProfileRequest {
        mount: "ca".to_owned(),
        name: "web".to_owned(),
        profile: Some(PkiProfile {
            issuer: "services".to_owned(),
            dns_names: vec![dns.to_owned()],
            server: true,
            key_algorithms: vec![CertificateKey::Ed25519.into()],
            max_ttl_s: 3600,
            ..PkiProfile::default()
        }),
    }
}

/// An issuer `services`.
async fn services(api: &Api, admin: &Caller) -> PkiIssuer {
    let request = CreateIssuerRequest {
        mount: "ca".to_owned(),
        name: "services".to_owned(),
        under: "root".to_owned(),
        key_algorithm: CertificateKey::Ed25519.into(),
        common_name: "Services".to_owned(),
        ..CreateIssuerRequest::default()
    };
    let made = api_issuers::create_issuer(api, admin, request).await;
    made.unwrap()
}

async fn revoke(api: &Api, admin: &Caller, serial: &str) -> Result<PkiCertificate, EngineError> {
    let request = RevokeCertificateRequest {
        mount: "ca".to_owned(),
        serial: serial.to_owned(),
        reason: 0,
    };
    certificates::revoke(api, admin, request).await
}

async fn try_issue(api: &Api, admin: &Caller) -> Result<IssuedCertificate, EngineError> {
    let request = IssueCertificateRequest {
        mount: "ca".to_owned(),
        profile: "web".to_owned(),
        names: vec!["example.org".to_owned()],
        ..IssueCertificateRequest::default()
    };
    certificates::issue(api, admin, request).await
}

async fn issue(api: &Api, admin: &Caller) -> String {
    try_issue(api, admin).await.unwrap().serial
}

async fn served(world: &World, name: &'static str) -> Arc<Served> {
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let issuer = at.read(move |items, at| ready::issuer(at.mount(), items, name));
    crls::current(&at, &issuer.await.unwrap()).await.unwrap()
}

/// The list's number, and how many are on it.
async fn list(world: &World) -> (u64, usize) {
    let served = served(world, "services").await;
    let list: CertificateList = CertificateList::from_der(&served.der).unwrap();
    let extensions = list.tbs_cert_list.crl_extensions.unwrap();
    let number = CrlNumber::from_der(extensions[1].extn_value.as_bytes()).unwrap();
    let number = number.0.as_bytes().iter().copied();
    let number = number.fold(0, |number, byte| number << 8 | u64::from(byte));
    let entries = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    (number, entries.len())
}

#[tokio::test]
async fn lists_are_renewed_and_what_ended_long_ago_is_forgotten() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let serials = [issue(&api, &admin).await, issue(&api, &admin).await];
    let (mut number, entries) = list(&world).await;
    assert_eq!(entries, 0);
    assert!(number >= seconds(world.clock.now()), "{number}");
    revoke(&api, &admin, &serials[0]).await.unwrap();
    let job = KIND.job.as_ref().unwrap();
    for (description, passed, anew, wanted) in [
        ("at once", Duration::ZERO, true, 1),
        ("as it was", 12 * HOUR, false, 1),
        ("a day after it was made", 13 * HOUR, true, 1),
        ("its certificate ended three days ago", 60 * HOUR, true, 0),
    ] {
        world.clock.advance(passed);
        round(&world.metacrypt, &KIND, job).await;
        let (next, entries) = list(&world).await;
        assert_eq!((next > number, entries), (anew, wanted), "{description}");
        number = next;
    }
    let left = async |world: &World| {
        let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
        let serials = serials.clone();
        let count = at.read(move |items, _| {
            let found = serials
                .iter()
                .map(|serial| Record::find(items, &serial.parse().unwrap()));
            let found: Vec<_> = found.collect::<Result<_, _>>()?;
            let paths = ["certificates/", "expiry/", "names/", "revoked/", "holds/"]
                .map(|place| items.names(place, "", 100).unwrap().len());
            Ok((found.iter().flatten().count(), paths))
        });
        count.await.unwrap()
    };
    // The issuer's own is among them.
    assert_eq!(left(&world).await, (2, [3, 3, 2, 1, 1]));
    world.clock.advance(90 * 24 * HOUR);
    round(&world.metacrypt, &KIND, job).await;
    assert_eq!(left(&world).await, (0, [1, 1, 0, 0, 1]));
    let audit = world.audit();
    let row = audit.iter().find(|row| row.1 == "pki.tidy").unwrap();
    assert!(
        row.0.is_none() && row.3.contains("\"forgotten\":2"),
        "{row:?}"
    );
}

#[tokio::test]
async fn lists_are_made_while_callers_have_all_places() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let serial = issue(&api, &admin).await;
    let (number, _) = list(&world).await;
    revoke(&api, &admin, &serial).await.unwrap();
    let held = world.metacrypt.cores.all_places();
    let busy = try_issue(&api, &admin).await;
    assert!(matches!(busy, Err(EngineError::Busy)), "{busy:?}");
    round(&world.metacrypt, &KIND, KIND.job.as_ref().unwrap()).await;
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let read = at.read(|items, at| {
        let issuer = ready::issuer(at.mount(), items, "services")?;
        Ok(Ready::of(at.mount())?.served(issuer.id(), at.now()))
    });
    assert!(read.await.unwrap().is_some(), "made by the job");
    drop(held);
    let (next, entries) = list(&world).await;
    assert!(next > number && entries == 1, "{next}, {entries}");
}
