//! The operator's tool as a process: exit codes, hints and output where no daemon, a dead one or a foreign one answers.

use std::{
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
};

fn ctl(socket: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcproxyctl"))
        .args(args)
        .arg("--socket")
        .arg(socket)
        .env_remove("MC_ROOT")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each command that talks to the daemon.
const COMMANDS: [&[&str]; 19] = [
    &["listener", "list"],
    &["listener", "add", "127.0.0.1:443"],
    &["listener", "remove", "127.0.0.1:443"],
    &["route", "list"],
    &["route", "show", "a.example"],
    &["route", "add", "a.example", "--backend", "127.0.0.1:1"],
    &["route", "disable", "a.example"],
    &["backend", "list", "--port", "443"],
    &["firewall", "list"],
    &["firewall", "block", "192.0.2.1"],
    &["firewall", "unban", "192.0.2.1"],
    &["firewall", "export"],
    &["firewall", "country", "list"],
    &["firewall", "rate", "show"],
    &["explain", "192.0.2.1", "--sni", "a.example"],
    &["stats"],
    &["maps", "verify"],
    &["status"],
    &["detach", "--yes"],
];

#[test]
fn without_a_daemon_it_says_which_socket_and_how_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("admin.sock");
    let dead = dir.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for args in COMMANDS {
        for socket in [&absent, &dead] {
            let output = ctl(socket, args);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(4), "{args:?}: {text}");
            assert!(text.contains(&socket.display().to_string()), "{text}");
            assert!(
                text.contains("\n hint: start it with `systemctl start mc-proxy`"),
                "{text}"
            );
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn errors_are_json_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let output = ctl(&dir.path().join("x"), &["status", "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["exit_code"], 4);
    assert!(error["error"].as_str().unwrap().contains("not running"));
    assert!(error["hint"].is_string());
}

#[test]
fn input_is_judged_before_the_daemon_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\nkind = 'ban'\ncidr = '192.0.2.1'\n").unwrap();
    let rules = rules.display().to_string();
    let rows: [(&[&str], &str); 4] = [
        (&["detach"], "--yes"),
        (&["firewall", "import", &rules], "needs a ttl"),
        (
            &["firewall", "import", "/nonexistent"],
            "cannot read /nonexistent",
        ),
        (
            &["route", "add", "a.example", "--backend", "here"],
            "names are not resolved",
        ),
    ];
    for (args, want) in rows {
        let output = ctl(&dir.path().join("x"), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(want),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

/// A daemon that knows none of the methods: an older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_daemon_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(incoming);
    let server = tokio::spawn(server);
    for args in COMMANDS {
        let output = tokio::task::block_in_place(|| ctl(&socket, args));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(
            text.contains("older than this mcproxyctl"),
            "{args:?}: {text}"
        );
    }
    server.abort();
}

#[test]
fn completions_need_no_daemon_and_survive_a_closed_pipe() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ctl(Path::new("/nonexistent"), &["completions", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("firewall"),
            "{shell}"
        );
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcproxyctl"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
