//! What is asked while nothing can be written: it is refused and has not happened, and all is well again once there is room.

use std::{fs, path::Path};

use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, ListKeysRequest, SealRequest, SignSshKeyRequest, UnsealRequest,
    sealing_client::SealingClient,
};
use mc_testkit::wait_for_async;
use rusqlite::Connection;
use tonic::{Code, Status};

use super::{super::wanted, *};
use crate::{
    policy,
    running::PASSWORD,
    web::Http,
    world::{Clients, SEAL, World, by},
};

/// What callers are told of a disk that takes nothing.
const UNWRITTEN: &str = "the service cannot write anything at this moment; try again later";

/// Who calls each engine.
struct Callers {
    acme: Acme,
    admin: Clients,
    account: Account,
    /// For SSH.
    public_key: String,
    calls: u32,
}

/// How a call of each engine ended.
type Ended = [(&'static str, Result<(), Status>); 4];

impl Callers {
    async fn new() -> Self {
        let mut acme = Acme::new().await;
        let admin = &mut acme.ca.admin;
        policy::vault(admin, &["app"]).await;
        let (public_key, _) = crate::ssh::one_of_each(admin).await;
        let account = acme.account().await;
        let admin = acme.ca.world.admin().await;
        Self {
            acme,
            admin,
            account,
            public_key,
            calls: 0,
        }
    }

    fn world(&self) -> &World {
        &self.acme.ca.world
    }

    /// The service has been started again.
    async fn again(&mut self) {
        let world = &self.acme.ca.world;
        let token = world.token("admin", &world.mcias.password).await;
        self.admin = world.clients(&token).await;
        self.acme.ca.pki = super::super::client(world, &token).await;
    }

    /// A call of each engine, all at once.
    async fn call(&mut self) -> Ended {
        let sign = SignSshKeyRequest {
            mount: "ssh".to_owned(),
            profile: "app".to_owned(),
            public_key: self.public_key.clone(),
            principals: vec!["app".to_owned()],
            ttl_s: 0,
        };
        // Of the same name the order that there is would be told.
        self.calls += 1;
        let name = format!("n{}.svc.example.org", self.calls);
        let names = [dns(&name)];
        let order = NewOrder::new(&names);
        let (encrypted, issued, signed, ordered) = tokio::join!(
            self.admin.transit.encrypt(policy::encrypt("vault", "app")),
            self.acme.ca.pki.issue(wanted("web", &[&name])),
            self.admin.ssh.sign(sign),
            self.account.new_order(&order),
        );
        let ordered = ordered.map(drop).map_err(|error| match &error {
            Error::Api(problem) if problem.status == Some(503) => {
                Status::unavailable(problem.to_string())
            }
            _ => Status::internal(kind::<()>(Err(error))),
        });
        [
            ("encrypt", encrypted.map(drop)),
            ("issue", issued.map(drop)),
            ("sign", signed.map(drop)),
            ("order", ordered),
        ]
    }

    /// What is there of all that was asked for: items of all mounts, certificates and orders among them, and rows of the log.
    fn there(&self) -> (i64, i64) {
        let db = Connection::open(self.world().file("metacrypt.db")).unwrap();
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            db.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        (count("item"), count("audit"))
    }

    async fn all_is_well(&mut self, description: &str) {
        let before = self.there();
        for (call, ended) in self.call().await {
            assert!(ended.is_ok(), "{description}: {call}: {ended:?}");
        }
        let after = self.there();
        let rows = self.world().audit();
        let new = &rows[rows.len().min(before.1 as usize)..];
        assert!(
            after.0 >= before.0 + 3,
            "{description}: two certificates, an order"
        );
        assert!(
            after.1 >= before.1 + 4,
            "{description}: each has its row: {new:?}"
        );
    }

    /// Each is refused so, and nothing is there of it.
    async fn nothing_is_done(&mut self, description: &str, code: Code, text: &str) {
        let before = self.there();
        for (call, ended) in self.call().await {
            let refused = ended.expect_err(call);
            if call == "order" {
                // Strangers learn less.
                assert_eq!(
                    refused.code(),
                    Code::Unavailable,
                    "{description}: {refused}"
                );
                continue;
            }
            let got = (refused.code(), refused.message());
            assert!(
                got.0 == code && got.1.contains(text),
                "{description}: {call}: {got:?}"
            );
        }
        assert_eq!(self.there(), before, "{description}");
    }
}

/// Somebody else holds the database's lock, so that no row can be written, but all be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_down_is_not_done() {
    let mut callers = Callers::new().await;
    callers.all_is_well("before").await;
    let other = Connection::open(callers.world().file("metacrypt.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    callers
        .nothing_is_done("locked", Code::Internal, "see the service's log")
        .await;
    other.execute_batch("ROLLBACK").unwrap();
    callers.all_is_well("after").await;
}

fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |file| file.len())
}

fn run(world: &World, command: &str) -> (Option<i32>, String) {
    let out = world.run(&[command], "");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    (out.status.code(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_gets_over() {
    const DISK: u32 = 64;
    let mut callers = Callers::new().await;
    // Another than whose ACME account it is: all his ways have one share.
    let mcias = &callers.world().mcias;
    mcias.admin().await.person("eve", "user").await;
    let token = callers.world().token("eve", PASSWORD).await;
    let rule = Rule {
        accounts: vec!["eve".to_owned()],
        ..policy::allow("eve", &["transit:encrypt"], &["vault/keys/app"])
    };
    policy::put(&mut callers.admin, rule).await;
    let disk = callers.acme.ca.world.onto_small_disk(DISK).await;
    callers.again().await;
    let http = Http::at(callers.world().https, &callers.world().mcias.ca.pem());
    let health = async |wanted: u16| {
        let look =
            async || (http.ask("GET", "/healthz", &[], "").await.status == wanted).then_some(());
        wait_for_async("health", look).await.unwrap();
    };
    health(200).await;
    assert_eq!(run(callers.world(), "status").0, Some(0));

    // A twentieth of it is left: accounts have shares, and the database's log gives its room back.
    callers.all_is_well("much room").await;
    let log = callers.world().file("metacrypt.db-wal");
    assert!(length(&log) > 0);
    disk.fill_but(u64::from(DISK) * 1024 / 20).unwrap();
    let emptied = async || (length(&log) == 0).then_some(());
    wait_for_async("the log gives back its room", emptied)
        .await
        .unwrap();
    let told = run(callers.world(), "check").1;
    assert!(told.contains("left; make room"), "{told}");
    let (code, told) = run(callers.world(), "status");
    assert!(
        code == Some(0) && told.contains("little room left"),
        "{told}"
    );
    let mut eve = callers.world().clients(&token).await;
    let mut calls = 0;
    let refused = loop {
        match eve.transit.encrypt(policy::encrypt("vault", "app")).await {
            Ok(_) => calls += 1,
            Err(refused) => break refused,
        }
        assert!(calls <= 120, "of a minute, or of two");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("little room left"), "{refused}");
    assert!(calls >= 60, "{calls}");
    health(200).await;
    callers.all_is_well("administrators have no share").await;

    // To the last byte. What the log gives back is no room for the rest.
    wait_for_async("the log is empty again", emptied)
        .await
        .unwrap();
    disk.fill().unwrap();
    callers
        .nothing_is_done("full", Code::Unavailable, UNWRITTEN)
        .await;
    health(503).await;
    let (code, told) = run(callers.world(), "status");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("nothing can be written"), "{told}");
    // What is public is there; what is read, and written down, is not.
    for path in [
        "/v1/pki/ca/issuer/services/crl",
        "/v1/pki/ca/issuer/services/der",
    ] {
        let (got, _) = callers.world().fetch(path, Path::new("/dev/null"));
        assert_eq!(got, 200, "{path}");
    }
    let list = ListKeysRequest {
        mount: "vault".to_owned(),
        ..ListKeysRequest::default()
    };
    let refused = callers.admin.transit.list_keys(list).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, UNWRITTEN)
    );
    // It is sealed, whatever can be written, but not opened.
    let mut seal = SealingClient::new(callers.world().channel().await);
    let token = callers
        .world()
        .token("admin", &callers.world().mcias.password)
        .await;
    let sealed = seal.seal(by(&token, SealRequest {})).await.unwrap_err();
    assert_eq!(sealed.code(), Code::Internal);
    assert!(
        sealed.message().contains("it is sealed, and no row"),
        "{sealed}"
    );
    let unseal = || UnsealRequest {
        password: SEAL.to_owned(),
        ..UnsealRequest::default()
    };
    let refused = seal.unseal(unseal()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, UNWRITTEN)
    );
    let state = seal.get_seal_status(GetSealStatusRequest {}).await.unwrap();
    assert!(state.into_inner().sealed);

    // By itself.
    disk.free().unwrap();
    let written = async || {
        (!run(callers.world(), "status")
            .1
            .contains("nothing can be written"))
        .then_some(())
    };
    wait_for_async("it is written again", written)
        .await
        .unwrap();
    seal.unseal(unseal()).await.unwrap();
    health(200).await;
    callers.all_is_well("room again").await;
    assert_eq!(run(callers.world(), "status").0, Some(0));
}
