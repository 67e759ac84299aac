//! What administrators do by pages: accounts, tokens, the audit log.

use mc_proto::mcias::v1::{VerifyAuditRequest, WhoAmIRequest};

use crate::{
    running::Running,
    web::{Answer, Browser},
};

/// What would be a script, were it not escaped.
pub(crate) const SCRIPT: &str = "\"'><script>alert(1)</script>";

/// An administrator's browser.
pub(crate) async fn chief(running: &Running) -> Browser {
    let mut browser = Browser::new(running);
    browser.log_in("admin", &running.password).await;
    browser
}

/// The secret that a page shows.
pub(crate) fn secret(answer: &Answer) -> String {
    let rest = answer.body.split(r#"role="group">"#).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{}: no secret: {}", answer.status, answer.body));
    rest.split('<').next().unwrap().to_owned()
}

/// Nothing of it is in a page or the database: not a second time, not in the audit log.
pub(crate) async fn is_nowhere(
    running: &Running,
    browser: &mut Browser,
    secret: &str,
    pages: &[&str],
) {
    for page in pages {
        let answer = browser.get(page).await;
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.body.contains(secret), "{page}");
    }
    for file in ["mcias.db", "mcias.db-wal"] {
        let bytes = std::fs::read(running.root.path().join(file)).unwrap();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{file}");
    }
}

fn with_text(answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(text), "{text}: {}", answer.body);
}

#[tokio::test]
async fn an_account_is_made_changed_and_removed() {
    let running = Running::start().await;
    let mut admin = chief(&running).await;
    let new = "/admin/accounts/new";
    let typed = [
        ("name", "Ada \"<b>"),
        ("account_type", "human"),
        ("roles", "guest"),
        ("tags", "team:infra\r\n<i>"),
        ("second_factor_required", "yes"),
    ];
    let refused = admin.submit(new, new, &typed).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    for kept in [
        r#"value="Ada &#34;&#60;b&#62;""#,
        "team:infra",
        "&#60;i&#62;",
        r#"value="guest" checked"#,
        r#"value="yes" checked"#,
    ] {
        assert!(refused.body.contains(kept), "{kept}: {}", refused.body);
    }
    assert!(
        !refused.body.contains(r#"value="user" checked"#),
        "only what was typed"
    );
    let typed = [
        ("name", "ada"),
        ("account_type", "human"),
        ("roles", "admin"),
        ("roles", "user"),
        ("tags", "team:infra"),
    ];
    let made = admin.submit(new, new, &typed).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let password = secret(&made);
    with_text(&admin.submit(new, new, &typed).await, 409, "already");
    let page = "/admin/account?name=ada";
    let pages = ["/admin/accounts", page, "/admin/audit", "/"];
    is_nowhere(&running, &mut admin, &password, &pages).await;
    let mut ada = Browser::new(&running);
    let sent = ada.log_in("ada", &password).await;
    assert_eq!(
        sent.location(),
        "/password?next=%2F",
        "it has to be changed"
    );
    // It loses a role, and with it its login.
    let change = [
        ("name", "ada"),
        ("status", "active"),
        ("roles", "user"),
        ("tags", "a:b\r\nc:d"),
        ("second_factor_required", "yes"),
    ];
    let changed = admin.submit(page, "/admin/account/change", &change).await;
    assert_eq!(changed.location(), page);
    let shown = admin.get(page).await;
    assert!(shown.body.contains("a:b\nc:d") && shown.body.contains("Changed."));
    let listed = admin.get("/admin/accounts").await;
    with_text(
        &listed,
        200,
        r#"none <span class="badge warning">required<"#,
    );
    assert_eq!(ada.get("/").await.status, 303);
    // What takes something away is asked first.
    for (act, button) in [
        ("reset-password", "Reset the password"),
        ("end-logins", "End them"),
        ("clear-second-factors", "Take them away"),
        ("remove", "Remove the account"),
    ] {
        let path = format!("/admin/account/{act}");
        let ask = format!("/admin/ask?act={path}&name=ada");
        with_text(&admin.get(&ask).await, 200, button);
        let answer = admin.submit(&ask, &path, &[("name", "ada")]).await;
        match act {
            "reset-password" => {
                let new = secret(&answer);
                assert_ne!(new, password);
                is_nowhere(&running, &mut admin, &new, &pages).await;
                assert!(running.log_in("ada", &new).await.is_ok());
            }
            "remove" => assert_eq!(answer.location(), "/admin/accounts"),
            _ => assert_eq!(answer.location(), page, "{act}"),
        }
    }
    with_text(&admin.get("/admin/accounts").await, 200, "ada is removed.");
    assert_eq!(admin.get(page).await.status, 404);
    let sql = "SELECT group_concat(action, ' ') FROM (SELECT action FROM audit
        WHERE outcome = 'OK' AND resource = 'ada' AND name = 'admin' ORDER BY seq)";
    let actions: String = running
        .database()
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    let wanted = "/admin/accounts/new /admin/account/change /admin/account/reset-password \
         /admin/account/end-logins /admin/account/clear-second-factors /admin/account/remove";
    assert_eq!(actions, wanted);
}

