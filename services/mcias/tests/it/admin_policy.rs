//! What administrators do by pages: the login policy and services.

use crate::{
    admin_pages::{SCRIPT, chief, is_nowhere, secret},
    oidc_client::request,
    running::{PASSWORD, Running},
    web::{Answer, Browser, encoded},
};

/// What the last row of an action is about.
const RESOURCE: &str = "SELECT resource FROM audit WHERE action = ?1 ORDER BY seq DESC LIMIT 1";

fn with_text(answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(text), "{text}: {}", answer.body);
}

fn rule<'r>(name: &'r str, effect: &'r str, priority: &'r str) -> Vec<(&'r str, &'r str)> {
    vec![("name", name), ("effect", effect), ("priority", priority)]
}

#[tokio::test]
async fn rules_are_made_in_order_explained_and_removed() {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let mut admin = chief(&running).await;
    let edit = "/admin/rule";
    let new = |effect, priority, more: &[(&'static str, &'static str)]| {
        let mut fields = rule("office", effect, priority);
        fields.push(("new", "yes"));
        fields.extend(more);
        fields
    };
    for (description, fields, status, text) in [
        (
            "no priority",
            new("allow", "high", &[]),
            422,
            "The priority cannot be accepted: it is no whole number.",
        ),
        (
            "no effect",
            new("maybe", "1", &[]),
            422,
            "neither allow nor deny",
        ),
        (
            "no pattern",
            new("deny", "1", &[("services", "a/**/b<i>")]),
            422,
            "services",
        ),
        (
            "everybody locked out",
            new("deny", "1000", &[("comment", "typed <here>")]),
            409,
            "No administrator could log in",
        ),
        (
            "a factor of whom it denies",
            new(
                "deny",
                "1",
                &[("second_factor", "yes"), ("accounts", "ada")],
            ),
            422,
            "a rule that denies asks for nothing",
        ),
    ] {
        let refused = admin.submit(edit, edit, &fields).await;
        assert_eq!(refused.status, status, "{description}: {}", refused.body);
        let text = text.to_lowercase();
        assert!(
            refused.body.to_lowercase().contains(&text),
            "{description}: {}",
            refused.body
        );
        assert_eq!(refused.field("name"), "office", "{description}");
        let of = running
            .database()
            .query_row(RESOURCE, [edit], |row| row.get::<_, String>(0));
        assert_eq!(of.unwrap(), "office", "{description}: in the log");
        assert!(!refused.body.contains("<here>") && !refused.body.contains("<i>"));
    }
    let fields = new(
        "deny",
        "7",
        &[
            ("accounts", "ada"),
            ("services", "mcias"),
            ("comment", SCRIPT),
        ],
    );
    let made = admin.submit(edit, edit, &fields).await;
    assert_eq!(made.location(), "/admin/rules");
    let list = admin.get("/admin/rules").await.body;
    assert!(!list.contains("<script>alert"), "{list}");
    let at = |text: &str| list.find(text).unwrap();
    assert!(at("?name=office") < at("?name=users"), "the highest first");
    with_text(&admin.submit(edit, edit, &fields).await, 409, "already");
    assert!(
        running.log_in("ada", PASSWORD).await.is_err(),
        "it is in force"
    );
    let explain = |account: &str, tags: &str| {
        let query = [("account", account), ("service", "mcias"), ("tags", tags)];
        format!("/admin/explain?{}", encoded(&query))
    };
    let said = admin.get(&explain("ada", "")).await;
    for text in [
        "May not log in",
        "The account is active; rule office",
        "<strong>decides</strong>",
        "matches, but a rule before it decides",
    ] {
        with_text(&said, 200, text);
    }
    let said = admin.get(&explain("admin", "a:b")).await;
    with_text(&said, 200, "it is about the account ada, not admin");
    with_text(&said, 200, "<h2>May log in</h2>");
    with_text(&admin.get(&explain("bob", "")).await, 404, "no account");
    let asked = admin.get(&explain("ada", SCRIPT)).await;
    assert!(!asked.body.contains("<script>alert"), "{}", asked.body);
    // Changed: what was said is in the form, and what is new in force.
    let page = "/admin/rule?name=office";
    let shown = admin.get(page).await;
    with_text(&shown, 200, r#"value="deny" checked"#);
    with_text(&shown, 200, ">ada</textarea>");
    let mut fields = rule("office", "allow", "7");
    fields.push(("accounts", "ada"));
    assert_eq!(
        admin.submit(page, edit, &fields).await.location(),
        "/admin/rules"
    );
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
    let mut fields = rule("careful", "allow", "1");
    fields.extend([
        ("new", "yes"),
        ("accounts", "ada"),
        ("second_factor", "yes"),
    ]);
    let made = admin.submit(edit, edit, &fields).await;
    assert_eq!(made.location(), "/admin/rules", "{}", made.body);
    let said = admin.get(&explain("ada", "")).await;
    for text in [
        ">allow with a second factor</span>",
        "First it has to enrol a second factor: one is demanded, and the account has none.",
    ] {
        with_text(&said, 200, text);
    }
    for (name, status, text) in [
        ("users", 409, "No administrator could log in"),
        ("none", 404, "no rule"),
    ] {
        let path = "/admin/rule/remove";
        let ask = format!("/admin/ask?act={path}&name={name}");
        let refused = admin.submit(&ask, path, &[("name", name)]).await;
        with_text(&refused, status, text);
    }
    let path = "/admin/rule/remove";
    let ask = format!("/admin/ask?act={path}&name=office");
    let removed = admin.submit(&ask, path, &[("name", "office")]).await;
    assert_eq!(removed.location(), "/admin/rules");
    assert_eq!(admin.get(page).await.status, 404);
}

#[tokio::test]
async fn that_everybody_may_everywhere_is_asked_and_what_ends_is_told() {
    let running = Running::start().await;
    running.admin().await.person("gus", "guest").await;
    let mut admin = chief(&running).await;
    let (edit, remove) = ("/admin/rule", "/admin/rule/remove");
    let says = "may log in to every service then";
    let mut fields = rule("open", "allow", "0");
    fields.extend([("new", "yes"), ("services", "*")]);
    let asked = admin.submit(edit, edit, &fields).await;
    with_text(
        &asked,
        409,
        "Everybody, guests included, may log in to every service then.",
    );
    with_text(&asked, 409, r#"name="allow_everybody""#);
    assert!(!asked.body.contains("`"), "{}", asked.body);
    fields.push(("allow_everybody", "yes"));
    let made = admin.submit(edit, edit, &fields).await;
    assert_eq!(made.location(), "/admin/rules");
    let gus = running.log_in("gus", PASSWORD).await;
    assert!(gus.is_ok(), "{gus:?}");
    let mut fields = rule("no-guests", "deny", "9");
    fields.extend([("new", "yes"), ("roles", "guest")]);
    admin.submit(edit, edit, &fields).await;
    let list = admin.get("/admin/rules").await;
    with_text(
        &list,
        200,
        "The rule no-guests is in force. It ended 1 login.",
    );
    // Without it they may again.
    let ask = format!("/admin/ask?act={remove}&name=no-guests");
    let asked = admin.submit(&ask, remove, &[("name", "no-guests")]).await;
    with_text(&asked, 409, says);
    with_text(&asked, 409, r#"name="meant""#);
    let fields = [("name", "no-guests"), ("meant", "yes")];
    let removed = admin.submit(&ask, remove, &fields).await;
    assert_eq!(removed.location(), "/admin/rules");
    // What a rule names stays.
    let mut fields = rule("gus", "deny", "9");
    fields.extend([("new", "yes"), ("accounts", "gus")]);
    admin.submit(edit, edit, &fields).await;
    let path = "/admin/account/remove";
    let ask = format!("/admin/ask?act={path}&name=gus");
    let refused = admin.submit(&ask, path, &[("name", "gus")]).await;
    with_text(&refused, 409, "The rule gus of the login policy names gus");
}

#[tokio::test]
async fn clients_are_made_changed_and_removed() {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let mut admin = chief(&running).await;
    let edit = "/admin/service";
    let redirect = "https://app.example/callback";
    let new = [
        ("new", "yes"),
        ("name", "app"),
        ("redirect_uris", "javascript:alert(1)"),
        ("comment", SCRIPT),
    ];
    let refused = admin.submit(edit, edit, &new).await;
    with_text(&refused, 422, "is neither https://");
    let of = running
        .database()
        .query_row(RESOURCE, [edit], |row| row.get::<_, String>(0));
    assert_eq!(of.unwrap(), "app", "the log says what was refused");
    with_text(&refused, 422, ">javascript:alert(1)</textarea>");
    assert!(!refused.body.contains("<script>alert") && !refused.body.contains("href=\"javascript"));
    let uris = format!("{redirect}\r\nhttps://app.example/other");
    let new = [
        ("new", "yes"),
        ("name", "app"),
        ("redirect_uris", uris.as_str()),
        ("post_logout_redirect_uris", "https://app.example/bye"),
        ("tags", "kind:app"),
        ("comment", SCRIPT),
    ];
    let made = admin.submit(edit, edit, &new).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let first = secret(&made);
    let page = "/admin/service?name=app";
    let pages = [page, "/admin/services", "/admin/audit"];
    is_nowhere(&running, &mut admin, &first, &pages).await;
    let shown = admin.get(page).await;
    with_text(
        &shown,
        200,
        "https://auth.example.org/.well-known/openid-configuration",
    );
    let list = admin.get("/admin/services").await;
    assert!(!list.body.contains("<script>alert"), "{}", list.body);
    with_text(&admin.submit(edit, edit, &new).await, 409, "already");
    // A person can be sent there, by the bytes that were said.
    let mut ada = Browser::new(&running);
    ada.log_in("ada", PASSWORD).await;
    let sent = ada
        .get(&request("app", &[("redirect_uri", redirect)]))
        .await;
    assert!(sent.location().starts_with(redirect), "{}", sent.location());
    // Changed without a new secret; with one.
    let change = [
        ("name", "app"),
        ("redirect_uris", redirect),
        ("comment", "an app"),
    ];
    let changed = admin.submit(page, edit, &change).await;
    assert_eq!(changed.location(), "/admin/services");
    let secret_of = || {
        let sql = "SELECT hex(secret) FROM service WHERE name = 'app'";
        running
            .database()
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let before = secret_of();
    let path = "/admin/service/secret";
    let ask = format!("/admin/ask?act={path}&name=app");
    let second = secret(&admin.submit(&ask, path, &[("name", "app")]).await);
    assert!(second != first && secret_of() != before);
    is_nowhere(&running, &mut admin, &second, &pages).await;
    // This service stays, and is no client.
    let own = "/admin/service?name=mcias";
    let fields = [("name", "mcias"), ("redirect_uris", redirect)];
    with_text(
        &admin.submit(own, edit, &fields).await,
        422,
        "no client of itself",
    );
    let path = "/admin/service/remove";
    let ask = format!("/admin/ask?act={path}&name=mcias");
    let refused = admin.submit(&ask, path, &[("name", "mcias")]).await;
    with_text(&refused, 409, "nobody could log in to it any more");
    let removed = admin.submit(&ask, path, &[("name", "app")]).await;
    assert_eq!(removed.location(), "/admin/services");
    assert_eq!(admin.get(page).await.status, 404);
}

/// Whatever an address says is text.
#[tokio::test]
async fn no_address_puts_a_script_into_a_page() {
    let running = Running::start().await;
    let mut admin = chief(&running).await;
    let fields = [
        "name", "status", "role", "after", "account", "service", "tags", "action", "outcome",
        "since", "until", "before", "act", "id",
    ];
    for path in mcias::admin_paths() {
        for field in fields {
            let query = encoded(&[(field, SCRIPT)]);
            let answer = admin.get(&format!("{path}?{query}")).await;
            assert!(!answer.body.contains("<script>alert"), "{path} {field}");
            assert!(answer.status < 500, "{path} {field}: {}", answer.status);
        }
        let query = encoded(&[("act", path), ("name", SCRIPT), ("id", SCRIPT)]);
        let answer = admin.get(&format!("/admin/ask?{query}")).await;
        assert!(!answer.body.contains("<script>alert"), "asked of {path}");
    }
}
