//! A daemon that is killed with -9 in a change of its seal: one of the two passwords opens it then, and what was told to be done is. Every state in which such a
//! change may leave the disk is looked at in the barrier's own tests.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use mc_proto::metacrypt::v1::{
    RotateMasterKeyRequest, SealSecret, SetPasswordRequest, UnsealRequest,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rusqlite::Connection;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::{
    policy::vault,
    transit,
    world::{SEAL, World, by},
};

const OTHER: &str = "quarry lantern bishop upward mosaic";
/// What writes to the database and its log (SQLite's).
const WRITES: &str = "pwrite64,fdatasync,fsync,ftruncate,unlink";

#[derive(Clone, Copy, Debug)]
enum Change {
    Password,
    MasterKey,
}

/// A daemon that stops after each of its writes, whichever thread made it.
struct Stepped {
    strace: Child,
    /// To be kept open: strace tells of threads, and ends where it cannot.
    _said: BufReader<ChildStderr>,
    pid: Pid,
}

impl Stepped {
    fn new(pid: u32) -> Self {
        let mut strace = Command::new("strace")
            .args(["--follow-forks", "--output=/dev/null"])
            .arg(format!("--attach={pid}"))
            .arg(format!("--trace={WRITES}"))
            .arg(format!("--inject={WRITES}:signal=STOP"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        let pid = Pid::from_raw(pid.try_into().unwrap());
        Self {
            strace,
            _said: said,
            pid,
        }
    }

    /// Waits until it stops; false: the call has ended before.
    async fn stops(&self, call: &JoinHandle<bool>) -> bool {
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
        loop {
            let ended = call.is_finished();
            match waitpid(self.pid, Some(flags)).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return true,
                WaitStatus::StillAlive if ended => return false,
                WaitStatus::StillAlive => tokio::time::sleep(Duration::from_millis(1)).await,
                other => panic!("{other:?}"),
            }
        }
    }

    fn goes_on(&self) {
        kill(self.pid, Signal::SIGCONT).unwrap();
    }
}

impl Drop for Stepped {
    /// What it has stopped goes on.
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        // If it still is.
        let _ = kill(self.pid, Signal::SIGCONT);
    }
}

/// A change, and what came of it.
struct Rekey {
    world: World,
    token: String,
    what: Change,
    kept: Vec<String>,
}

impl Rekey {
    async fn new(what: Change) -> Self {
        let mut world = World::open().await;
        let token = world.token("admin", &world.mcias.password).await;
        let mut clients = world.clients(&token).await;
        vault(&mut clients, &["k"]).await;
        let kept = transit::encrypt(&mut clients, "k", &[b"kept"]).await;
        let stopped = world.metacrypt.take().unwrap().terminate();
        assert!(stopped.unwrap().success());
        fs::copy(world.file("metacrypt.db"), world.file("before")).unwrap();
        Self {
            world,
            token,
            what,
            kept,
        }
    }

    /// Begins to make the change in the database as it was before.
    async fn begin(&mut self) -> (Stepped, JoinHandle<bool>) {
        self.world.metacrypt = None;
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(self.world.file(&format!("metacrypt.db{end}")));
        }
        fs::copy(self.world.file("before"), self.world.file("metacrypt.db")).unwrap();
        self.world.start();
        self.world.unseal().await;
        let stepped = Stepped::new(self.world.metacrypt.as_ref().unwrap().id());
        (stepped, self.make().await)
    }

    /// Makes the change; whether it was told to be made.
    async fn make(&self) -> JoinHandle<bool> {
        let mut client = self.world.client().await;
        let current = Some(SealSecret {
            password: SEAL.to_owned(),
            ..SealSecret::default()
        });
        let (what, token, password) = (self.what, self.token.clone(), OTHER.to_owned());
        tokio::spawn(async move {
            match what {
                Change::Password => {
                    let request = SetPasswordRequest { current, password };
                    client.set_password(by(&token, request)).await.is_ok()
                }
                Change::MasterKey => {
                    let request = RotateMasterKeyRequest {
                        current,
                        password,
                        ..RotateMasterKeyRequest::default()
                    };
                    client.rotate_master_key(by(&token, request)).await.is_ok()
                }
            }
        })
    }

    /// Whether the change is on the disk, as whoever opens the database next has it.
    fn is_made(&self) -> bool {
        let copy = tempfile::tempdir().unwrap();
        for name in ["metacrypt.db", "metacrypt.db-wal"] {
            fs::copy(self.world.file(name), copy.path().join(name)).unwrap();
        }
        let slot = |path| {
            let db = Connection::open(path).unwrap();
            let sql = "SELECT master_key FROM key_slot WHERE kind = 'password'";
            db.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))
                .unwrap()
        };
        slot(copy.path().join("metacrypt.db")) != slot(self.world.file("before"))
    }

    /// Opens one that is sealed.
    async fn opens(&self, password: &str) -> bool {
        let request = UnsealRequest {
            password: password.to_owned(),
            ..UnsealRequest::default()
        };
        match self.world.client().await.unseal(request).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
                false
            }
        }
    }

    /// That one of the two opens it, and that what was kept is read then.
    async fn one_opens(&mut self, made: bool, step: usize) {
        self.world.start();
        let (opens, not) = match made {
            true => (OTHER, SEAL),
            false => (SEAL, OTHER),
        };
        let what = format!("{:?}, step {step}, made: {made}", self.what);
        assert!(!self.opens(not).await, "{what}: it opens by both");
        assert!(self.opens(opens).await, "{what}: it opens by neither");
        let mut clients = self.world.clients(&self.token).await;
        let request = transit::decrypt("k", &self.kept, b"about");
        let opened = clients.transit.decrypt(request).await;
        let plaintexts = opened.unwrap().into_inner().plaintexts;
        assert_eq!(plaintexts[0].plaintext, b"kept", "{what}");
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
    let mut rekey = Rekey::new(what).await;
    // Through all of its writes: from one of them on it is made.
    let (stepped, call) = rekey.begin().await;
    let mut made = Vec::new();
    while stepped.stops(&call).await {
        made.push(rekey.is_made());
        stepped.goes_on();
    }
    assert!(call.await.unwrap() && rekey.is_made(), "it is done");
    drop(stepped);
    assert!(made.is_sorted(), "what is made stays: {made:?}");
    let commit = made.iter().position(|made| *made).unwrap();
    assert!(commit > 4, "{made:?}");
    eprintln!("{what:?}: made by write {} of {}", commit + 1, made.len());
    // Killed in the middle of them, and by the one that makes it.
    for wanted in [false, true] {
        let (stepped, call) = rekey.begin().await;
        let mut step = 0;
        let made = loop {
            step += 1;
            let stopped = stepped.stops(&call).await;
            assert!(stopped, "{what:?}: it was done at step {step}");
            let made = rekey.is_made();
            if made || (!wanted && step == commit) {
                break made;
            }
            stepped.goes_on();
        };
        let ended = rekey.world.metacrypt.as_mut().unwrap().kill9().unwrap();
        assert_eq!(ended.signal(), Some(9), "{ended:?}");
        drop(stepped);
        assert!(!call.await.unwrap(), "nobody was told that it is made");
        assert_eq!(made, wanted, "{what:?}: step {step}");
        rekey.one_opens(made, step).await;
    }
}
