//! Arguments become requests, or are refused with a reason.

use mc_proto::mcias::v1::{self as pb, revoke_request::What};

use super::{cli, command};
use crate::{Command, account, audit, profile, token, update::revokes};

fn create(line: &str) -> pb::CreateAccountRequest {
    match command(&format!("account create {line}")) {
        Command::Account(account::Command::Create(create)) => create.request(),
        other => panic!("{other:?}"),
    }
}

fn update(line: &str, now: &pb::Account) -> pb::UpdateAccountRequest {
    match command(&format!("account update {line}")) {
        Command::Account(account::Command::Update(update)) => update.request(now),
        other => panic!("{other:?}"),
    }
}

pub(super) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn accounts_are_created() {
    for (description, line, want) in [
        (
            "a person",
            "ada --role user --role admin --tag team:edge --second-factor required --display-name Ada --email ada@example.org",
            pb::CreateAccountRequest {
                name: "ada".to_owned(),
                account_type: pb::AccountType::Human.into(),
                roles: strings(&["user", "admin"]),
                tags: strings(&["team:edge"]),
                second_factor_required: true,
                password: String::new(),
                display_name: "Ada".to_owned(),
                email: "ada@example.org".to_owned(),
            },
        ),
        (
            "a person of whom no role is said",
            "bob",
            pb::CreateAccountRequest {
                name: "bob".to_owned(),
                account_type: pb::AccountType::Human.into(),
                roles: strings(&["user"]),
                ..pb::CreateAccountRequest::default()
            },
        ),
        (
            "a person without one",
            "bob --no-role",
            pb::CreateAccountRequest {
                name: "bob".to_owned(),
                account_type: pb::AccountType::Human.into(),
                ..pb::CreateAccountRequest::default()
            },
        ),
        (
            "a system's",
            "mcr --system",
            pb::CreateAccountRequest {
                name: "mcr".to_owned(),
                account_type: pb::AccountType::System.into(),
                ..pb::CreateAccountRequest::default()
            },
        ),
    ] {
        assert_eq!(create(line), want, "{description}");
    }
}

#[test]
fn what_is_not_said_of_an_account_is_not_changed() {
    let now = pb::Account {
        roles: strings(&["guest", "user"]),
        tags: strings(&["a"]),
        ..pb::Account::default()
    };
    let names = |names: &[&str]| {
        Some(pb::Names {
            names: strings(names),
        })
    };
    for (description, line, roles, tags, second_factor) in [
        ("the status", "--status locked", None, None, None),
        ("a set", "--role admin", names(&["admin"]), None, None),
        (
            "one more",
            "--add-role admin",
            names(&["admin", "guest", "user"]),
            None,
            None,
        ),
        (
            "one that is there",
            "--add-role user",
            names(&["guest", "user"]),
            None,
            None,
        ),
        (
            "one less and one more",
            "--remove-role guest --add-role admin",
            names(&["admin", "user"]),
            None,
            None,
        ),
        ("the last tag", "--remove-tag a", None, names(&[]), None),
        (
            "second factor",
            "--second-factor optional",
            None,
            None,
            Some(false),
        ),
    ] {
        let request = update(&format!("ada {line}"), &now);
        assert_eq!(request.roles, roles, "{description}");
        assert_eq!(request.tags, tags, "{description}");
        assert_eq!(
            request.second_factor_required, second_factor,
            "{description}"
        );
        let locked = line.contains("locked");
        assert_eq!(request.status() == pb::AccountStatus::Locked, locked);
    }
}

#[test]
fn a_name_and_an_address_are_set_and_taken_away() {
    for (description, line, name, email) in [
        ("a name", "--display-name Ada", Some("Ada"), None),
        (
            "an address",
            "--email ada@example.org",
            None,
            Some("ada@example.org"),
        ),
        (
            "neither any more",
            "--display-name= --email=",
            Some(""),
            Some(""),
        ),
    ] {
        let request = update(&format!("ada {line}"), &pb::Account::default());
        let got = (request.display_name.as_deref(), request.email.as_deref());
        assert_eq!(got, (name, email), "{description}");
    }
}

#[test]
fn pages_end_at_the_limit() {
    let accounts = match command("account list --account-type system --prefix mc --limit 600") {
        Command::Account(account::Command::List(list)) => list,
        other => panic!("{other:?}"),
    };
    let first = accounts.request(0, String::new());
    assert_eq!((first.limit, first.prefix.as_str()), (500, "mc"));
    assert_eq!(first.account_type(), pb::AccountType::System);
    let second = accounts.request(500, "mcr".to_owned());
    assert_eq!((second.limit, second.after.as_str()), (100, "mcr"));

    let entries = match command("audit list --account ada --since 2026-01-02T03:04:05Z --before 9")
    {
        Command::Audit(audit::Command::List(list)) => list,
        other => panic!("{other:?}"),
    };
    let request = audit::request(&entries, entries.page(40, 7));
    assert_eq!((request.limit, request.before), (60, 7));
    assert_eq!(request.since.map(|at| at.seconds), Some(1_767_323_045));
}

