//! Arguments and what is shown; calls are tested with the program.

use clap::{CommandFactory as _, Parser as _};

use super::policy;
use crate::program::{Cli, Command};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("metacrypt").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_said_wrongly_is_refused() {
    for (description, line, fine) in [
        ("a key", "transit show transit/backup", true),
        ("no mount", "transit show backup", false),
        ("a path", "transit show transit/a/b", false),
        ("an update of nothing", "transit update t/k", false),
        ("an age", "transit update t/k --rotate-after 90d", true),
        ("never", "transit update t/k --rotate-after never", true),
        ("no age", "transit update t/k --rotate-after often", false),
        (
            "no effect",
            "policy put a --anyone --action ** --resource **",
            false,
        ),
        (
            "both effects",
            "policy put a --allow --deny --anyone --action ** --resource **",
            false,
        ),
        (
            "everybody and somebody",
            "policy put a --allow --anyone --role x --action ** --resource **",
            false,
        ),
        (
            "nothing to do",
            "policy put a --allow --anyone --resource **",
            false,
        ),
        ("no shares", "rotate --new-shares none", true),
        ("shares", "rotate --new-shares 2/3", true),
        ("one of none", "rotate --new-shares 3/2", false),
        ("an authority", "ssh ca show ssh host", true),
        ("no authority", "ssh ca show ssh robots", false),
        (
            "no end",
            "ssh profile put s/p --user --account --max-ttl soon",
            false,
        ),
        ("nobody", "ssh profile put s/p --user --max-ttl 8h", false),
        (
            "a host's account",
            "ssh profile put s/p --host --account --max-ttl 8h",
            false,
        ),
        (
            "for nothing",
            "pki profile put p/w --issuer i --dns a.example --max-ttl 8h",
            false,
        ),
        ("for nobody", "pki issue p/w --cert a --key b", false),
        (
            "a key and a request",
            "pki renew p 01 --cert a --key b --csr c",
            false,
        ),
        ("two proofs", "rotate --shares --recovery-key", false),
        ("before and after", "--json audit verify --offline", true),
        ("what no log has", "audit hash --offline", false),
        ("no entry", "audit verify --known 7", false),
        ("a mount's path", "ssh ca list ssh/user", false),
        ("kept", "pki keep p/w --name a --cert a --key b", true),
        (
            "a page",
            "pki keep p/w --name https://a/ --cert a --key b",
            false,
        ),
        (
            "a key that is never kept",
            "pki keep p/w --name a --cert a --key b --key-algorithm rsa",
            false,
        ),
        (
            "a drill that replaces",
            "restore a --verify --replace",
            false,
        ),
        ("a secret for nothing", "restore a --recovery-key", false),
        (
            "a key that is never made here",
            "pki issue p/w --name a --cert a --key b --key-algorithm rsa",
            false,
        ),
    ] {
        assert_eq!(parse(line).is_ok(), fine, "{description}: {line}");
    }
}

#[test]
fn a_key_is_a_mount_and_a_name() {
    let at = super::at("transit/backup").unwrap();
    assert_eq!((at.mount.as_str(), at.name.as_str()), ("transit", "backup"));
}

#[test]
fn a_rule_is_shown_as_the_command_that_makes_it() {
    let line = "policy put backups --allow --priority=3 --role=backup --account=box --action=transit:encrypt \
                --resource=transit/keys/** --comment=nightly";
    let rule = |line: &str| {
        let Command::Tool(command) = parse(line).unwrap().command else {
            panic!("{line}");
        };
        match *command {
            super::Command::Policy(policy::Command::Put(put)) => put.rule(),
            other => panic!("{other:?}"),
        }
    };
    let made = rule(line);
    let command = policy::command(&made);
    let again = rule(&command.replace("metacrypt ", "").replace('\'', ""));
    assert_eq!(made, again, "{command}");
    assert_eq!(policy::change(&made, &again), None);
    let other = rule(&line.replace("nightly", "hourly"));
    let change = policy::change(&made, &other).unwrap();
    assert_eq!(change, "comment nightly -> hourly");
}

#[test]
fn a_profile_is_shown_as_the_command_that_makes_it() {
    use super::{
        pki::Command::Profile as Pki,
        profile::{Profile as _, ProfileCommand::Put, Put as _},
        ssh::Command::Profile as Ssh,
    };
    for line in [
        "pki profile put pki/web --issuer services --dns=a.example --below=svc.example --wildcards --ip=10.0.0.0/8 \
         --for-server --for-client --key=ed25519 --key=rsa --common-name --acme --acme-description=servers \
         --acme-network=10.0.0.0/8 --ttl=7d --max-ttl=30d",
        "pki profile put pki/web --issuer services --uri=spiffe://a/b --uri-below=spiffe://a/c --for-client --max-ttl=90m",
        "ssh profile put ssh/people --user --account --principal=deploy --source=10.0.0.0/8 --max-ttl=10h",
        "ssh profile put ssh/run --user --principal=run --no-extensions --force-command=true --ttl=1h --max-ttl=10h",
        "ssh profile put ssh/keys --user --account --key-type=sk-ed25519 --extension=permit-x11-forwarding --verify-required --max-ttl=1h",
        "ssh profile put ssh/hosts --host --below=example.org --max-ttl=90d",
    ] {
        // What it says alone, the command that makes it, and what that says.
        let shown = |line: &str| {
            let Command::Tool(command) = parse(line).unwrap().command else {
                panic!("{line}");
            };
            match *command {
                super::Command::Pki(Pki(Put(put))) => {
                    let profile = put.profile();
                    (
                        profile.lines(),
                        profile.command(&put.at().to_string()).line(),
                    )
                }
                super::Command::Ssh(Ssh(Put(put))) => {
                    let profile = put.profile();
                    (
                        profile.lines(),
                        profile.command(&put.at().to_string()).line(),
                    )
                }
                other => panic!("{other:?}"),
            }
        };
        let (lines, command) = shown(line);
        let (again, same) = shown(command.strip_prefix("metacrypt ").unwrap());
        assert_eq!((lines, &command), (again, &same), "{line}");
    }
}
