//! What the daemon says, for people and for scripts.

use mc_proto::mcias::v1 as pb;
use prost_types::Timestamp;

use super::command;
use crate::{
    Command, account, audit, ban, device, login, operations, policy, profile, service, token, totp,
    view,
};

fn at(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn bans() {
    let ban = pb::Ban {
        source: "192.0.2.1/32".to_owned(),
        until: at("2031-01-31T12:00:00Z"),
        reason: "failed logins (ban 2 of this network)".to_owned(),
        bans: 2,
    };
    let row = ban::row(&ban);
    assert_eq!((row[0].as_str(), row[2].as_str()), ("192.0.2.1/32", "2"));
    assert!(row[1].starts_with("2031-01-31T12:00:00Z"), "{row:?}");
}

#[test]
fn accounts() {
    let base = pb::Account {
        name: "ada".to_owned(),
        account_type: pb::AccountType::Human.into(),
        status: pb::AccountStatus::Active.into(),
        ..pb::Account::default()
    };
    for (description, account, cell, want) in [
        ("no roles", base.clone(), 3, "-"),
        (
            "roles",
            pb::Account {
                roles: strings(&["admin", "user"]),
                ..base.clone()
            },
            3,
            "admin user",
        ),
        ("no factor", base.clone(), 5, "-"),
        (
            "a factor that is missing",
            pb::Account {
                second_factor_required: true,
                ..base.clone()
            },
            5,
            "required, none yet",
        ),
        (
            "factors",
            pb::Account {
                second_factor_required: true,
                has_totp: true,
                passkeys: 2,
                ..base.clone()
            },
            5,
            "required: app, 2 passkeys",
        ),
        ("never here", base.clone(), 6, "-"),
    ] {
        assert_eq!(account::row(&account)[cell], want, "{description}");
    }
    let lines = account::lines(&base);
    assert!(
        lines.contains(&("status", "active".to_owned())),
        "{lines:?}"
    );
}

#[test]
fn times_are_absolute_and_relative() {
    let shown = view::time(at("2000-02-29T00:00:00.5Z").as_ref());
    assert!(shown.starts_with("2000-02-29T00:00:00Z ("), "{shown}");
    assert!(shown.ends_with(" ago)"), "{shown}");
    assert_eq!(view::time(None), "-");
}

#[test]
fn states_of_tokens() {
    for (description, revoked, expires, want) in [
        ("valid", false, at("2900-01-01T00:00:00Z"), "valid"),
        ("expired", false, at("2000-01-01T00:00:00Z"), "expired"),
        ("revoked", true, at("2900-01-01T00:00:00Z"), "revoked"),
    ] {
        let token = pb::Token {
            revoked,
            expires,
            ..pb::Token::default()
        };
        assert_eq!(token::row(&token)[1], want, "{description}");
    }
}

#[test]
fn rules_say_whom_they_fit() {
    let rule = pb::Rule {
        name: "admins".to_owned(),
        priority: 10,
        roles: strings(&["admin", "user"]),
        tags: strings(&["team:edge"]),
        second_factor: true,
        ..pb::Rule::default()
    };
    let want = [
        "10",
        "admins",
        "allow with a second factor",
        "role=admin,user tag=team:edge",
        "all services",
        "-",
    ];
    assert_eq!(policy::row(&rule), want);
    let nobody = pb::Rule {
        deny: true,
        ..pb::Rule::default()
    };
    assert_eq!(policy::row(&nobody)[2..4], ["deny", "everybody"]);
}

#[test]
fn explanations() {
    let Command::Policy(policy::Command::Explain(asked)) =
        command("policy explain --account ada --service mcr")
    else {
        panic!("another command");
    };
    for (allowed, second_factor, first) in [
        (true, false, "ada may log in to mcr: the reason"),
        (
            true,
            true,
            "ada may, with a second factor, log in to mcr: the reason",
        ),
        (false, true, "ada may not log in to mcr: the reason"),
    ] {
        let answer = pb::ExplainResponse {
            allowed,
            second_factor,
            reason: "the reason".to_owned(),
            first: strings(&["do this"]),
            notes: strings(&["know that"]),
            why: strings(&["rule a decides"]),
            ..pb::ExplainResponse::default()
        };
        let text = policy::explanation(&asked, &answer);
        let want = format!("{first}\n first: do this\n note: know that\n  rule a decides\n");
        assert_eq!(text, want);
    }
}

#[test]
fn whoami_says_what_to_do() {
    for (description, who, commands) in [
        ("nothing", pb::WhoAmIResponse::default(), &[][..]),
        (
            "all",
            pb::WhoAmIResponse {
                password_expired: true,
                enrol_second_factor: true,
                show_second_factor: true,
                ..pb::WhoAmIResponse::default()
            },
            &[
                "mciasctl profile password",
                "mciasctl profile totp enrol",
                "mciasctl login",
            ],
        ),
    ] {
        let lines = login::whoami_lines(&who);
        let first: Vec<_> = lines.iter().filter(|(name, _)| *name == "first").collect();
        assert_eq!(first.len(), commands.len(), "{description}");
        for ((_, line), command) in first.iter().zip(commands) {
            assert!(line.contains(command), "{description}: {line}");
        }
    }
}

#[test]
fn what_a_login_is_told() {
    let answer = pb::LoginResponse {
        new_device: true,
        password_expired: true,
        enrol_second_factor: true,
        ..pb::LoginResponse::default()
    };
    let notes = login::notes(&answer);
    for (note, command) in notes.iter().zip(["sessions", "password", "totp enrol"]) {
        assert!(
            note.contains(&format!("mciasctl profile {command}")),
            "{note}"
        );
    }
    assert_eq!(notes.len(), 3);
    assert!(login::notes(&pb::LoginResponse::default()).is_empty());
}

#[test]
fn one_thing_is_a_line_for_each_part() {
    let rows = [("a", "1".to_owned()), ("long", "2".to_owned())];
    assert_eq!(view::lines(&rows), "a     1\nlong  2\n");
}

#[test]
fn what_somebody_has_to_look_at_is_a_warning() {
    let warnings = |status: &pb::Status| {
        let lines = operations::status_lines(status);
        lines.iter().filter(|(name, _)| *name == "warning").count()
    };
    let mut status = pb::Status::default();
    assert_eq!(warnings(&status), 0);
    status.certificate_error = "expired".to_owned();
    assert_eq!(warnings(&status), 1);
    status.warnings = vec!["the disk is full".to_owned()];
    assert_eq!(warnings(&status), 2);
}

/// Another program reads the code as a camera would.
#[test]
fn the_qr_code_says_the_uri() {
    let uri = "otpauth://totp/MCIAS:ada?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=MCIAS";
    let text = totp::qr(uri).unwrap();
    let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    // Half a line is too little for rqrr.
    const SCALE: usize = 4;
    let dark = |x: usize, y: usize| {
        let (x, y) = (x / SCALE, y / SCALE);
        match lines[y / 2][x] {
            '█' => true,
            '▀' => y % 2 == 0,
            '▄' => y % 2 == 1,
            _ => false,
        }
    };
    let (width, height) = (lines[0].len() * SCALE, lines.len() * 2 * SCALE);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        if dark(x, y) { 0 } else { 255 }
    });
    let found = image.detect_grids();
    assert_eq!(found.len(), 1, "{text}");
    assert_eq!(found[0].decode().unwrap().1, uri);
    assert_eq!(totp::grouped("JBSWY3DPEH"), "JBSW Y3DP EH");
}

