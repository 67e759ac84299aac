//! Lists.

use super::*;

#[tokio::test]
async fn certificates_are_listed_as_they_expire_and_dropped_long_after() {
    let engine = Engine::new().await;
    for (name, action) in [("sign", "ssh:sign"), ("read", "ssh:read")] {
        engine.allow(name, false, action, "ssh/profiles/**").await;
    }
    let long = engine.sign("ada", "people", 7200).await.unwrap();
    let short = engine.sign("ada", "others", 60).await.unwrap();
    let middle = engine.sign("ada", "people", 600).await.unwrap();
    let asked = Engine::asked;
    let in_s = |seconds| Some((engine.world.clock.now() + Duration::from_secs(seconds)).into());
    let of = |profile: &str| pb::ListSshCertificatesRequest {
        profile: profile.to_owned(),
        ..asked()
    };
    let (long, short, middle) = (long.serial, short.serial, middle.serial);
    let eve = pb::ListSshCertificatesRequest {
        key_id: "eve".to_owned(),
        ..asked()
    };
    let before = pb::ListSshCertificatesRequest {
        expires_before: in_s(601),
        ..asked()
    };
    let from = pb::ListSshCertificatesRequest {
        expires_from: in_s(600),
        ..asked()
    };
    for (description, asked, wanted) in [
        ("all", asked(), &[short, middle, long][..]),
        ("of a profile", of("people"), &[middle, long]),
        ("of an account", eve, &[]),
        ("that expire soon", before, &[short, middle]),
        ("that do not", from, &[middle, long]),
    ] {
        let listed = engine.list("ada", asked).await;
        assert_eq!(listed, (wanted.to_vec(), String::new()), "{description}");
    }
    let mut seen = Vec::new();
    let mut page = pb::ListSshCertificatesRequest {
        limit: 1,
        ..asked()
    };
    loop {
        let (serials, next) = engine.list("ada", page.clone()).await;
        seen.extend(serials);
        if next.is_empty() {
            break;
        }
        page.after = next;
    }
    assert_eq!(seen, [short, middle, long]);

    engine.revoke("root", short).await.unwrap();
    let version = engine.version().await;
    let job = KIND.job.as_ref().unwrap();
    let tidy = async || jobs::round(&engine.world.metacrypt, &KIND, job).await;
    engine
        .world
        .clock
        .advance(Duration::from_secs(30 * 24 * 3600 + 59));
    tidy().await;
    assert!(
        engine.get("ada", short).await.unwrap().revoked,
        "for 30 days"
    );
    engine.world.clock.advance(Duration::from_secs(1));
    tidy().await;
    assert_eq!(
        engine.get("ada", short).await.unwrap_err().0,
        Code::NotFound
    );
    assert!(engine.version().await > version);
    let all = pb::ListSshCertificatesRequest {
        expires_from: Some(UNIX_EPOCH.into()),
        ..asked()
    };
    assert_eq!(engine.list("ada", all).await.0, [middle, long]);
    assert_eq!(engine.list("ada", asked()).await.0, [0; 0], "from now on");
}

#[tokio::test]
async fn a_list_goes_on_for_its_reader_alone_and_tells_no_name() {
    let engine = Engine::new().await;
    engine
        .allow("read", false, "ssh:read", "ssh/profiles/**")
        .await;
    let list = async |who: &str, after: &str| {
        let message = pb::ListSshProfilesRequest {
            mount: MOUNT.to_owned(),
            after: after.to_owned(),
            limit: 1,
        };
        told(engine.api.list_profiles(request(who, message)).await)
    };
    let first = list("ada", "").await.unwrap();
    assert_eq!(first.profiles[0].name, "others");
    assert!(!first.next.contains("others"), "{first:?}");
    let second = list("ada", &first.next).await.unwrap();
    assert_eq!((&*second.profiles[0].name, &*second.next), ("people", ""));
    for after in [&*first.next, "others"] {
        let refused = list("root", after).await.unwrap_err();
        assert_eq!(refused.0, Code::InvalidArgument, "{refused:?}");
    }
    let certificates = pb::ListSshCertificatesRequest {
        after: first.next,
        ..Engine::asked()
    };
    let refused = engine.api.list_certificates(request("ada", certificates));
    assert_eq!(told(refused.await).unwrap_err().0, Code::InvalidArgument);
}
