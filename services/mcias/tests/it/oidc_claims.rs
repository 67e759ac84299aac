//! What services are told of a person: by scopes, and by whom it is said.

use mc_proto::mcias::v1::{CreateAccountRequest, GetAccountRequest, Names, UpdateAccountRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    admin_pages::chief,
    oidc::claims,
    oidc_client::{begun, register, request, text},
    running::{PASSWORD, Running},
    web::Browser,
};

/// An update of Ada's name and address.
fn of_ada(display_name: Option<&str>, email: Option<&str>) -> UpdateAccountRequest {
    UpdateAccountRequest {
        name: "ada".to_owned(),
        display_name: display_name.map(str::to_owned),
        email: email.map(str::to_owned),
        ..UpdateAccountRequest::default()
    }
}

#[tokio::test]
async fn a_client_is_told_what_its_scopes_say() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let app = register(&running, &mut admin, "app", true).await;
    let discovery = "/.well-known/openid-configuration";
    let provider = wiki.http.ask("GET", discovery, &[], "").await.json();
    let offered = json!(["openid", "profile", "email", "roles", "groups"]);
    assert_eq!(provider["scopes_supported"], offered);
    let bare = of_ada(Some(""), Some(""));
    let named = of_ada(Some("Ada Lovelace"), Some("ada@example.org"));
    let with_tags = |tags: &[&str]| UpdateAccountRequest {
        tags: Some(Names {
            names: tags.iter().map(ToString::to_string).collect(),
        }),
        ..of_ada(None, None)
    };
    let tagged = with_tags(&["devs", "Admin", "guest", "team:edge"]);
    let untagged = with_tags(&[]);
    let address = json!({ "email": "ada@example.org", "email_verified": false });
    let profile = |name: &str| json!({ "preferred_username": "ada", "name": name });
    for (description, party, who, scope, told) in [
        ("nothing but who", &wiki, &named, "openid", json!({})),
        (
            "the name",
            &wiki,
            &named,
            "openid profile",
            profile("Ada Lovelace"),
        ),
        (
            "without one",
            &wiki,
            &bare,
            "openid profile",
            profile("ada"),
        ),
        ("the address", &app, &named, "openid email", address),
        ("without one", &app, &bare, "openid email", json!({})),
        (
            "roles",
            &app,
            &named,
            "openid roles x",
            json!({ "roles": ["user"] }),
        ),
        (
            "groups: roles, and tags that pass for none",
            &app,
            &tagged,
            "openid groups",
            json!({ "groups": ["user", "devs", "team:edge"] }),
        ),
        (
            "groups of who has no tags",
            &wiki,
            &untagged,
            "openid groups",
            json!({ "groups": ["user"] }),
        ),
    ] {
        admin.accounts.update_account(who.clone()).await.unwrap();
        if who.tags.is_some() {
            // Other tags end all logins.
            browser = Browser::new(&running);
            browser.log_in("ada", PASSWORD).await;
        }
        let answer = browser
            .get(&request(&party.id, &[("scope", scope), ("state", "")]))
            .await;
        assert_eq!(answer.parameter("state"), None, "none was sent");
        let code = answer.parameter("code").unwrap();
        let tokens = party.exchange(&code, &[]).await.json();
        let bearer = format!("Bearer {}", text(&tokens, "access_token"));
        let headers = [("authorization", bearer.as_str())];
        let info = party
            .http
            .ask("POST", "/oauth/userinfo", &headers, "")
            .await
            .json();
        let token = claims(text(&tokens, "id_token"));
        assert!(!text(&info, "sub").is_empty());
        assert_eq!(token["nonce"], "a nonce");
        assert_eq!(token["aud"], party.id.as_str());
        for name in [
            "preferred_username",
            "name",
            "email",
            "email_verified",
            "roles",
            "groups",
        ] {
            let wanted = told.get(name).unwrap_or(&Value::Null);
            for (what, said) in [("userinfo", &info), ("ID token", &token)] {
                assert_eq!(&said[name], wanted, "{description}: {what}: {said}");
            }
            let listed = provider["claims_supported"].as_array().unwrap();
            assert!(listed.contains(&json!(name)), "{name}");
        }
    }
}

#[tokio::test]
async fn an_administrator_says_what_a_person_is_called() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    for (description, update, told) in [
        ("a name", of_ada(Some(" Ada "), None), Ok(("Ada", ""))),
        (
            "an address",
            of_ada(None, Some("a@b.example")),
            Ok(("Ada", "a@b.example")),
        ),
        (
            "no name any more",
            of_ada(Some(""), None),
            Ok(("", "a@b.example")),
        ),
        (
            "no address",
            of_ada(None, Some("a")),
            Err("email: write one address"),
        ),
        (
            "two lines",
            of_ada(Some("a\nb"), None),
            Err("display_name: at most 100"),
        ),
    ] {
        let got = admin.accounts.update_account(update).await;
        match (got, told) {
            (Ok(account), Ok(told)) => {
                let account = account.into_inner().account.unwrap();
                let got = (&*account.display_name, &*account.email);
                assert_eq!(got, told, "{description}");
            }
            (Err(status), Err(text)) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{description}");
                assert!(
                    status.message().starts_with(text),
                    "{description}: {status}"
                );
            }
            (got, _) => panic!("{description}: {got:?}"),
        }
    }
    let own = ada
        .accounts
        .update_account(of_ada(None, Some("b@b.example")));
    assert_eq!(own.await.unwrap_err().code(), Code::PermissionDenied);
    let log = "SELECT count(*) FROM audit WHERE detail LIKE '%\"email\":\"a@b.example\"%'";
    let rows: i64 = running.database().query_row(log, [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 1);
    // A new one, and a program, which has neither.
    for (account_type, email, code) in [
        (1, "bob@b.example", Code::Ok),
        (2, "x@b.example", Code::InvalidArgument),
    ] {
        let create = CreateAccountRequest {
            name: format!("new-{account_type}"),
            account_type,
            email: email.to_owned(),
            ..CreateAccountRequest::default()
        };
        let got = admin.accounts.create_account(create).await;
        let got = got.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(got, code, "{email}");
    }
    // And on the pages.
    let mut browser = chief(&running).await;
    let page = "/admin/account?name=ada";
    let fields = [
        ("name", "ada"),
        ("status", "active"),
        ("roles", "user"),
        ("tags", ""),
        ("display_name", "Ada L."),
        ("email", "ada@b.example"),
    ];
    let changed = browser.submit(page, "/admin/account/change", &fields).await;
    assert_eq!(changed.location(), page);
    let name = "ada".to_owned();
    let account = admin.accounts.get_account(GetAccountRequest { name }).await;
    let account = account.unwrap().into_inner();
    assert_eq!(
        (&*account.display_name, &*account.email),
        ("Ada L.", "ada@b.example")
    );
    let shown = browser.get(page).await.body;
    assert!(shown.contains(r#"value="ada@b.example""#), "{shown}");
}
