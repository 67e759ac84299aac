//! What administrators do by the tool.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};

use crate::{
    mciasctl::Home,
    running::{ISSUER, PASSWORD, Running},
};

#[tokio::test]
async fn accounts_and_their_tokens() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    let created = home
        .run(
            "account create ada --role user --ask-password --json",
            &format!("{PASSWORD}\n"),
        )
        .await;
    assert_eq!(created.json()["password"], "", "none was made");
    let updated = home
        .run("account update ada --add-role guest --add-tag x --json", "")
        .await;
    let account = &updated.json()["account"];
    assert_eq!(account["roles"], json!(["guest", "user"]));
    for (line, code) in [
        ("account create ada", 5),
        ("account show nobody", 3),
        ("account delete ada", 2),
        ("account delete nobody", 3),
        ("account show ada", 0),
        ("account reset-password ada --yes", 0),
        ("account create mcr --system", 0),
    ] {
        assert_eq!(home.run(line, "").await.code, code, "{line}");
    }

    let nowhere = home
        .run("token issue mcr --service mcias --to no/where", "")
        .await;
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    let tokens = home.run("token list mcr --json", "").await.json();
    assert_eq!(tokens, json!([]), "none was made to be lost");
    let alone = home.run("token issue mcr --service mcias", "").await;
    let file = home.token_file(alone.out.trim());
    let who = home
        .run(&format!("--token-file {file} whoami --json"), "")
        .await;
    assert_eq!(who.json()["account"], "mcr");

    let tokens = home.run("token list mcr --json", "").await.json();
    let id = tokens[0]["id"].as_str().unwrap();
    let rotated = home
        .run(&format!("token rotate mcr {id} --to rotated --json"), "")
        .await;
    assert!(rotated.json().get("token").is_none(), "it is in the file");
    assert_eq!(
        home.run(&format!("--token-file {file} whoami"), "")
            .await
            .code,
        5
    );
    for (line, code, valid) in [
        ("account update mcr --add-role user", 0, true),
        // Its tokens say its tags.
        ("account update mcr --add-tag x", 2, true),
        ("account update mcr --add-tag x --yes", 0, false),
    ] {
        assert_eq!(home.run(line, "").await.code, code, "{line}");
        let known = home.run("--token-file rotated whoami", "").await;
        assert_eq!(known.code == 0, valid, "{line}");
    }
    let again = home.run("token issue mcr --service mcias --to again", "");
    assert_eq!(again.await.code, 0);
    let kept = fs::read(home.directory.path().join("again")).unwrap();
    let over = home.run("token issue mcr --service mcias --to again", "");
    let over = over.await;
    assert_eq!(over.code, 5, "{over:?}");
    assert!(over.err.contains("is not overwritten"), "{over:?}");
    let left = fs::read(home.directory.path().join("again")).unwrap();
    assert_eq!(left, kept);
    let list = home.run("token list mcr --json", "").await.json();
    let valid = |token: &&Value| token["revoked"] != true;
    let valid = list.as_array().unwrap().iter().find(valid).unwrap();
    let id = valid["id"].as_str().unwrap();
    for (options, code) in [
        ("--to again", 5),
        ("--replace", 2),
        ("--to again --replace", 0),
    ] {
        let line = format!("token rotate mcr {id} {options}");
        let known = home.run("--token-file again whoami", "").await;
        assert_eq!(known.code, 0, "{options}: it is good until then");
        assert_eq!(home.run(&line, "").await.code, code, "{options}");
    }
    let known = home.run("--token-file again whoami", "").await;
    assert_eq!(known.code, 0, "{known:?}");
    let left = fs::read(home.directory.path().join("again")).unwrap();
    assert_ne!(left, kept);
    assert_eq!(home.run("revoke --account mcr --yes", "").await.code, 0);
    assert_eq!(home.run("--token-file again whoami", "").await.code, 5);
    // As all are after `mcias restore`.
    let list = home.run("token list mcr --json", "").await.json();
    let id = list[0]["id"].as_str().unwrap();
    let line = format!("token rotate mcr {id} --to again --replace");
    let void = home.run(&line, "").await;
    let way = "mciasctl token issue mcr --service mcias --to again --replace";
    assert!(void.code == 5 && void.err.contains(way), "{void:?}");
    let issued = home.run(&way["mciasctl ".len()..], "").await;
    assert_eq!(issued.code, 0, "{issued:?}");
    assert_eq!(home.run("--token-file again whoami", "").await.code, 0);
}

