//! Who has to enrol a second factor first is led to it, and on; and a cookie from before a change is of no use after it.

use mc_proto::mcias::v1::{PutRuleRequest, Rule, UpdateAccountRequest};

use crate::{
    factor_pages::{RIGHT, ada, confirm},
    oidc_client::{begun, request},
    running::PASSWORD,
    web::Browser,
};

#[tokio::test]
async fn who_has_to_enrol_is_led_there_and_on() {
    let (running, mut admin, _) = ada().await;
    let require = UpdateAccountRequest {
        name: "ada".to_owned(),
        second_factor_required: Some(true),
        ..UpdateAccountRequest::default()
    };
    admin.accounts.update_account(require).await.unwrap();
    // Whoever was logged in is not any more.
    let mut browser = Browser::new(&running);
    let path = "/login?next=%2Fsessions";
    let fields = [("account", "ada"), ("password", PASSWORD)];
    let sent = browser.submit(path, path, &fields).await;
    assert_eq!(sent.location(), "/factors?next=%2Fsessions");
    assert_eq!(browser.get("/").await.location(), "/factors");
    let page = browser.get(sent.location()).await.body;
    assert!(page.contains("needs a second factor before"));
    assert!(
        page.contains(r#"href="/factors/totp?next=%2Fsessions""#),
        "{page}"
    );
    let page = "/factors/totp?next=%2Fsessions";
    let set_up = browser.submit(page, page, RIGHT).await;
    let done = confirm(
        &mut browser,
        &set_up,
        "/factors/totp/confirm?next=%2Fsessions",
    )
    .await;
    assert_eq!(done.location(), "/factors/recovery-codes?next=%2Fsessions");
    let question = browser.get(done.location()).await.body;
    assert!(
        question.contains(r#"href="/sessions">Cancel"#),
        "{question}"
    );
    let path = done.location();
    let codes = browser.submit(path, path, &[("password", PASSWORD)]).await;
    assert!(codes.body.contains(r#"href="/sessions">I have kept"#));
    assert!(browser.get("/").await.body.contains("<dd>user</dd>"));
}

#[tokio::test]
async fn a_client_that_wants_a_second_factor_gets_its_code_after_it_is_enrolled() {
    let (_running, mut admin, _wiki, mut browser) = begun().await;
    let rule = Rule {
        name: "vault".to_owned(),
        roles: vec!["user".to_owned()],
        services: vec!["wiki".to_owned()],
        second_factor: true,
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(rule).await.unwrap();
    let sent = browser.get(&request("wiki", &[])).await;
    let (_, next) = sent.location().split_once("/factors?").unwrap();
    let page = browser.get(sent.location()).await;
    assert!(
        page.body
            .contains("Where you are going asks for a second factor")
    );
    let page = format!("/factors/totp?{next}");
    let set_up = browser.submit(&page, &page, RIGHT).await;
    let policy = set_up.header("content-security-policy");
    assert!(
        policy.ends_with("form-action 'self' https://wiki.example:8443"),
        "{policy}"
    );
    let path = format!("/factors/totp/confirm?{next}");
    let on = confirm(&mut browser, &set_up, &path).await;
    let codes = format!("/factors/recovery-codes?{next}");
    assert_eq!(on.location(), codes);
    let shown = browser
        .submit(&codes, &codes, &[("password", PASSWORD)])
        .await;
    let link = shown.body.split(r#"class="button" href=""#).nth(1).unwrap();
    let link = link.split('"').next().unwrap().replace("&#38;", "&");
    let back = browser.get(&link).await;
    assert!(back.parameter("code").is_some(), "{}", back.location());
}

#[tokio::test]
async fn a_new_password_leaves_no_copy_of_the_cookie() {
    let (_running, _admin, mut browser) = ada().await;
    let mut copy = browser.clone();
    let new = "another korrekt horse battery staple";
    let fields = [
        ("old_password", PASSWORD),
        ("new_password", new),
        ("repeated", new),
    ];
    let changed = browser.submit("/password", "/password", &fields).await;
    assert_eq!(changed.location(), "/");
    assert!(
        browser
            .get("/")
            .await
            .body
            .contains("The password is changed")
    );
    assert_eq!(copy.get("/").await.status, 303);
}
