//! What the tests of this engine share: keys by ssh-keygen, authorities, and who is allowed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use mc_proto::{AccountType, metacrypt::v1 as pb};
use mcdsl::policy::{
    Authorized, Effect, Policy, PolicySet, Resource, ResourceName, Rule, Subject, Subjects,
};

use super::{
    action,
    authority::{Algorithm, Authority, Kind, Ready},
    certificate::{NONCE, Stamp, Wanted},
    key::{KeyType, SubjectKey},
    principal::{Allowed, Principal},
    profile::{Extension, Profile},
};

/// When the tests are: it is no matter.
pub(super) const NOW_S: u64 = 1_800_000_000;

/// A pair that ssh-keygen makes; the file of the secret half.
pub(super) fn pair(directory: &Path, name: &str, kind: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-N", "", "-C", "a comment", "-f"])
        .arg(&path);
    let made = command.arg("-t").args(kind).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    path
}

/// The line of a pair's public half.
pub(super) fn line(path: &Path) -> String {
    fs::read_to_string(path.with_extension("pub")).unwrap()
}

/// A key without a secret half, for what does not look at it.
pub(super) fn key(directory: &Path) -> SubjectKey {
    SubjectKey::parse(&line(&pair(directory, "some", &["ed25519"]))).unwrap()
}

pub(super) fn ca(algorithm: Algorithm) -> Ready {
    let mut authority = Authority::default();
    authority.add(algorithm, SystemTime::UNIX_EPOCH).unwrap();
    authority.signing().unwrap()
}

/// That an account may do that on a profile.
pub(super) fn allowed(account: &str, action: &str, profile: &str) -> Authorized {
    let rule = Rule {
        name: "all".to_owned(),
        description: String::new(),
        priority: 0,
        effect: Effect::Allow,
        subjects: Subjects {
            anyone: true,
            ..Subjects::default()
        },
        actions: vec!["ssh:*".to_owned()],
        resources: vec!["ssh/**".to_owned()],
        resource_tags: Vec::new(),
    };
    let policy = Policy {
        admin_bypass: false,
        rules: vec![rule],
    };
    let subject = Subject {
        account: format!("id-of-{account}").parse().unwrap(),
        name: account.parse().unwrap(),
        account_type: AccountType::Human,
        roles: BTreeSet::new(),
        tags: BTreeSet::new(),
    };
    let on = ResourceName::of(["ssh", "profiles", profile]).unwrap();
    let policy = PolicySet::compile(&policy).unwrap();
    let action = action.parse().unwrap();
    policy
        .authorize(&subject, &action, &Resource::from(on))
        .unwrap()
}

/// That Ada may sign by it.
pub(super) fn ada(profile: &str) -> Authorized {
    allowed("ada", action::SIGN.0, profile)
}

/// A profile that allows people their own names.
pub(super) fn people() -> Profile {
    Profile {
        name: "people".parse().unwrap(),
        kind: Kind::User,
        principals: vec![Allowed::Caller],
        extensions: BTreeSet::from([Extension::PermitPty]),
        source_addresses: Vec::new(),
        force_command: None,
        verify_required: false,
        ttl_s: 3600,
        max_ttl_s: 7200,
        key_types: BTreeSet::from(KeyType::ALL),
    }
}

/// A profile that allows hosts of a domain.
pub(super) fn hosts() -> Profile {
    Profile {
        name: "hosts".parse().unwrap(),
        kind: Kind::Host,
        principals: vec![Allowed::Below("example.org".parse().unwrap())],
        extensions: BTreeSet::new(),
        ..people()
    }
}

pub(super) fn wanted(kind: Kind, key: &SubjectKey, principals: &[&str]) -> Wanted {
    let parse = |text: &&str| Principal::parse(kind, text).unwrap();
    Wanted {
        key: key.clone(),
        principals: principals.iter().map(parse).collect(),
        ttl_s: 0,
    }
}

pub(super) fn stamp(serial: u64, now_s: u64) -> Stamp {
    Stamp {
        serial,
        nonce: [7; NONCE],
        now_s,
    }
}

/// What ssh-keygen shows of a certificate, without what is in front of the lines.
pub(super) fn shown(line: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some-cert.pub");
    fs::write(&path, format!("{line}\n")).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.env("TZ", "UTC").arg("-L").arg("-f").arg(path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .skip(1)
        .map(|line| line.trim().to_owned())
        .collect()
}

/// A profile for users by their own names, as somebody sends it.
pub(super) fn sent_people() -> pb::SshProfile {
    let what = Some(pb::ssh_principal::What::Account(true));
    pb::SshProfile {
        kind: pb::SshKind::User.into(),
        principals: vec![pb::SshPrincipal { what }],
        max_ttl_s: 7200,
        ttl_s: 3600,
        ..pb::SshProfile::default()
    }
}
