//! What accounts write to each other, over REST.

use data_encoding::BASE64;
use mc_proto::{
    mcias::v1::DeleteAccountRequest,
    metacrypt::v1::{
        CreateMountRequest, CreateRuleRequest, CreateUserKeysRequest, Rule, SealToUsersRequest,
    },
};
use tonic::Code;

use crate::{
    policy,
    world::{Clients, World},
};

pub(crate) const MOUNT: &str = "mail";

pub(crate) async fn mount(admin: &mut Clients) {
    let request = CreateMountRequest {
        name: MOUNT.to_owned(),
        engine: "user".to_owned(),
    };
    admin.system.create_mount(request).await.unwrap();
}

async fn create(clients: &mut Clients) {
    let mount = MOUNT.to_owned();
    let request = CreateUserKeysRequest { mount };
    clients.user.create_keys(request).await.unwrap();
}

/// Keys of both, who may make some, and what the first one wrote to the second, in Base64.
pub(crate) async fn one_of_each(admin: &mut Clients, ada: &mut Clients) -> String {
    mount(admin).await;
    create(admin).await;
    create(ada).await;
    let request = SealToUsersRequest {
        mount: MOUNT.to_owned(),
        recipients: vec!["ada".to_owned()],
        plaintext: b"vault".to_vec(),
        ..SealToUsersRequest::default()
    };
    let sealed = admin.user.seal(request).await.unwrap();
    BASE64.encode(&sealed.into_inner().sealed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_written_to_reads_it_after_the_seal_was_closed_and_opened() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let token = world.user().await;
    let rule = Rule {
        name: "mail".to_owned(),
        accounts: vec!["ada".to_owned()],
        actions: vec!["user:create".to_owned(), "user:open".to_owned()],
        resources: vec!["mail/users/ada".to_owned()],
        ..Rule::default()
    };
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: false,
    };
    admin.system.create_rule(request).await.unwrap();
    let sealed = one_of_each(&mut admin, &mut world.clients(&token).await).await;
    let root = world.token("admin", &world.mcias.password).await;
    assert_eq!(world.post(&root, "/v1/seal/close", "{}").0, 200);
    world.unseal().await;
    let body = format!("{{\"sealed\": \"{sealed}\"}}");
    let (status, text) = world.post(&token, "/v1/user/mail/open", &body);
    assert_eq!(status, 200, "{text}");
    let opened: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&opened["plaintext"], &opened["sender"]),
        (&"dmF1bHQ=".into(), &"admin".into())
    );
    let (status, text) = world.post(&root, "/v1/user/mail/open", &body);
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("not written to you"), "{text}");
    // What was written is not in the log; who has it finds in which request it was.
    let rows = world.audit();
    assert!(
        rows.iter().all(|row| !row.3.contains("dmF1bHQ")),
        "{rows:#?}"
    );
    let (status, text) = world.post(&root, "/v1/audit/hash", r#"{"input": "dmF1bHQ="}"#);
    assert_eq!(status, 200, "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = found["entries"].as_array().unwrap();
    let wrote = |entry: &serde_json::Value| {
        let action = entry["action"].as_str().unwrap();
        action.ends_with("UserToUser/Seal")
    };
    assert!(found.iter().any(wrote), "{found:?}");
}

/// Who has the name next may have no keys yet: what is written to those of the one before is read by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_keys_of_an_account_that_is_gone() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let rule = policy::allow("hers", &["user:create"], &["mail/users/ada"]);
    policy::put(&mut admin, rule).await;
    mount(&mut admin).await;
    create(&mut admin).await;
    create(&mut world.clients(&world.user().await).await).await;
    let mut mcias = world.mcias.admin().await;
    let write = async |admin: &mut Clients| {
        let request = SealToUsersRequest {
            mount: MOUNT.to_owned(),
            recipients: vec!["ada".to_owned(), "admin".to_owned()],
            plaintext: b"vault".to_vec(),
            ..SealToUsersRequest::default()
        };
        admin.user.seal(request).await.map(drop)
    };
    write(&mut admin).await.unwrap();
    let request = DeleteAccountRequest {
        name: "ada".to_owned(),
    };
    mcias.accounts.delete_account(request).await.unwrap();
    for told in [
        "nobody is called ada in MCIAS any more",
        "in MCIAS now, which has no keys here yet",
    ] {
        let refused = write(&mut admin).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains(told), "{refused:?}");
        if told.starts_with("nobody") {
            mcias.person("ada", "user").await;
        }
    }
    // The rule is about the one before.
    let again = Rule {
        name: "next".to_owned(),
        ..policy::allow("next", &["user:create"], &["mail/users/ada"])
    };
    policy::put(&mut admin, again).await;
    create(&mut world.clients(&world.user().await).await).await;
    write(&mut admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_at_once_says_in_the_log_on_what_it_was() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    mount(&mut admin).await;
    let request = SealToUsersRequest {
        mount: MOUNT.to_owned(),
        ..SealToUsersRequest::default()
    };
    admin.user.seal(request).await.unwrap_err();
    let request = CreateMountRequest {
        name: "Not a name".to_owned(),
        engine: "user".to_owned(),
    };
    admin.system.create_mount(request).await.unwrap_err();
    let rows = world.audit();
    let on = |method: &str, resource: &str| {
        rows.iter().any(|(action, on, outcome, _)| {
            action.ends_with(method) && on == resource && outcome == "INVALID_ARGUMENT"
        })
    };
    assert!(on("/Seal", MOUNT), "{rows:?}");
    assert!(on("/CreateMount", "Not a name"), "{rows:?}");
}
