//! A mount with ACME, its limits, and whether its accounts still stand.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use mcdsl::auth::{AuthError, Identity};

use super::{
    super::KIND,
    Memory, account,
    nonce::Nonces,
    of_source,
    problem::{Problem, Type},
    store::{AcmeAccount, Settings, Standing},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, seconds},
    entered::{Entered, Public},
};

/// A mount with ACME. While it lives, the seal stays open.
pub(super) struct Here {
    pub(super) api: Api,
    public: Public,
    /// `https://host/v1/pki/<mount>/acme`.
    pub(super) base: String,
}

impl Here {
    pub(super) async fn of(api: &Api, mount: &str) -> Result<Self, Problem> {
        let public = api.0.public(&KIND, mount, &[])?;
        let settings = public.read(Settings::get).await?;
        let Some(base) = &settings.base else {
            let none =
                Problem::malformed("there is no ACME in this mount; an operator turns it on");
            return Err(none.with_status(404));
        };
        Ok(Self {
            base: format!("{base}/v1/pki/{mount}/acme"),
            api: api.clone(),
            public,
        })
    }

    pub(super) fn mount(&self) -> &str {
        self.public.mount().name()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.api.0.seal.clock().now()
    }

    pub(super) fn now_s(&self) -> u64 {
        seconds(self.now())
    }

    /// The time by which things are forgotten for good.
    pub(super) fn sure_s(&self) -> u64 {
        seconds(self.api.0.past.sure(self.api.0.seal.clock()))
    }

    /// The clock that nobody sets: how often something may be asked goes by it.
    pub(super) fn steady(&self) -> Instant {
        self.api.0.seal.clock().steady()
    }

    pub(super) fn memory(&self) -> Result<&Memory, Problem> {
        Ok(Memory::of(self.public.mount())?)
    }

    pub(super) fn nonces(&self) -> Result<&Nonces, Problem> {
        Ok(self.memory()?.nonces(self.public.mount()))
    }

    /// A nonce for the next request; none, if that cannot be.
    pub(super) fn nonce(&self) -> Option<String> {
        self.nonces().ok()?.make(self.now_s())
    }

    /// Somebody asks who need not have an account.
    pub(super) fn stranger(&self, source: IpAddr) -> Result<(), Problem> {
        let strangers = &self.memory()?.strangers;
        let asked = strangers.ask(of_source(source), self.steady());
        asked.map_err(limited)
    }

    /// An account has something written down: of what little room the disk may have it has the share of any account.
    pub(super) fn writes(&self, account: &Identity) -> Result<(), Problem> {
        let admitted = self.api.0.audit.admit(Some(account));
        admitted.map_err(|status| Problem::later(Type::RateLimited, status.message(), 60))
    }

    /// Somebody changes what is known of an account.
    pub(super) fn changes(&self, account: &str) -> Result<(), Problem> {
        let changes = &self.memory()?.changes;
        let asked = changes.ask(account.to_owned(), self.steady());
        asked.map_err(limited)
    }

    /// Reads what the mount has.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Items<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.public.read(read).await?)
    }

    /// The service itself, where nothing is written down.
    pub(super) fn own(&self) -> Result<Arc<Entered>, Problem> {
        Ok(self.api.0.own(&KIND, self.mount(), "pki.acme")?)
    }

    /// Changes what the mount has without a word in the log.
    pub(super) async fn keep<T: Send + 'static>(
        &self,
        keep: impl FnOnce(&Items<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, Problem> {
        let keep = move |items: &Items<'_>, _: &Entered| keep(items);
        Ok(self.own()?.keep(keep).await?)
    }
}

/// It was asked too often.
pub(super) fn limited(seconds: u64) -> Problem {
    Problem::later(Type::RateLimited, "too many requests; wait", seconds)
}

/// Whether what was given to an account of MCIAS is still its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// The account may not be used at the moment, or is no more.
    NotNow,
    /// For ever: MCIAS revoked what was given until then.
    Revoked,
    /// Nobody can say.
    Unknown,
}

impl Here {
    /// Whether what was given to somebody then still holds. MCIAS is asked for the account too: it does not tell for ever what it revoked, and a key lives longer.
    pub(super) async fn holds(&self, given: &Identity) -> Holds {
        let Some(mcias) = self.api.0.mcias.get() else {
            return Holds::Unknown;
        };
        match mcias.is_revoked(given) {
            Some(true) => return Holds::Revoked,
            None => return Holds::Unknown,
            Some(false) => {}
        }
        self.asked(mcias.is_active(&given.account)).await
    }

    /// What MCIAS says to a question; who closes the seal does not wait for that.
    async fn asked(&self, ask: impl Future<Output = Result<bool, AuthError>>) -> Holds {
        let ask = async { Ok(ask.await) };
        match self.public.unless_closed(ask).await {
            Ok(Ok(true)) => Holds::Yes,
            Ok(Ok(false)) => Holds::NotNow,
            Ok(Err(_)) | Err(_) => Holds::Unknown,
        }
    }