#[test]
fn what_costs_an_account_its_tokens() {
    let now = pb::Account {
        status: pb::AccountStatus::Active.into(),
        roles: strings(&["guest", "user"]),
        tags: strings(&["a", "b"]),
        ..pb::Account::default()
    };
    for (line, wanted) in [
        ("--status active", false),
        ("--status disabled", true),
        ("--add-role admin", false),
        ("--remove-role user", true),
        ("--role user --role guest", false),
        ("--tag b --tag a", false),
        ("--add-tag c", true),
        ("--remove-tag a", true),
        ("--second-factor optional", false),
        ("--second-factor required", true),
    ] {
        let request = update(&format!("ada {line}"), &now);
        assert_eq!(revokes(&now, &request), wanted, "{line}");
    }
}

#[test]
fn tokens() {
    let issue = match command("token issue mcr --service metacrypt --service mcns --days 30") {
        Command::Token(token::Command::Issue(issue)) => issue.request(),
        other => panic!("{other:?}"),
    };
    assert_eq!(issue.services, ["metacrypt", "mcns"]);
    assert_eq!((issue.name.as_str(), issue.days), ("mcr", 30));
    for (line, want) in [
        ("revoke --account ada", What::Account("ada".to_owned())),
        ("revoke --everything --yes", What::Everything(true)),
    ] {
        match command(line) {
            Command::Revoke(revoke) => {
                let request = revoke.request();
                assert_eq!(
                    (request.what, request.issued_until),
                    (Some(want), None),
                    "{line}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    match command("revoke --everything --issued-until 2026-01-31T12:00:00Z") {
        Command::Revoke(revoke) => {
            let until = "2026-01-31T12:00:00Z".parse().unwrap();
            assert_eq!(revoke.request().issued_until, Some(until));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn outcomes_have_words() {
    for (word, name) in [
        ("ok", "ok"),
        ("FAILED", "failed"),
        ("denied", "denied"),
        ("limited", "limited"),
        ("Not_Found", "not_found"),
    ] {
        match command(&format!("audit list --outcome {word}")) {
            Command::Audit(audit::Command::List(list)) => {
                assert_eq!(audit::request(&list, list.page(0, 0)).outcome, name);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn known_entries() {
    let hash = "A".repeat(64);
    match command(&format!("audit verify --known 12:{hash}")) {
        Command::Audit(audit::Command::Verify { known }) => {
            assert_eq!(known, Some((12, "a".repeat(64))));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_refused() {
    for (description, line, want) in [
        ("a name with a capital", "account show Ada", "small letters"),
        (
            "a role that is none",
            "account create ada --role root",
            "admin, user and guest",
        ),
        ("no change", "account update ada", "required"),
        (
            "roles set and added",
            "account update ada --role user --add-role admin",
            "cannot be used with",
        ),
        (
            "a system with a password",
            "account create mcr --system --ask-password",
            "cannot be used with",
        ),
        (
            "a password as argument",
            "login --password x",
            "unexpected argument",
        ),
        (
            "a code as argument",
            "profile totp confirm 123456",
            "unexpected argument",
        ),
        ("a token for nothing", "token issue mcr", "--service"),
        (
            "a token for ever",
            "token issue mcr --service a --days 9999",
            "1 to 3650",
        ),
        (
            "a rule without effect",
            "policy put x --role user",
            "required",
        ),
        (
            "a rule of two",
            "policy put x --allow --deny",
            "cannot be used with",
        ),
        ("nothing to revoke", "revoke", "required"),
        (
            "too much to revoke",
            "revoke --everything --account ada",
            "cannot be used with",
        ),
        (
            "a fragment",
            "service put x --redirect-uri https://a.example/#b",
            "fragment",
        ),
        (
            "half a URI",
            "service put x --redirect-uri /callback",
            "whole URI",
        ),
        ("a day", "audit list --since yesterday", "2h or 7d"),
        ("before 1970", "audit list --since 9000w", "too long ago"),
        (
            "an outcome that is none",
            "audit list --outcome maybe",
            "write ok",
        ),
        (
            "stdout as a file",
            "token issue a --service b --to -",
            "leave --to out",
        ),
        ("half a hash", "audit verify --known 12:abc", "audit verify"),
        (
            "http",
            "status --server http://mcias.example:9443",
            "unencrypted",
        ),
    ] {
        let refused = cli(line).map(|cli| format!("{cli:?}")).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains(want), "{description}: {message}");
    }
}

#[test]
fn short_names() {
    for line in [
        "account ls",
        "service ls",
        "policy ls",
        "audit ls",
        "token ls mcr",
    ] {
        command(line);
    }
    let passkeys = command("profile passkey rm x --yes");
    assert!(matches!(
        passkeys,
        Command::Profile(profile::Command::Passkey(profile::Passkey::Remove {
            yes: true,
            ..
        }))
    ));
}