#[tokio::test]
async fn the_last_administrator_stays_by_pages_too() {
    let running = Running::start().await;
    let mut admin = chief(&running).await;
    let page = "/admin/account?name=admin";
    for (description, status, roles) in [
        ("disabled", "disabled", "admin"),
        ("without the role", "active", "user"),
    ] {
        let fields = [
            ("name", "admin"),
            ("status", status),
            ("roles", roles),
            ("tags", "typed:here"),
        ];
        let refused = admin.submit(page, "/admin/account/change", &fields).await;
        with_text(&refused, 409, "No administrator could log in");
        with_text(&refused, 409, "typed:here");
        let kept = format!("<option selected>{status}</option>");
        assert!(refused.body.contains(&kept), "{description}");
    }
    let path = "/admin/account/remove";
    let ask = format!("/admin/ask?act={path}&name=admin");
    let refused = admin.submit(&ask, path, &[("name", "admin")]).await;
    with_text(&refused, 409, "No administrator could log in");
    with_text(&refused, 409, "Remove the account");
    let list = admin.get("/admin/accounts").await;
    assert_eq!(list.status, 200, "still logged in");
    let sql = "SELECT count(*) FROM audit WHERE outcome = 'FAILED_PRECONDITION' AND name = 'admin'";
    let refused: i64 = running
        .database()
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    assert_eq!(refused, 3, "what was refused is in the log");
}

