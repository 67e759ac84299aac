mod properties;
mod waited;

use mcdsl::{
    audit::Detail,
    policy::{Effect, Rule, Subjects},
};
use tonic::{Code, Status};

use super::*;
use crate::{
    engine::transit::{KIND, action},
    policy,
    testing::{World, caller},
};

/// What is answered: `OK`, or the code and the text.
fn told<T>(done: Result<T, EngineError>) -> String {
    match done {
        Ok(_) => "OK".to_owned(),
        Err(error) => {
            let status = Status::from(error);
            format!("{:?}: {}", status.code(), status.message())
        }
    }
}

async fn allow(world: &World, name: &str, deny: bool, account: &str, resources: &[&str]) {
    let rule = Rule {
        name: name.to_owned(),
        description: String::new(),
        priority: 0,
        effect: if deny { Effect::Deny } else { Effect::Allow },
        subjects: Subjects {
            accounts: vec![account.to_owned()],
            ..Subjects::default()
        },
        actions: vec!["transit:read".to_owned()],
        resources: resources.iter().map(|r| (*r).to_owned()).collect(),
        resource_tags: Vec::new(),
    };
    let by = caller(
        "root",
        "admin",
        "/metacircular.metacrypt.v1.System/CreateRule",
    );
    let put = move |all: &mut Vec<Rule>| policy::put(all, rule, false);
    let changed = world
        .metacrypt
        .change_policy(&by, false, Detail::new(), put);
    changed.await.unwrap();
}

/// Things with a number, of two sorts that rules name: `things/1` is of `sorts/red`, `things/2` of `sorts/blue`.
async fn things(world: &World) {
    let at = world.metacrypt.own(&KIND, "vault", "test.things").unwrap();
    let put = |items: &Items<'_>, _: &Entered| {
        items.put("things/1", &"red")?;
        Ok(items.put("things/2", &"blue")?)
    };
    at.change(Detail::new(), put, |(), _| ()).await.unwrap();
}

#[tokio::test]
async fn what_is_found_by_one_name_is_judged_by_another_and_neither_is_told() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "red", false, "ada", &["vault/sorts/red"]).await;
    allow(&world, "all", false, "bob", &["vault/sorts/**"]).await;
    allow(&world, "no-blue", true, "bob", &["vault/sorts/blue"]).await;
    allow(&world, "things", false, "eve", &["vault/things/**"]).await;
    let denied = |who: &str, mount: &str, number: &str| {
        format!("PermissionDenied: {who} may not transit:read on {mount}/things/{number}")
    };
    let absent = |number: &str| format!("NotFound: there is no thing {number:?}");
    let no_mount = "NotFound: there is no transit \"nothing\"".to_owned();
    for (who, role, mount, number, wanted) in [
        ("zoe", "user", "vault", "1", denied("zoe", "vault", "1")),
        ("zoe", "user", "vault", "9", denied("zoe", "vault", "9")),
        ("zoe", "user", "nothing", "1", denied("zoe", "nothing", "1")),
        ("ada", "user", "vault", "1", "OK".to_owned()),
        ("ada", "user", "vault", "2", denied("ada", "vault", "2")),
        ("ada", "user", "vault", "9", denied("ada", "vault", "9")),
        ("bob", "user", "vault", "1", "OK".to_owned()),
        ("bob", "user", "vault", "2", denied("bob", "vault", "2")),
        ("bob", "user", "vault", "9", absent("9")),
        ("bob", "user", "nothing", "1", denied("bob", "nothing", "1")),
        // By the number nothing is judged.
        ("eve", "user", "vault", "1", denied("eve", "vault", "1")),
        ("eve", "user", "vault", "9", denied("eve", "vault", "9")),
        ("root", "admin", "vault", "2", "OK".to_owned()),
        ("root", "admin", "vault", "9", absent("9")),
        ("root", "admin", "nothing", "1", no_mount),
    ] {
        let caller = caller(who, role, "/test/Find");
        let visit = world.metacrypt.visit(&caller, &KIND, mount).unwrap();
        let path = format!("things/{number}");
        let find = move |items: &Items<'_>| {
            let found: Option<String> = items.get(&path)?;
            Ok(found.map(|sort| (sort.clone(), vec!["sorts".to_owned(), sort])))
        };
        let asked = ["things", number];
        let found = visit.find(action::READ, "thing", &asked, &["sorts"], find);
        let found = found.await;
        if let Ok((at, _)) = &found {
            assert_eq!(at.name(), number);
            at.done(Detail::new()).await.unwrap();
        }
        assert_eq!(told(found), wanted, "{who} {mount} {number}");
    }
    let rows = world.audit();
    let row = rows.iter().find(|row| row.0.as_deref() == Some("bob"));
    let (_, method, on, detail) = row.unwrap();
    assert_eq!((&**method, &**on), ("/test/Find", "vault/things/1"));
    let wanted = r#"{"by":"rule all","judged":["vault/sorts/red"]}"#;
    assert_eq!(detail, wanted, "by what it was judged");
}

