//! Accounts that are made again, or are called otherwise: a name is whose it is now, an id is one account's for ever.

use super::*;

/// One of this name whose account has another id.
fn again<T>(who: &str, id: &str, message: T) -> Request<T> {
    let mut request = request(who, message);
    let mut caller = caller(
        who,
        "user",
        "/metacircular.metacrypt.v1.UserToUser/Something",
    );
    if let Some(identity) = &mut caller.identity {
        identity.account = id.to_owned();
    }
    request.extensions_mut().insert(caller);
    request
}

fn meaning(name: &str, account: &str) -> pb::SealToUsersRequest {
    pb::SealToUsersRequest {
        meant: vec![pb::UserAccount {
            name: name.to_owned(),
            account: account.to_owned(),
        }],
        ..to(&["dep"])
    }
}

fn keys_of(name: &str) -> pb::GetUserKeysRequest {
    pb::GetUserKeysRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
    }
}

fn gone(account: &str) -> pb::DeleteUserKeysRequest {
    pb::DeleteUserKeysRequest {
        mount: MOUNT.to_owned(),
        name: "dep".to_owned(),
        account: account.to_owned(),
    }
}

/// Ada, and two accounts called `dep`, of which the first was deleted; what Ada wrote to that, and it to her.
async fn made_again() -> (World, Api, [Vec<u8>; 2]) {
    let (world, api) = engine().await;
    for action in ["create", "rotate", "open", "seal", "read", "delete"] {
        let all = ["ada", "dep", "new"];
        allow(
            &world,
            action,
            false,
            &all,
            &format!("user:{action}"),
            "mail/users/*",
        )
        .await;
    }
    api.create_keys(request("ada", own())).await.unwrap();
    api.create_keys(again("dep", "first", own())).await.unwrap();
    let sent = api.seal(request("ada", to(&["dep"]))).await;
    let sent = sent.unwrap().into_inner();
    assert_eq!(sent.recipients[0].account, "first");
    assert!(!sent.recipients[0].name_was_anothers);
    let got = api.seal(again("dep", "first", to(&["ada"]))).await;
    let got = got.unwrap().into_inner().sealed;
    api.create_keys(again("dep", "second", own()))
        .await
        .unwrap();
    (world, api, [sent.sealed, got])
}

#[tokio::test]
async fn keys_of_an_account_are_not_those_of_the_next_one_of_its_name() {
    let (_world, api, [sent, got]) = made_again().await;
    let refused = api.open(again("dep", "second", opening(&sent))).await;
    assert_eq!(
        code(refused),
        Code::InvalidArgument,
        "it was not written to him"
    );
    let opened = api.open(request("ada", opening(&got))).await;
    let opened = opened.unwrap().into_inner();
    assert_eq!((&*opened.sender, &*opened.sender_account), ("dep", "first"));
    assert!(opened.sender_renamed, "another one has the name");
    for (description, asked, wanted) in [
        (
            "who is not there",
            meaning("dep", "first"),
            Code::FailedPrecondition,
        ),
        (
            "not a recipient",
            meaning("eve", "second"),
            Code::InvalidArgument,
        ),
        ("who is there", meaning("dep", "second"), Code::Ok),
    ] {
        let answer = api.seal(request("ada", asked)).await;
        assert_eq!(code(answer), wanted, "{description}");
    }
    let sent = api.seal(request("ada", to(&["dep"]))).await;
    let sent = sent.unwrap().into_inner();
    let wanted = pb::UserRecipient {
        name: "dep".to_owned(),
        account: "second".to_owned(),
        name_was_anothers: true,
    };
    assert_eq!(sent.recipients, [wanted]);
    let opened = api
        .open(again("dep", "second", opening(&sent.sealed)))
        .await;
    assert!(!opened.unwrap().into_inner().sender_renamed);
}

#[tokio::test]
async fn keys_of_an_account_that_is_gone_are_deleted_by_its_id() {
    let (_world, api, [_, got]) = made_again().await;
    let found = api.get_keys(request("ada", keys_of("dep"))).await;
    let found = found.unwrap().into_inner();
    assert_eq!(
        (&*found.account, &found.former[..]),
        ("second", &["first".to_owned()][..])
    );
    let none = api.delete_keys(request("ada", gone("id-of-ada"))).await;
    assert_eq!(code(none), Code::NotFound, "of another name");
    api.delete_keys(request("ada", gone("first")))
        .await
        .unwrap();
    let refused = api.open(request("ada", opening(&got))).await;
    assert_eq!(code(refused), Code::InvalidArgument);
    let left = api.get_keys(request("ada", keys_of("dep"))).await;
    let left = left.unwrap().into_inner();
    assert_eq!(
        (&*left.account, left.former.len(), left.versions.len()),
        ("second", 0, 1)
    );
    api.delete_keys(request("ada", gone(""))).await.unwrap();
    let none = api.get_keys(request("ada", keys_of("dep"))).await;
    assert_eq!(code(none), Code::NotFound);
}

#[tokio::test]
async fn keys_stay_those_of_who_is_called_otherwise() {
    let (_world, api, [sent, _]) = made_again().await;
    // The first one lives and is called otherwise; it makes another version.
    let rotate = pb::RotateUserKeysRequest {
        mount: MOUNT.to_owned(),
    };
    let keys = api.rotate_keys(again("new", "first", rotate)).await;
    let keys = keys.unwrap().into_inner();
    assert_eq!((&*keys.name, &*keys.account), ("new", "first"));
    let opened = api.open(again("new", "first", opening(&sent))).await;
    assert_eq!(opened.unwrap().into_inner().plaintext, b"secret");
    let dep = api.get_keys(request("ada", keys_of("dep"))).await;
    assert!(dep.unwrap().into_inner().former.is_empty());
    let written = api.seal(again("new", "first", to(&["ada"]))).await;
    let written = written.unwrap().into_inner().sealed;
    let opened = api.open(request("ada", opening(&written))).await;
    let opened = opened.unwrap().into_inner();
    assert_eq!((&*opened.sender, opened.sender_renamed), ("new", false));
}

/// Who has a name by now cannot be told.
#[tokio::test]
async fn while_mcias_is_away_nothing_is_written() {
    let (world, api, _) = made_again().await;
    api.seal(request("ada", to(&["dep"]))).await.unwrap();
    let api = world.away();
    let refused = api.seal(request("ada", to(&["dep"]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("\"dep\""), "{refused:?}");
}