    /// The account at an address.
    pub(super) async fn account(&self, kid: &str) -> Result<(String, AcmeAccount), Problem> {
        let id = kid.strip_prefix(&*format!("{}/acct/", self.base));
        let id = id.unwrap_or_default().to_owned();
        let found = self
            .read(move |items| Ok(AcmeAccount::find(items, &id)?.map(|found| (id, found))))
            .await?;
        found.ok_or_else(|| {
            Problem::new(
                Type::AccountDoesNotExist,
                "kid: there is no such account; make one (newAccount)",
            )
        })
    }

    /// That an account may still do something.
    pub(super) async fn stands(&self, account: &AcmeAccount, id: &str) -> Result<(), Problem> {
        let ended = |why| Err(Problem::new(Type::Unauthorized, why));
        match account.standing {
            Standing::Valid => {}
            Standing::Deactivated => return ended("the account is deactivated"),
            Standing::Revoked => {
                return ended(
                    "the account of MCIAS that it was bound to was revoked; send newAccount with another ACME key of that account (`metacrypt pki acme key create`)",
                );
            }
        }
        match self.holds(&account.owner.identity()).await {
            Holds::Yes => Ok(()),
            Holds::NotNow => ended(
                "the account of MCIAS that it was bound to is disabled, locked or deleted there",
            ),
            Holds::Revoked => {
                let id = id.to_owned();
                let now_s = self.now_s();
                self.keep(move |items| account::end(items, &id, Standing::Revoked, now_s))
                    .await?;
                ended(
                    "the account of MCIAS that it was bound to was revoked; send newAccount with another ACME key of that account (`metacrypt pki acme key create`)",
                )
            }
            Holds::Unknown => Err(unknown()),
        }
    }
}

/// Fails closed.
pub(super) fn unknown() -> Problem {
    let why = "whether the account still stands cannot be asked of MCIAS now; try again";
    Problem::later(Type::ServerInternal, why, 5).with_status(503)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcdsl::server::Audit as _;

    use super::{super::store::use_nonce, *};
    use crate::{
        jobs::round,
        testing::{World, caller, nothing},
    };

    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    async fn used(here: &Here, text: &str) -> Result<(), Problem> {
        let nonce = here.nonces()?.read(text, here.now_s());
        let sure_s = here.sure_s();
        let nonce = nonce.expect("one that is good");
        here.keep(move |items| use_nonce(items, &nonce, sure_s))
            .await?
    }

    /// With a mount `ca` that has ACME.
    async fn here(world: &World) -> Here {
        world.metacrypt.mount("ca", "pki", nothing()).await.unwrap();
        let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
        let settings = Settings {
            base: Some("https://ca.example.org".to_owned()),
            resolvers: Vec::new(),
        };
        let on = at.keep(move |items, _| settings.put(items));
        on.await.unwrap();
        drop(at);
        let here = Here::of(&Api(Arc::clone(&world.metacrypt)), "ca").await;
        here.unwrap()
    }

    #[tokio::test]
    async fn a_question_that_mcias_does_not_answer_does_not_keep_the_seal_open() {
        let world = World::open().await;
        let here = here(&world).await;
        let asks = async {
            let told = here.asked(std::future::pending()).await;
            drop(here);
            told
        };
        let closes = async { tokio::join!(asks, world.metacrypt.close()) };
        let done = tokio::time::timeout(Duration::from_secs(30), closes).await;
        assert_eq!(done, Ok((Holds::Unknown, ())));
    }

    #[tokio::test]
    async fn an_account_has_its_share_of_what_little_room_there_is() {
        let world = World::open().await;
        let here = here(&world).await;
        let who = |name| caller(name, "user", "/test/Acme").identity.unwrap();
        let written = |name| {
            (0..1000)
                .filter(|_| here.writes(&who(name)).is_ok())
                .count()
        };
        let left = |left| {
            let scarce = world.metacrypt.audit.scarce();
            scarce.measured(left, 1 << 40, std::path::Path::new("/srv"));
        };
        for (description, room, most) in [
            ("much room", 1 << 39, 1000),
            ("little", 1 << 20, 60),
            ("room again", 1 << 39, 1000),
        ] {
            left(room);
            for name in ["ada", "bob"] {
                assert_eq!(written(name), most, "{description}: {name}");
            }
        }
        left(1 << 20);
        let refused = here.writes(&who("ada")).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(60)));
        let mut admin = who("ada");
        admin.roles = vec!["admin".to_owned()];
        here.writes(&admin).unwrap();
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_has_no_nonce_taken_again() {
        let world = World::open().await;
        let here = here(&world).await;
        let first = here.nonce().unwrap();
        used(&here, &first).await.unwrap();
        world.clock.set_ahead(YEAR);
        for _ in 0..3 {
            used(&here, &here.nonce().unwrap()).await.unwrap();
        }
        round(&world.metacrypt, &KIND, KIND.job.as_ref().unwrap()).await;
        world.clock.set_back(YEAR);
        let again = used(&here, &first).await.unwrap_err();
        assert_eq!(again.kind, Type::BadNonce, "{again:?}");
    }
}