#[tokio::test]
async fn of_several_things_all_are_judged() {
    let world = World::vault().await;
    allow(
        &world,
        "two",
        false,
        "ada",
        &["vault/keys/a", "vault/keys/b"],
    )
    .await;
    let ada = caller("ada", "user", "/test/Judge");
    let visit = world.metacrypt.visit(&ada, &KIND, "vault").unwrap();
    let a: &[&str] = &["keys", "a"];
    let (b, c): (&[&str], &[&str]) = (&["keys", "b"], &["keys", "c"]);
    for (description, on, wanted) in [
        ("all that he may", &[a, b][..], "OK"),
        (
            "one that he may not",
            &[a, b, c],
            "PermissionDenied: ada may not transit:read on vault/keys/c",
        ),
        (
            "nothing",
            &[],
            "InvalidArgument: nothing is named that it is to be done on",
        ),
    ] {
        let judged = visit.judge(action::READ, on);
        if let Ok(at) = &judged {
            at.done(Detail::new()).await.unwrap();
        }
        assert_eq!(told(judged), wanted, "{description}");
    }
    let detail = world.audit().pop().unwrap().3;
    let wanted = r#"{"by":"rule two","judged":["vault/keys/a","vault/keys/b"]}"#;
    assert_eq!(detail, wanted);
}

#[tokio::test]
async fn a_list_has_what_its_reader_may_read_and_says_nothing_of_the_mount() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "one", false, "ada", &["vault/things/1"]).await;
    allow(&world, "gone", false, "ada", &["gone/**"]).await;
    for (who, role, mount, wanted) in [
        ("zoe", "user", "vault", Ok(vec![])),
        ("zoe", "user", "nothing", Ok(vec![])),
        ("ada", "user", "vault", Ok(vec!["1"])),
        ("ada", "user", "nothing", Ok(vec![])),
        ("ada", "user", "gone", Err(Code::NotFound)),
        ("root", "admin", "vault", Ok(vec!["1", "2"])),
        ("root", "admin", "nothing", Err(Code::NotFound)),
    ] {
        let caller = caller(who, role, "/test/List");
        let list = world
            .metacrypt
            .list(&caller, &KIND, action::READ, mount, "things");
        let read = |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
            let all = items.names("things/", "", 10)?;
            let names = all.iter().filter_map(|path| path.strip_prefix("things/"));
            let names = names.filter(|name| may(name)).map(str::to_owned);
            Ok(names.collect::<Vec<_>>())
        };
        let got = match list {
            Ok(list) => list.read(read).await,
            Err(error) => Err(error),
        };
        let got = got.map_err(|error| Status::from(error).code());
        let wanted = wanted.map(|all| all.into_iter().map(str::to_owned).collect());
        assert_eq!(got, wanted, "{who} {mount}");
    }
}

#[tokio::test]
async fn a_list_is_not_even_looked_for_by_who_may_read_nothing() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "one", false, "ada", &["vault/things/1"]).await;
    allow(&world, "all", false, "eve", &["**"]).await;
    allow(&world, "not", true, "eve", &["vault/**"]).await;
    allow(
        &world,
        "other",
        false,
        "zoe",
        &["vaults/**", "vault/thing/**"],
    )
    .await;
    allow(&world, "bob", false, "bob", &["vault/**"]).await;
    allow(&world, "part", true, "bob", &["vault/things/1"]).await;
    for (who, role, wanted) in [
        ("ada", "user", 2),
        ("eve", "user", 0),
        ("zoe", "user", 0),
        ("bob", "user", 2),
        ("root", "admin", 2),
    ] {
        let caller = caller(who, role, "/test/List");
        let list = world
            .metacrypt
            .list(&caller, &KIND, action::READ, "vault", "things");
        let read =
            |items: &Items<'_>, _: &dyn Fn(&str) -> bool| Ok(items.names("things/", "", 10)?.len());
        assert_eq!(list.unwrap().read(read).await.unwrap(), wanted, "{who}");
    }
}

