//! What guards the pages, without a browser: tokens of forms, headers, who is logged in.

use std::collections::BTreeMap;

use super::furnished;
use crate::{
    running::PASSWORD,
    web::{Answer, Browser, Http},
    world::World,
};

const POSTS: [&str; 16] = [
    "/mounts",
    "/mounts/pki/delete",
    "/policy/rule",
    "/policy/rule/delete",
    "/pki/pki/issue",
    "/pki/pki/certificate/00/renew",
    "/pki/pki/certificate/00/revoke",
    "/ssh/ssh/sign",
    "/ssh/ssh/certificate/7/revoke",
    "/ssh/ssh/revocations",
    "/ssh/ssh/revocations/lift",
    "/transit/transit/new",
    "/transit/transit/key/backup/rotate",
    "/transit/transit/key/backup/encrypt",
    "/transit/transit/key/backup/decrypt",
    "/seal",
];

fn visitor(world: &World) -> Browser {
    Browser {
        http: Http::at(world.https, &world.mcias.ca.pem()),
        cookies: BTreeMap::new(),
        agent: "Browser/1",
    }
}

/// Logged in by MCIAS.
async fn logged_in(world: &World, account: &str, password: &str) -> Browser {
    let (mut here, mut there) = (visitor(world), Browser::new(&world.mcias));
    there.log_in(account, password).await;
    let away = here.get("/login").await.location().to_owned();
    let back = there.get(away.strip_prefix(&world.issuer).unwrap()).await;
    let back = back.location().strip_prefix(&world.url).unwrap().to_owned();
    assert_eq!(here.get(&back).await.status, 200);
    here
}

fn guarded(what: &str, answer: &Answer) {
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{what}: {policy}");
    assert!(!policy.contains("unsafe"), "{what}: {policy}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    for word in ["<script>", "style=", "onclick", "javascript:"] {
        assert!(!answer.body.contains(word), "{what} has {word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_without_a_form_of_ours_and_a_login() {
    let world = furnished().await;
    let before = world.audit().len();
    let mut nobody = visitor(&world);
    let shown = nobody.get("/").await;
    assert_eq!(shown.status, 200);
    guarded("/", &shown);
    assert!(!shown.body.contains("transit"), "nothing but the seal");
    for path in [
        "/pki/pki",
        "/ssh/ssh/keys",
        "/transit/transit",
        "/mounts",
        "/policy",
        "/audit",
    ] {
        let sent = nobody.get(path).await;
        assert!(sent.location().starts_with("/login?next="), "{path}");
    }
    let mut admin = logged_in(&world, "admin", &world.mcias.password).await;
    let mut ada = logged_in(&world, "ada", PASSWORD).await;
    for path in POSTS {
        // Without a token, and with one of somebody else's.
        let token = ada.get("/mounts").await.field("csrf_token");
        for fields in [&[][..], &[("csrf_token", &*token)]] {
            let answer = admin.post(path, fields).await;
            assert_eq!(answer.status, 403, "{path}: {}", answer.body);
            guarded(path, &answer);
        }
        let elsewhere = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "cross-site"),
        ];
        let token = admin.get("/mounts").await.field("csrf_token");
        let body = format!("csrf_token={token}");
        let answer = admin.send("POST", path, &elsewhere, &body).await;
        assert_eq!(answer.status, 403, "{path} of another site");
        // Nobody at all.
        let answer = nobody.post(path, &[("csrf_token", &token)]).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    let rows = world.audit();
    let mut done = rows[before..].iter();
    let done = done.find(|(action, _, outcome, _)| {
        action.starts_with("/metacircular")
            && outcome == "OK"
            && !action.contains("/List")
            && !action.contains("Get")
    });
    assert!(done.is_none(), "{done:?}");
    for path in [
        "/",
        "/pki/pki",
        "/pki/pki/issue?profile=web",
        "/ssh/ssh/sign",
        "/transit/transit/key/backup",
        "/policy/rule",
        "/audit",
        "/mounts/pki/delete",
        "/nowhere",
        "/pki/pki/certificate/zz",
    ] {
        guarded(path, &admin.get(path).await);
    }
    // What was made is told to the one who asked alone: no cache has the key.
    let fields = [("profile", "web"), ("names", "a.example.org")];
    let issued = admin
        .submit("/pki/pki/issue?profile=web", "/pki/pki/issue", &fields)
        .await;
    assert_eq!(issued.status, 200, "{}", issued.body);
    assert!(issued.body.contains("BEGIN PRIVATE KEY"));
    guarded("issued", &issued);
    // Names of others do not become markup.
    let fields = [("name", "<b>x</b>\"'"), ("engine", "<i>")];
    let refused = admin.submit("/mounts", "/mounts", &fields).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(!refused.body.contains("<b>x") && !refused.body.contains("<i>"));
}