#[tokio::test]
async fn policy_and_audit() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    for (line, code) in [
        (
            "service put mcr --tag prod --to secret --redirect-uri https://mcr.example/cb",
            0,
        ),
        (
            "policy put no-guests --deny --role guest --service-tag prod --priority 5",
            0,
        ),
        ("policy list", 0),
        ("service list", 0),
        ("policy delete no-guests", 2),
        ("policy delete nothing --yes", 3),
        ("policy delete nothing", 3),
        ("audit list --since 1h", 0),
        ("audit verify", 0),
        ("snapshot", 0),
        ("key list", 0),
        ("key rotate --yes", 0),
        ("status", 0),
    ] {
        let ended = home.run(line, "").await;
        assert_eq!(ended.code, code, "{line}: {ended:?}");
    }
    let mode = fs::metadata(home.directory.path().join("secret"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let explained = home
        .run("policy explain --account admin --service mcr --json", "")
        .await;
    assert_eq!(explained.json()["allowed"], true);

    let verified = home.run("audit verify --json", "").await.json();
    let head = format!(
        "{}:{}",
        verified["head_number"].as_str().unwrap(),
        verified["head_hash"].as_str().unwrap()
    );
    let sql = "UPDATE audit SET resource = 'eve' WHERE seq = 2";
    running.database().execute_batch(sql).unwrap();
    let tampered = home.run(&format!("audit verify --known {head}"), "").await;
    assert_eq!(tampered.code, 1, "{tampered:?}");
}

/// What is said is added, what is not said stays, and nothing goes that is not named.
#[tokio::test]
async fn a_service_is_changed_by_what_is_said_of_it() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    let uri = "https://wiki.example/cb";
    let made = home
        .run(
            &format!("service put wiki --redirect-uri {uri} --tag a --comment old --json"),
            "",
        )
        .await;
    assert_ne!(made.json()["client_secret"], "");
    let hash = || -> Option<Vec<u8>> {
        let sql = "SELECT secret FROM service WHERE name = 'wiki'";
        running
            .database()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    };
    let first = hash();
    for (description, line, code, said, keeps) in [
        ("a comment", "put wiki --comment new", 0, "registered", true),
        ("a tag", "put wiki --tag b", 0, "registered", true),
        ("nothing", "put wiki", 0, "registered", true),
        (
            "a tag less",
            "put wiki --remove-tag a",
            0,
            "registered",
            true,
        ),
        (
            "a tag that it has not",
            "put wiki --remove-tag x",
            2,
            "has no",
            true,
        ),
        (
            "the last redirect URI, unasked",
            "put wiki --remove-redirect-uri https://wiki.example/cb",
            2,
            "will be void",
            true,
        ),
        (
            "public, unasked",
            "put wiki --public",
            2,
            "will be void",
            true,
        ),
        (
            "a new secret, unasked",
            "put wiki --new-secret",
            2,
            "will be void",
            true,
        ),
        ("one that there is not", "show nothing", 3, "nothing", true),
        (
            "gone, which nobody is asked about",
            "delete nothing",
            3,
            "nothing",
            true,
        ),
        ("shown", "show wiki", 0, "https://wiki.example/cb", true),
        (
            "and what its configuration needs",
            "show wiki",
            0,
            "https://auth.example.org/.well-known/openid-configuration",
            true,
        ),
        (
            "which is told when it is made, too",
            "put wiki",
            0,
            "https://auth.example.org/.well-known/openid-configuration",
            true,
        ),
        ("a new secret", "put wiki --new-secret --yes", 0, "", false),
    ] {
        let ended = home.run(&format!("service {line}"), "").await;
        assert_eq!(ended.code, code, "{description}: {ended:?}");
        let all = format!("{}{}", ended.out, ended.err);
        assert!(all.contains(said), "{description}: {ended:?}");
        assert_eq!(hash() == first, keeps, "{description}");
    }
    let shown = home.run("service show wiki --json", "").await.json();
    let wanted = json!({
        "name": "wiki", "tags": ["b"], "redirect_uris": [uri], "post_logout_redirect_uris": [],
        "public_client": false, "comment": "new", "issuer": ISSUER,
    });
    assert_eq!(shown, wanted);
    let line = format!("service put wiki --remove-redirect-uri {uri} --yes");
    assert_eq!(home.run(&line, "").await.code, 0);
    assert_eq!(hash(), None);
}

#[tokio::test]
async fn an_account_that_is_made_is_told_what_it_can() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    for (description, line, texts) in [
        (
            "a person",
            "ada",
            &[
                "it may log in to mcias",
                "rule users lets it in",
                "reset-password ada",
            ][..],
        ),
        (
            "whom no rule lets in",
            "gus --role guest",
            &[
                "it cannot log in to mcias",
                "no rule matches",
                "--add-role user",
            ],
        ),
        (
            "without a role",
            "eve --no-role",
            &["it cannot log in to mcias"],
        ),
        (
            "a program",
            "robot --system",
            &["mciasctl token issue robot"],
        ),
    ] {
        let ended = home.run(&format!("account create {line}"), "").await;
        assert_eq!(ended.code, 0, "{description}: {ended:?}");
        for text in texts {
            assert!(ended.out.contains(text), "{description}: {text}: {ended:?}");
        }
    }
    let roles = home.run("account show ada --json", "").await.json();
    assert_eq!(roles["roles"], json!(["user"]), "as on the page");
}