#[tokio::test]
async fn accounts_are_found_a_page_at_a_time() {
    let running = Running::start().await;
    let mut api = running.admin().await;
    for number in 0..60 {
        api.system(&format!("robot-{number:02}")).await;
    }
    let mut admin = chief(&running).await;
    let mut seen = Vec::new();
    let mut path = "/admin/accounts?name=robot".to_owned();
    for _ in 0..3 {
        let list = admin.get(&path).await.body;
        let names = list.split("/admin/account?name=").skip(1);
        seen.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
        let next = list
            .split(r#"rel="next""#)
            .next()
            .filter(|_| list.contains(r#"rel="next""#));
        let Some(before) = next else { break };
        let link = before.rsplit(r#"href=""#).next().unwrap();
        path = link.split('"').next().unwrap().replace("&#38;", "&");
    }
    let wanted: Vec<String> = (0..60).map(|number| format!("robot-{number:02}")).collect();
    assert_eq!(seen, wanted);
    for (description, query, found) in [
        ("by a part", "name=OBOT-07", true),
        ("another status", "name=obot-07&status=locked", false),
        ("a role that it has not", "name=obot-07&role=admin", false),
        ("no grammar", "name=%25", false),
    ] {
        let list = admin.get(&format!("/admin/accounts?{query}")).await;
        assert_eq!(list.body.contains("robot-07"), found, "{description}");
    }
    let admins = admin.get("/admin/accounts?role=admin&status=active").await;
    assert!(admins.body.contains("?name=admin"), "{}", admins.body);
}

#[tokio::test]
async fn tokens_are_issued_replaced_and_revoked() {
    let running = Running::start().await;
    running.admin().await.system("robot").await;
    let mut admin = chief(&running).await;
    let page = "/admin/account?name=robot";
    let issue = |services, days, comment| {
        [
            ("name", "robot"),
            ("services", services),
            ("days", days),
            ("comment", comment),
        ]
    };
    for (description, services, days, status, text) in [
        ("no number", "mcias", "a year", 422, "no number from 1 to"),
        ("too long", "mcias", "4000", 422, "no number from 1 to"),
        (
            "a service that there is not",
            "nothing",
            "1",
            404,
            "no service",
        ),
    ] {
        let fields = issue(services, days, "for <tests>");
        let refused = admin.submit(page, "/admin/token/issue", &fields).await;
        assert_eq!(refused.status, status, "{description}: {}", refused.body);
        assert!(
            refused.body.contains(text),
            "{description}: {}",
            refused.body
        );
        assert!(
            refused.body.contains("for &#60;tests&#62;"),
            "{description}"
        );
    }
    let fields = issue("mcias", "30", SCRIPT);
    let issued = admin.submit(page, "/admin/token/issue", &fields).await;
    let first = secret(&issued);
    let pages = [page, "/admin/accounts", "/admin/audit"];
    is_nowhere(&running, &mut admin, &first, &pages).await;
    let shown = admin.get(page).await;
    assert!(!shown.body.contains("<script>alert"), "{}", shown.body);
    let works = async |token: &str| {
        let mut clients = running.clients(Some(token)).await;
        clients.auth.who_am_i(WhoAmIRequest {}).await.is_ok()
    };
    assert!(works(&first).await);
    let id = |page: &Answer| {
        let rest = page.body.split("Revoke the token ").nth(1);
        rest.map(|rest| rest.split('"').next().unwrap().to_owned())
    };
    let old = id(&shown).unwrap();
    let path = "/admin/token/rotate";
    let ask = format!("/admin/ask?act={path}&name=robot&id={old}");
    let fields = [("name", "robot"), ("id", old.as_str())];
    let second = secret(&admin.submit(&ask, path, &fields).await);
    is_nowhere(&running, &mut admin, &second, &pages).await;
    assert!(!works(&first).await && works(&second).await);
    let again = admin.submit(&ask, path, &fields).await;
    with_text(&again, 409, "The token is revoked");
    let new = id(&admin.get(page).await).unwrap();
    let path = "/admin/token/revoke";
    let fields = [("name", "robot"), ("id", new.as_str())];
    let revoked = admin.submit(&ask, path, &fields).await;
    assert_eq!(revoked.location(), page);
    assert!(!works(&second).await);
    assert_eq!(id(&admin.get(page).await), None, "none is valid");
    // People have none.
    let fields = [("name", "admin"), ("services", "mcias"), ("days", "1")];
    let refused = admin.submit(page, "/admin/token/issue", &fields).await;
    with_text(&refused, 409, "people get their tokens by logging in");
}

#[tokio::test]
async fn the_log_is_read_and_verified() {
    let running = Running::start().await;
    let mut api = running.admin().await;
    for number in 0..60 {
        api.system(&format!("robot-{number:02}")).await;
    }
    api.person("ada", "user").await;
    let mut ada = Browser::new(&running);
    ada.log_in("ada", "wrong").await;
    let mut admin = chief(&running).await;
    let list = admin.get("/admin/audit").await.body;
    let words = [
        r#"<option value="failed">failed: everything but ok<"#,
        r#"<span class="badge success">ok<"#,
        r#"<span class="badge warning">denied</span><br><span class="muted">unauthenticated<"#,
    ];
    assert!(words.iter().all(|text| list.contains(text)), "{list}");
    assert!(!list.contains("robot-00"));
    let before = list.split("before=").nth(1).unwrap();
    let before = before.split('"').next().unwrap();
    let older = admin
        .get(&format!("/admin/audit?before={before}"))
        .await
        .body;
    assert!(older.contains("robot-00") && older.contains("Newest"));
    for (description, query, found) in [
        ("by account", "account=admin", true),
        ("by another's", "account=ada", false),
        (
            "by action",
            "action=/metacircular.mcias.v1.Accounts/Create",
            true,
        ),
        ("by a method", "action=CreateAccount", true),
        ("with its service", "action=Accounts/CreateAccount", true),
        ("by another method", "action=Login", false),
        ("by another action", "action=/login", false),
        ("by outcome", "outcome=ok&account=admin", true),
        ("by another outcome", "outcome=denied", false),
        ("since then", "since=2000-01-01T00:00", true),
        ("until then", "until=2000-01-01T00:00", false),
    ] {
        let list = admin.get(&format!("/admin/audit?{query}")).await;
        assert_eq!(list.status, 200, "{description}");
        assert_eq!(list.body.contains("robot-59"), found, "{description}");
    }
    with_text(
        &admin.get("/admin/audit?since=then").await,
        422,
        "is no time: write it",
    );
    let verify = "/admin/audit/verify";
    let sound = admin.submit("/admin/audit", verify, &[]).await;
    with_text(&sound, 200, "rows are as they were written");
    let head = api
        .admin
        .verify_audit(VerifyAuditRequest::default())
        .await
        .unwrap()
        .into_inner();
    with_text(&sound, 200, &head.head_hash);
    let known = head.head_number.to_string();
    let noted = [("number", known.as_str()), ("hash", &head.head_hash)];
    with_text(
        &admin.submit("/admin/audit", verify, &noted).await,
        200,
        "as they were",
    );
    let wrong = [("number", known.as_str()), ("hash", "12")];
    let refused = admin.submit("/admin/audit", verify, &wrong).await;
    with_text(&refused, 422, "64 hexadecimal digits");
    let other = "0".repeat(64);
    let wrong = [("number", known.as_str()), ("hash", &other)];
    let found = admin.submit("/admin/audit", verify, &wrong).await;
    with_text(&found, 200, "not as it was written");
    let database = running.database();
    database
        .execute_batch("UPDATE audit SET detail = '<script>alert(1)</script>' WHERE seq = 5")
        .unwrap();
    let found = admin.submit("/admin/audit", verify, &[]).await;
    with_text(&found, 200, "The log is not as it was written");
    let shown = admin.get("/admin/audit?before=20").await;
    assert!(
        !shown.body.contains("<script>alert"),
        "what was changed is shown as text"
    );
}
