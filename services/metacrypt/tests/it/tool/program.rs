//! The subcommands that look before a start, and options that all have.

use std::fs;

use crate::world::{SEAL, World};

/// What is asked before a start, and with secrets that are to be tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_is_missing() {
    let world = World::new().await;
    let root = world.root.path();
    let check = || {
        let out = world.run(&["check"], "");
        let text = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, told) = check();
    assert!(code == 1 && told.contains("run `metacrypt init`"), "{told}");
    let made = world.run(&["--json", "init"], SEAL);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let (code, told) = check();
    assert!(code == 0 && told.contains(&world.url), "{told}");
    let recovery = made["recovery_key"].as_str().unwrap();
    for (description, typed, fine) in [("the key", recovery, true), ("another", SEAL, false)] {
        let tried = world.run(&["unseal", "--verify", "--recovery-key"], typed);
        assert_eq!(tried.status.success(), fine, "{description}: {tried:?}");
    }
    let file = root.join("metacrypt.toml");
    let good = fs::read_to_string(&file).unwrap();
    for (description, old, new, wanted) in [
        (
            "no token",
            "token_file = 'token'",
            "token_file = 'none'",
            "mciasctl token issue",
        ),
        (
            "another service",
            "service_name = 'metacrypt'",
            "service_name = 'other'",
            &format!(
                "by {}: it does not know the service \"other\"",
                world.issuer
            ),
        ),
        ("nobody there", "", "", "does not answer"),
    ] {
        let text = match description {
            "nobody there" => {
                let port = format!("localhost:{}", world.mcias.handle.grpc().port());
                good.replace(&port, "localhost:1")
            }
            _ => good.replace(old, new),
        };
        assert_ne!(text, good, "{description}");
        fs::write(&file, text).unwrap();
        let (code, told) = check();
        assert!(code == 1 && told.contains(wanted), "{description}: {told}");
    }
}

/// Options may stand anywhere, and a variable without a text is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_said_before_or_after() {
    let world = World::sealed().await;
    for (description, args, want) in [
        ("before", &["--json", "status"][..], true),
        ("after", &["status", "--json"], true),
        ("not", &["status"], false),
    ] {
        let mut command = world.command();
        let out = command
            .args(args)
            .env("METACRYPT_SERVER", "")
            .env("MC_TOKEN_FILE", "");
        let out = out.output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{description}: {out:?}");
        let json = serde_json::from_slice::<serde_json::Value>(&out.stdout);
        assert_eq!(
            json.is_ok_and(|json| json["sealed"] == true),
            want,
            "{description}"
        );
    }
    let wrong = world.run(&["unseal", "--json"], "wrong");
    let told: serde_json::Value = serde_json::from_slice(&wrong.stderr).unwrap();
    assert_eq!(told["exit_code"], 5, "{told}");
}
