//! Who gets to pages for administrators: every one of them, by everybody.

use mc_proto::mcias::v1::{PutRuleRequest, RevokeRequest, Rule, revoke_request::What};

use crate::{
    running::{PASSWORD, Running},
    web::{Answer, Browser},
};

/// What there is, and what there is not.
fn paths() -> Vec<&'static str> {
    let nothing = ["/admin/", "/admin/nothing", "/admin/accounts/nothing/more"];
    mcias::admin_paths().chain(nothing).collect()
}

/// Somebody's browser, and a token for its forms.
async fn somebody(running: &Running, account: &str, password: &str) -> (Browser, String) {
    let mut browser = Browser::new(running);
    browser.log_in(account, password).await;
    let token = browser.get("/sessions").await.field("csrf_token");
    (browser, token)
}

/// The status of an answer, and of a redirect where it leads.
fn brief(answer: &Answer) -> (u16, String) {
    let to = answer.header("location").split('?').next();
    (answer.status, to.unwrap_or_default().to_owned())
}

fn rows(running: &Running) -> i64 {
    let sql = "SELECT count(*) FROM audit WHERE outcome = 'OK' AND action LIKE '/admin%'";
    let count = running.database().query_row(sql, [], |row| row.get(0));
    count.unwrap()
}

#[tokio::test]
async fn every_page_lets_in_administrators_alone() {
    let running = Running::start().await;
    let mut api = running.admin().await;
    for (name, role) in [("ulf", "user"), ("gil", "guest"), ("gone", "admin")] {
        api.person(name, role).await;
    }
    let rule = Rule {
        name: "guests".to_owned(),
        roles: vec!["guest".to_owned()],
        ..Rule::default()
    };
    let request = PutRuleRequest {
        rule: Some(rule),
        allow_everybody: true,
    };
    api.admin.put_rule(request).await.unwrap();
    let mut nobody = Browser::new(&running);
    let login = nobody.get("/login").await.field("csrf_token");
    let (user, user_token) = somebody(&running, "ulf", PASSWORD).await;
    let (guest, guest_token) = somebody(&running, "gil", PASSWORD).await;
    let (gone, gone_token) = somebody(&running, "gone", PASSWORD).await;
    let what = Some(What::Account("gone".to_owned()));
    api.accounts
        .revoke(RevokeRequest {
            what,
            ..RevokeRequest::default()
        })
        .await
        .unwrap();
    let (mut admin, token) = somebody(&running, "admin", &running.password).await;
    let to_login = (303, "/login".to_owned());
    let mut told = None;
    for path in paths() {
        let answer = nobody.get(path).await;
        assert_eq!(brief(&answer), to_login, "GET {path} by nobody");
        let answer = nobody.post(path, &[("csrf_token", &login)]).await;
        assert_eq!(brief(&answer), to_login, "POST {path} by nobody");
        for (who, browser, token) in [
            ("a user", &user, &user_token),
            ("a guest", &guest, &guest_token),
        ] {
            for method in ["GET", "POST"] {
                let mut browser = browser.clone();
                let answer = match method {
                    "GET" => browser.get(path).await,
                    _ => browser.post(path, &[("csrf_token", token)]).await,
                };
                assert_eq!(answer.status, 403, "{method} {path} by {who}");
                // As of all others, whether it is there or not.
                let main = answer.body.split("<main").nth(1).unwrap().to_owned();
                assert!(!answer.body.contains("/admin"), "{}", answer.body);
                assert!(main.contains("ask an administrator"), "{main}");
                assert_eq!(told.get_or_insert_with(|| main.clone()), &main, "{path}");
            }
        }
        // Its session is there until it is first used after the login has ended.
        let answer = gone.clone().get(path).await;
        assert_eq!(brief(&answer), to_login, "GET {path} by an ended login");
        let answer = gone
            .clone()
            .post(path, &[("csrf_token", &gone_token)])
            .await;
        let refused = answer.status == 403 || brief(&answer) == to_login;
        assert!(refused, "POST {path} by an ended login: {}", answer.status);
        // What began elsewhere, or has another's token.
        for token in ["", user_token.as_str()] {
            let answer = admin.post(path, &[("csrf_token", token)]).await;
            assert_eq!(answer.status, 403, "POST {path} without its token");
        }
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "cross-site"),
        ];
        let body = format!("csrf_token={token}");
        let answer = admin.send("POST", path, &form, &body).await;
        assert_eq!(answer.status, 403, "POST {path} from another site");
    }
    assert_eq!(rows(&running), 0, "nothing was done");
    for path in paths() {
        for method in ["GET", "POST"] {
            let answer = match method {
                "GET" => admin.get(path).await,
                _ => admin.post(path, &[("csrf_token", &token)]).await,
            };
            let (status, to) = brief(&answer);
            let text = format!("{method} {path} by an administrator: {status} {to}");
            assert!(![401, 403].contains(&status) && status < 500, "{text}");
            assert_ne!(to, "/login", "{text}");
        }
    }
    let sql = "SELECT count(*) FROM audit WHERE outcome = 'PERMISSION_DENIED' AND action = '/admin' AND name = 'ulf'";
    let database = running.database();
    let refused: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    let wanted = i64::try_from(paths().len()).unwrap();
    assert_eq!(refused, wanted, "what was tried is in the log");
}

/// Each of these takes effect on the next page, whatever the login said.
#[tokio::test]
async fn an_administrator_is_one_by_now() {
    let running = Running::start().await;
    let mut api = running.admin().await;
    api.person("ada", "admin").await;
    let (mut ada, _) = somebody(&running, "ada", PASSWORD).await;
    let home = ada.get("/").await;
    assert!(home.body.contains(r#"href="/admin""#), "in the navigation");
    assert_eq!(ada.get("/admin").await.location(), "/admin/accounts");
    let database = running.database();
    for (description, change, back) in [
        (
            "the role is gone",
            "UPDATE account_role SET role = 'user' WHERE account = (SELECT id FROM account WHERE name = 'ada')",
            "UPDATE account_role SET role = 'admin' WHERE account = (SELECT id FROM account WHERE name = 'ada')",
        ),
        (
            "the password has to be changed",
            "UPDATE account SET password_expired = 1 WHERE name = 'ada'",
            "UPDATE account SET password_expired = 0 WHERE name = 'ada'",
        ),
        (
            "a second factor is asked for, and there is none",
            "UPDATE account SET second_factor_required = 1 WHERE name = 'ada'",
            "UPDATE account SET second_factor_required = 0 WHERE name = 'ada'",
        ),
        (
            "the login has not shown the second factor that there is",
            "INSERT INTO totp SELECT id, x'00', 1, 0, 0, '' FROM account WHERE name = 'ada'",
            "DELETE FROM totp",
        ),
    ] {
        database.execute(change, []).unwrap();
        assert_eq!(
            ada.get("/admin/accounts").await.status,
            403,
            "{description}"
        );
        let home = ada.get("/").await;
        assert!(
            !home.body.contains("/admin"),
            "{description}: {}",
            home.body
        );
        database.execute(back, []).unwrap();
        assert_eq!(
            ada.get("/admin/accounts").await.status,
            200,
            "{description}, before and after"
        );
    }
    // By a rule.
    let rule = Rule {
        name: "careful".to_owned(),
        roles: vec!["admin".to_owned()],
        second_factor: true,
        ..Rule::default()
    };
    let request = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    api.admin.put_rule(request).await.unwrap();
    let sent = ada.get("/admin/accounts").await;
    assert!(
        sent.location().starts_with("/login"),
        "a rule asks for two factors, which this login has not shown: it is over"
    );
}