#[tokio::test]
async fn what_would_be_regretted_is_asked() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    running.admin().await.person("ada", "user").await;
    assert_eq!(home.run("service put wiki", "").await.code, 0);
    for (description, line, code, said) in [
        (
            "everybody everywhere",
            "policy put all --allow",
            2,
            "guests included",
        ),
        (
            "spelled otherwise",
            "policy put all --allow --service *",
            2,
            "everybody, guests included, may log in to every service then",
        ),
        ("meant", "policy put all --allow --yes", 0, "everybody"),
        (
            "as it is, unasked",
            "policy put all --allow",
            0,
            "everybody",
        ),
        (
            "others instead",
            "policy put all --allow --role guest",
            2,
            "the rule all will be replaced: who everybody -> role=guest",
        ),
        (
            "shown",
            "policy show all",
            0,
            "\n  mciasctl policy put all --allow\n",
        ),
        ("one that there is not", "policy show nothing", 3, "nothing"),
        (
            "some",
            "policy put some --allow --service wiki",
            0,
            "service=wiki",
        ),
        (
            "nobody's name",
            "policy put one --allow --account nobody",
            2,
            "there is no account \"nobody\"",
        ),
        (
            "no service's name",
            "policy put one --allow --service nothing",
            2,
            "there is no service \"nothing\"",
        ),
        (
            "a pattern that is none, by the option's name",
            "policy put one --allow --service a/**/b",
            2,
            "services",
        ),
        ("no rule, unasked", "policy delete nothing", 3, "nothing"),
        ("no account, unasked", "account delete nobody", 3, "nobody"),
        (
            "one's own login",
            "account update admin --second-factor required",
            2,
            "all your logins end",
        ),
        (
            "another's",
            "account update ada --second-factor required",
            0,
            "required",
        ),
        (
            "tokens, by their time",
            "revoke --everything --issued-until 2026-01-31T12:00:00.123456789Z",
            2,
            "issued until 2026-01-31T12:00:00Z (",
        ),
        (
            "a file named -",
            "service put x --to -",
            2,
            "leave --to out",
        ),
    ] {
        let ended = home.run(line, "").await;
        assert_eq!(ended.code, code, "{description}: {ended:?}");
        let all = format!("{}{}", ended.out, ended.err);
        assert!(all.contains(said), "{description}: {ended:?}");
    }
    // One that a rule names is not deleted, and a rule that ends logins says so.
    running.log_in("ada", PASSWORD).await.unwrap();
    let put = "policy put ada --deny --priority 5 --account ada";
    let ended = home.run(put, "").await;
    assert!(ended.out.contains("; it ended 1 login"), "{ended:?}");
    let kept = home.run("account delete ada --yes", "").await;
    assert_eq!(kept.code, 5, "{kept:?}");
    assert!(
        kept.err.contains("`mciasctl policy delete ada`"),
        "{kept:?}"
    );
    for line in ["policy delete ada --yes", "account delete ada --yes"] {
        assert_eq!(home.run(line, "").await.code, 0, "{line}");
    }
}

#[tokio::test]
async fn the_log_is_listed_by_how_it_ended() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    running.log_in("admin", "wrong password").await.unwrap_err();
    assert_eq!(home.run("account show nobody", "").await.code, 3);
    assert_eq!(home.run("account delete nobody --yes", "").await.code, 3);
    for (outcome, all) in [
        ("ok", &["OK"][..]),
        ("denied", &["UNAUTHENTICATED"]),
        ("invalid", &["NOT_FOUND"]),
        ("not_found", &["NOT_FOUND"]),
        ("failed", &["NOT_FOUND", "UNAUTHENTICATED"]),
    ] {
        let line = format!("audit list --outcome {outcome} --json");
        let list = home.run(&line, "").await.json();
        let list = list.as_array().unwrap();
        let found: BTreeSet<_> = list.iter().map(|row| row["outcome"].as_str()).collect();
        let wanted: BTreeSet<_> = all.iter().map(|code| Some(*code)).collect();
        assert_eq!(found, wanted, "{outcome}");
    }
    let shown = home.run("audit list --outcome failed", "").await;
    assert!(
        shown.out.contains(" denied ") && shown.out.contains(" invalid "),
        "{shown:?}"
    );
    let none = home.run("audit list --outcome maybe", "").await;
    assert_eq!(none.code, 2, "{none:?}");
}
