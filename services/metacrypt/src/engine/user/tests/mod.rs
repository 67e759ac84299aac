//! What is written is read by those alone whom it was written to.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mc_proto::metacrypt::v1::{self as pb, user_to_user_server::UserToUser as _};
use mcdsl::{
    audit::Detail,
    policy::{Effect, Rule, Subjects},
};
use tonic::{Code, Request, Response, Status};

use super::{
    key::Curve,
    sealed::{Sealed, seal},
    *,
};
use crate::{
    api::Api,
    policy,
    testing::{World, caller, nothing},
};

mod accounts;

const NOW: SystemTime = UNIX_EPOCH;

fn keys(name: &str) -> Keys {
    let account = format!("id-of-{name}").parse().unwrap();
    Keys::new(account, name.parse().unwrap(), NOW).unwrap()
}

/// What a reader opens, if he does.
fn open(sealed: &[u8], reader: &Keys, sender: &Keys, about: &[u8]) -> Option<Vec<u8>> {
    let opened = Sealed::read(sealed)?.open(reader, sender, about)?;
    Some(opened.plaintext.to_vec())
}

#[test]
fn recipients_open_it_and_nobody_else() {
    let (ada, eve) = (keys("ada"), keys("eve"));
    for curve in Curve::ALL {
        let to = [keys("bob"), keys("eli")];
        let sealed = seal(&ada, &to, curve, b"secret", b"about", NOW).unwrap();
        let again = seal(&ada, &to, curve, b"secret", b"about", NOW).unwrap();
        assert_ne!(sealed, again, "twice alike");
        let [mut bob, two] = to;
        for (description, reader, sender, about, good) in [
            ("the first", &bob, &ada, &b"about"[..], true),
            ("the second", &two, &ada, b"about", true),
            ("another", &eve, &ada, b"about", false),
            ("who wrote it", &ada, &ada, b"about", false),
            ("about something else", &bob, &ada, b"other", false),
            ("as if another had written it", &bob, &eve, b"about", false),
        ] {
            let opened = open(&sealed, reader, sender, about);
            let wanted = good.then(|| b"secret".to_vec());
            assert_eq!(opened, wanted, "{description}, {curve:?}");
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(
                open(&changed, &bob, &ada, b"about"),
                None,
                "a bit of byte {at}"
            );
            assert_eq!(
                open(&sealed[..at], &bob, &ada, b"about"),
                None,
                "cut at {at}"
            );
        }
        bob.rotate(NOW).unwrap();
        assert!(
            open(&sealed, &bob, &ada, b"about").is_some(),
            "after a rotation"
        );
        let next = seal(&ada, std::slice::from_ref(&bob), curve, b"", b"", NOW).unwrap();
        bob.forget_before(2).unwrap();
        assert!(
            open(&sealed, &bob, &ada, b"about").is_none(),
            "it was dropped"
        );
        assert_eq!(open(&next, &bob, &ada, b"").unwrap(), b"");
        let own = seal(&bob, std::slice::from_ref(&bob), curve, b"note", b"", NOW).unwrap();
        assert_eq!(open(&own, &bob, &bob, b"").unwrap(), b"note", "to oneself");
    }
}

#[test]
fn a_key_for_one_is_none_for_another() {
    let (ada, both) = (keys("ada"), [keys("eve"), keys("bob")]);
    let sealed = seal(&ada, &both, Curve::X25519, b"secret", b"", NOW).unwrap();
    let mut whole = <pb::SealedToUsers as prost::Message>::decode(&*sealed).unwrap();
    let mut header = <pb::SealedHeader as prost::Message>::decode(&*whole.header).unwrap();
    let [first, second] = &mut header.keys[..] else {
        panic!("two");
    };
    std::mem::swap(&mut first.key, &mut second.key);
    whole.header = prost::Message::encode_to_vec(&header);
    let swapped = prost::Message::encode_to_vec(&whole);
    for reader in both {
        assert!(open(&sealed, &reader, &ada, b"").is_some());
        assert_eq!(open(&swapped, &reader, &ada, b""), None);
    }
}

#[test]
fn what_was_not_written_here_is_not_read() {
    let (ada, bob) = (keys("ada"), keys("bob"));
    let to = std::slice::from_ref(&bob);
    let sealed = seal(&ada, to, Curve::X25519, b"secret", b"", NOW).unwrap();
    // A field that nobody knows, with a number in it.
    let unknown = [0x78, 0x01];
    let more = [&sealed[..], &unknown].concat();
    assert!(Sealed::read(&more).is_none(), "beside the body");
    let mut whole = <pb::SealedToUsers as prost::Message>::decode(&*sealed).unwrap();
    whole.header.extend_from_slice(&unknown);
    let more = prost::Message::encode_to_vec(&whole);
    assert!(Sealed::read(&more).is_none(), "in the header");
}

#[test]
fn versions_are_bounded_and_have_numbers_of_their_own() {
    let mut keys = keys("ada");
    for _ in 1..key::MAX_VERSIONS {
        keys.rotate(NOW).unwrap();
    }
    let refused = keys.rotate(NOW).unwrap_err().to_string();
    assert!(refused.contains("min_version"), "{refused}");
    for number in [0, 257] {
        assert!(keys.forget_before(number).is_err(), "{number}");
    }
    keys.forget_before(256).unwrap();
    keys.rotate(NOW).unwrap();
    let numbers: Vec<_> = keys.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [256, 257]);
}

fn request<T>(who: &str, message: T) -> Request<T> {
    let role = if who == "root" { "admin" } else { "user" };
    let mut request = Request::new(message);
    let caller = caller(who, role, "/metacircular.metacrypt.v1.UserToUser/Something");
    request.extensions_mut().insert(caller);
    request
}

