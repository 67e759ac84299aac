//! A daemon that is killed with -9 at each write of a change of its seal: one of the two passwords opens it then, and what was told to be done is.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
};

use mc_proto::metacrypt::v1::{
    RotateMasterKeyRequest, SealSecret, SetPasswordRequest, UnsealRequest,
};
use tonic::Code;

use crate::{
    policy::vault,
    transit,
    world::{SEAL, World, by},
};

const OTHER: &str = "quarry lantern bishop upward mosaic";
/// What writes to the database and its log (SQLite's).
const WRITES: &str = "pwrite64,fdatasync,fsync,ftruncate,unlink";
/// More than either change makes.
const MOST: usize = 100;

#[derive(Clone, Copy, Debug)]
enum Change {
    Password,
    MasterKey,
}

/// Has the daemon killed at its so many-th write from now. What strace says is to be kept open: it tells of threads, and ends where it cannot.
fn kill_at(pid: u32, step: usize) -> (Child, BufReader<ChildStderr>) {
    let mut strace = Command::new("strace")
        .args(["--follow-forks", "--output=/dev/null"])
        .arg(format!("--attach={pid}"))
        .arg(format!("--trace={WRITES}"))
        .arg(format!("--inject={WRITES}:signal=KILL:when={step}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    (strace, said)
}

/// Opens a sealed one.
async fn opens(world: &World, password: &str) -> bool {
    let request = UnsealRequest {
        password: password.to_owned(),
        ..UnsealRequest::default()
    };
    match world.client().await.unseal(request).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
            false
        }
    }
}

async fn change(world: &World, token: &str, what: Change, from: &str, to: &str) -> bool {
    let mut client = world.client().await;
    let current = Some(SealSecret {
        password: from.to_owned(),
        ..SealSecret::default()
    });
    let password = to.to_owned();
    match what {
        Change::Password => {
            let request = SetPasswordRequest { current, password };
            client.set_password(by(token, request)).await.is_ok()
        }
        Change::MasterKey => {
            let request = RotateMasterKeyRequest {
                current,
                password,
                ..RotateMasterKeyRequest::default()
            };
            client.rotate_master_key(by(token, request)).await.is_ok()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_changed_or_not() {
    one_of_two_opens(Change::Password).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_is_changed_or_not() {
    one_of_two_opens(Change::MasterKey).await;
}

async fn one_of_two_opens(what: Change) {
    let mut world = World::open().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut clients = world.clients(&token).await;
    vault(&mut clients, &["k"]).await;
    let kept = transit::encrypt(&mut clients, "k", &[b"kept"]).await;
    let mut password = SEAL;
    let mut killed = 0;
    for step in 1..MOST {
        let other = if password == SEAL { OTHER } else { SEAL };
        let pid = world.metacrypt.as_ref().unwrap().id();
        let (mut strace, _said) = kill_at(pid, step);
        let done = change(&world, &token, what, password, other).await;
        let _ = strace.kill();
        strace.wait().unwrap();
        // Whatever became of it, it ends here.
        world.metacrypt = None;
        world.start();
        if opens(&world, other).await {
            password = other;
        } else {
            assert!(!done, "{what:?}, step {step}: what was done is lost");
            assert!(
                opens(&world, password).await,
                "{what:?}, step {step}: neither opens it"
            );
        }
        let mut clients = world.clients(&token).await;
        let opened = clients
            .transit
            .decrypt(transit::decrypt("k", &kept, b"about"))
            .await;
        let plaintexts = opened.unwrap().into_inner().plaintexts;
        assert_eq!(plaintexts[0].plaintext, b"kept", "{what:?}, step {step}");
        if done {
            break;
        }
        killed += 1;
    }
    assert!(killed > 1 && killed < MOST - 1, "{what:?}: {killed}");
    eprintln!("{what:?}: killed at {killed} writes");
}