/// Each under the name of its own message: another's would not fit.
#[test]
fn json_is_of_the_message() {
    let account = view::json(
        "Account",
        &pb::Account {
            name: "ada".to_owned(),
            created: at("2026-01-02T03:04:05Z"),
            ..pb::Account::default()
        },
    );
    let account = account.unwrap();
    assert_eq!(account["name"], "ada");
    assert_eq!(account["created"], "2026-01-02T03:04:05Z");
    let list = view::json_list(
        "Session",
        &[pb::Session {
            current: true,
            methods: strings(&["pwd", "otp"]),
            ..pb::Session::default()
        }],
    );
    let list = list.unwrap();
    assert_eq!(list[0]["current"], true);
    assert_eq!(list[0]["methods"][1], "otp");
}

#[test]
fn rows_have_a_cell_for_each_column() {
    for (what, got, want) in [
        ("accounts", account::row(&pb::Account::default()).len(), 7),
        ("tokens", token::row(&pb::Token::default()).len(), 6),
        ("rules", policy::row(&pb::Rule::default()).len(), 6),
        ("services", service::row(&pb::Service::default()).len(), 5),
        ("audit", audit::row(&pb::AuditEntry::default()).len(), 8),
        (
            "passkeys",
            profile::passkey_row(&pb::Passkey::default()).len(),
            4,
        ),
        (
            "sessions",
            profile::session_row(&pb::Session::default()).len(),
            7,
        ),
        ("devices", device::row(&pb::Device::default()).len(), 5),
    ] {
        assert_eq!(got, want, "{what}");
    }
    let session = pb::Session {
        device: "desk".to_owned(),
        current: true,
        new_device: true,
        ..pb::Session::default()
    };
    assert_eq!(profile::session_row(&session)[1], "desk (this one) (new)");
    let factors = profile::factor_lines(&pb::GetFactorsResponse::default());
    assert!(factors.contains(&("authenticator app", "no".to_owned())));
}