#[tokio::test]
async fn lists_that_have_nothing_for_their_reader_do_not_fill_the_log() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "one", false, "ada", &["vault/things/1"]).await;
    for (who, wanted) in [("zoe", 60), ("ada", 100)] {
        for _ in 0..100 {
            let caller = caller(who, "user", "/test/List");
            let list = world
                .metacrypt
                .list(&caller, &KIND, action::READ, "vault", "things");
            let read = |_: &Items<'_>, may: &dyn Fn(&str) -> bool| Ok([may("1"), may("2")]);
            let read = list.unwrap().read(read).await;
            let read = read.map_err(Status::from);
            world.metacrypt.audit.outcome(&caller, read).await.unwrap();
        }
        let rows = world.audit().into_iter();
        let rows = rows.filter(|row| row.0.as_deref() == Some(who));
        assert_eq!(rows.count(), wanted, "{who}");
    }
}

#[tokio::test]
async fn what_is_public_is_read_by_anybody_of_a_mount_of_that_kind_alone() {
    let world = World::vault().await;
    things(&world).await;
    for (description, mount, on, wanted) in [
        ("a mount", "vault", &["things", "1"][..], "OK"),
        (
            "no mount",
            "nothing",
            &["things"],
            "NotFound: there is no transit \"nothing\"",
        ),
        (
            "one of another kind",
            "system",
            &["things"],
            "NotFound: there is no transit \"system\"",
        ),
        (
            "no name",
            "vault",
            &["a/b"],
            "InvalidArgument: that is nothing that somebody could be allowed to do; a name in it is none: '/' is in no name; letters, digits and -_.:@+=,~ are",
        ),
    ] {
        let public = world.metacrypt.public(&KIND, mount, on);
        if let Ok(public) = &public {
            let read = |items: &Items<'_>| Ok(items.get::<String>("things/1")?);
            assert_eq!(public.read(read).await.unwrap(), Some("red".to_owned()));
        }
        assert_eq!(told(public), wanted, "{description}");
    }
    world.metacrypt.close().await;
    let sealed = told(world.metacrypt.public(&KIND, "vault", &[]));
    assert!(sealed.starts_with("Unavailable"), "{sealed}");
}

#[tokio::test]
async fn what_the_service_does_itself_is_nobodys_in_the_log() {
    let world = World::vault().await;
    things(&world).await;
    let (who, what, on, detail) = world.audit().pop().unwrap();
    assert_eq!(
        (who, &*what, &*on, &*detail),
        (None, "test.things", "vault", "{}")
    );
    let none = told(world.metacrypt.own(&KIND, "nothing", "test.things"));
    assert!(none.starts_with("NotFound"), "{none}");
}

#[tokio::test]
async fn an_account_that_is_stored_is_no_administrator() {
    let root = caller("root", "admin", "/test/Store");
    let stored = crate::account::Account::from(root.identity.as_ref().unwrap());
    let text = serde_json::to_string(&stored).unwrap();
    for text in [
        text.clone(),
        text.replace(r#""roles":[]"#, r#""roles":["admin"]"#),
    ] {
        let stored: crate::account::Account = serde_json::from_str(&text).unwrap();
        assert!(!stored.identity().is_admin(), "{text}");
    }
    let world = World::vault().await;
    let acts = Caller::elsewhere(Some(stored.identity()), root.source, "acme.order");
    let at = world
        .metacrypt
        .enter(&acts, &KIND, action::READ, "vault", &["keys", "a"]);
    let denied = Status::from(at.err().unwrap());
    assert_eq!(denied.code(), Code::PermissionDenied);
    let done = world.metacrypt.audit.outcome(&acts, Err::<(), _>(denied));
    assert!(done.await.is_err());
    let (who, what, on, detail) = world.audit().pop().unwrap();
    assert_eq!(
        (who.as_deref(), &*what, &*on),
        (Some("root"), "acme.order", "vault/keys/a")
    );
    assert!(detail.contains("no rule matches"), "{detail}");
}