fn code<T>(answer: Result<Response<T>, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

const MOUNT: &str = "mail";

async fn engine() -> (World, Api) {
    let world = World::open().await;
    world
        .metacrypt
        .mount(MOUNT, "user", nothing())
        .await
        .unwrap();
    let api = Api(Arc::clone(&world.metacrypt));
    (world, api)
}

async fn allow(world: &World, name: &str, deny: bool, accounts: &[&str], action: &str, on: &str) {
    let rule = Rule {
        name: name.to_owned(),
        description: String::new(),
        priority: 0,
        effect: if deny { Effect::Deny } else { Effect::Allow },
        subjects: Subjects {
            accounts: accounts.iter().map(|one| (*one).to_owned()).collect(),
            ..Subjects::default()
        },
        actions: vec![action.to_owned()],
        resources: vec![on.to_owned()],
        resource_tags: Vec::new(),
    };
    let root = caller(
        "root",
        "admin",
        "/metacircular.metacrypt.v1.System/CreateRule",
    );
    let put = move |all: &mut Vec<Rule>| policy::put(all, rule, false);
    let changed = world
        .metacrypt
        .change_policy(&root, false, Detail::new(), put);
    changed.await.unwrap();
}

fn own() -> pb::CreateUserKeysRequest {
    pb::CreateUserKeysRequest {
        mount: MOUNT.to_owned(),
    }
}

fn to(recipients: &[&str]) -> pb::SealToUsersRequest {
    pb::SealToUsersRequest {
        mount: MOUNT.to_owned(),
        recipients: recipients.iter().map(|one| (*one).to_owned()).collect(),
        plaintext: b"secret".to_vec(),
        ..pb::SealToUsersRequest::default()
    }
}

fn opening(sealed: &[u8]) -> pb::OpenFromUserRequest {
    pb::OpenFromUserRequest {
        mount: MOUNT.to_owned(),
        sealed: sealed.to_vec(),
        associated_data: Vec::new(),
    }
}

#[tokio::test]
async fn each_recipient_is_judged_and_each_reads_by_his_own_keys() {
    let (world, api) = engine().await;
    assert_eq!(
        code(api.create_keys(request("ada", own())).await),
        Code::PermissionDenied
    );
    for name in ["ada", "bob", "eve"] {
        let on = format!("{MOUNT}/users/{name}");
        for action in ["user:create", "user:rotate", "user:trim", "user:open"] {
            let rule = format!("{name}-{}", action.replace(':', "-"));
            allow(&world, &rule, false, &[name], action, &on).await;
        }
        api.create_keys(request(name, own())).await.unwrap();
        let again = api.create_keys(request(name, own())).await.unwrap();
        assert_eq!(again.into_inner().versions.len(), 1, "they are there");
    }
    allow(
        &world,
        "write",
        false,
        &["ada"],
        "user:seal",
        "mail/users/*",
    )
    .await;
    allow(
        &world,
        "not-eve",
        true,
        &["ada"],
        "user:seal",
        "mail/users/eve",
    )
    .await;
    for (description, who, recipients, wanted) in [
        ("nobody", "ada", &[][..], Code::InvalidArgument),
        ("one who is denied", "ada", &["eve"], Code::PermissionDenied),
        ("one of two", "ada", &["bob", "eve"], Code::PermissionDenied),
        ("without keys", "ada", &["bob", "zoe"], Code::NotFound),
        ("no name", "ada", &["a/b"], Code::InvalidArgument),
        ("who may not", "bob", &["ada"], Code::PermissionDenied),
        (
            "without keys of one's own",
            "root",
            &["ada"],
            Code::FailedPrecondition,
        ),
        ("oneself and another", "ada", &["ada", "bob"], Code::Ok),
    ] {
        let answer = api.seal(request(who, to(recipients))).await;
        assert_eq!(code(answer), wanted, "{description}");
    }
    let many: Vec<_> = (0..65).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let refused = api.seal(request("ada", to(&many))).await.unwrap_err();
    assert!(
        refused.message().starts_with("recipients: 1 to 64"),
        "{refused:?}"
    );
    let sealed = api.seal(request("ada", to(&["bob"]))).await;
    let sealed = sealed.unwrap().into_inner().sealed;
    world.clock.advance(Duration::from_secs(60));
    api.rotate_keys(request(
        "bob",
        pb::RotateUserKeysRequest {
            mount: MOUNT.to_owned(),
        },
    ))
    .await
    .unwrap();
    let opened = api.open(request("bob", opening(&sealed))).await;
    let opened = opened.unwrap().into_inner();
    assert_eq!(
        (&*opened.plaintext, &*opened.sender),
        (&b"secret"[..], "ada")
    );
    for (who, sealed) in [("eve", &sealed[..]), ("bob", b"nothing"), ("bob", b"")] {
        let answer = api.open(request(who, opening(sealed))).await;
        assert_eq!(code(answer), Code::InvalidArgument, "{who}");
    }
    let trim = pb::TrimUserKeysRequest {
        mount: MOUNT.to_owned(),
        min_version: 2,
    };
    let left = api
        .trim_keys(request("bob", trim))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.versions.len(), 1);
    assert_eq!(
        code(api.open(request("bob", opening(&sealed))).await),
        Code::InvalidArgument
    );
    let gone = pb::DeleteUserKeysRequest {
        mount: MOUNT.to_owned(),
        name: "bob".to_owned(),
        account: String::new(),
    };
    api.delete_keys(request("root", gone)).await.unwrap();
    assert_eq!(
        code(api.seal(request("ada", to(&["bob"]))).await),
        Code::NotFound
    );
}
