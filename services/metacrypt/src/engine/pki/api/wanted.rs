//! A certificate on its way: what it is made by is read, it is made beside the database, and stored if that is as it was.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{issuers::may_issue, message};
use crate::{
    barrier::Items,
    engine::{
        EngineError,
        pki::{
            COST_US,
            issuer::Issuer,
            name::Names,
            profile::Profile,
            public_key::{KeyAlgorithm, PublicKey},
            ready::{self, Ready},
            serial::Serial,
            signed::{Issued, Request, Subject, issue as certify, new_key},
            store::{Holder, Of, Record, Settings, StoredIssuer, profile},
            urls::Urls,
        },
        seconds,
    },
    entered::Entered,
};

/// Whose key a certificate is for.
pub(in crate::engine::pki) enum Key {
    /// A new one.
    New(Option<KeyAlgorithm>),
    /// The caller's.
    Theirs(Box<PublicKey>),
}

/// A certificate that is wanted.
pub(in crate::engine::pki) struct Wanted {
    pub(in crate::engine::pki) profile: String,
    pub(in crate::engine::pki) names: Names,
    pub(in crate::engine::pki) key: Key,
    pub(in crate::engine::pki) ttl_s: u64,
    pub(in crate::engine::pki) renews: Option<Serial>,
    pub(in crate::engine::pki) account: Holder,
}

/// What it is made by, as it is when it is asked for.
#[derive(Clone)]
pub(in crate::engine::pki) struct Ground {
    by: Arc<Profile>,
    under: Arc<Issuer>,
    urls: Option<Arc<Urls>>,
}

/// One that was made, with the new key, and what it is made by.
pub(in crate::engine::pki) struct Made {
    pub(in crate::engine::pki) issued: Issued,
    pub(super) pkcs8: Option<Zeroizing<Vec<u8>>>,
    pub(super) under: Arc<Issuer>,
    by: Arc<Profile>,
}

/// The algorithm of a new key, if none is said.
fn usual(profile: &Profile) -> Result<KeyAlgorithm, EngineError> {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519};
    let all = [EcdsaP256, Ed25519, EcdsaP384];
    let found = all.into_iter().find(|a| profile.key_algorithms.contains(a));
    found.ok_or_else(|| {
        EngineError::Precondition(
            "the profile takes RSA keys alone, of which none are made here; make one, and send a request (PKCS #10) for it"
                .to_owned(),
        )
    })
}

impl Ground {
    pub(in crate::engine::pki) fn is_for_acme(&self) -> bool {
        self.by.acme.is_some()
    }
}

impl Wanted {
    fn ground(&self, items: &Items<'_>, at: &Entered) -> Result<Ground, EngineError> {
        let by = profile(items, &self.profile)?;
        may_issue(&by.issuer, &StoredIssuer::get(items, &by.issuer)?)?;
        let under = ready::issuer(at.mount(), items, &by.issuer)?;
        let urls = Settings::get(items)?.base;
        let urls = urls.map(|base| Urls::new(&base, at.mount().name(), under.name()));
        Ok(Ground {
            by: Arc::new(by),
            under,
            urls: urls.map(Arc::new),
        })
    }

    /// With what it would be made by, which is not read again as long as it is the same.
    pub(in crate::engine::pki) async fn found(
        self,
        at: &Arc<Entered>,
    ) -> Result<(Self, Ground), EngineError> {
        let (known, changes) = Ready::of(at.mount())?.ground(&self.profile);
        if let Some(ground) = known {
            return Ok((self, ground));
        }
        let read = move |items: &Items<'_>, at: &Entered| {
            let ground = self.ground(items, at)?;
            Ready::of(at.mount())?.keep_ground(&self.profile, &ground, changes);
            Ok((self, ground))
        };
        at.read(read).await
    }

    /// Makes it beside what reads and writes, which would wait for key and signature.
    pub(in crate::engine::pki) async fn make(
        self,
        at: &Arc<Entered>,
        ground: Ground,
    ) -> Result<(Self, Made), EngineError> {
        let held = Arc::clone(at);
        let work = move || {
            let made = self.made(&held, ground)?;
            Ok((self, made))
        };
        at.beside(COST_US, work).await
    }

    fn made(&self, at: &Entered, ground: Ground) -> Result<Made, EngineError> {
        let Ground { by, under, urls } = ground;
        let (pkcs8, new) = match &self.key {
            Key::Theirs(_) => (None, None),
            Key::New(algorithm) => {
                let (pkcs8, key) = new_key(algorithm.map_or_else(|| usual(&by), Ok)?)?;
                (Some(pkcs8), Some(key))
            }
        };
        let key = match (&self.key, &new) {
            (Key::Theirs(key), _) => &**key,
            (_, Some(key)) => key,
            _ => return Err(EngineError::field("key", "there is none")),
        };
        let request = Request {
            subject: Subject::Leaf {
                profile: (&self.profile, &by),
                names: &self.names,
                key,
                ttl: message::ttl(self.ttl_s),
                under: &under,
            },
            urls: urls.as_deref(),
            now: at.now(),
        };
        Ok(Made {
            issued: certify(at.proof()?, &request)?,
            pkcs8,
            under,
            by,
        })
    }
}

impl Made {
    /// Stores it, if all is as it was when it was signed: nothing is issued by what is gone since.
    pub(in crate::engine::pki) fn store(
        self,
        items: &Items<'_>,
        at: &Entered,
        wanted: Wanted,
    ) -> Result<(), EngineError> {
        let stored = match self.is_still(items, &wanted) {
            Ok(stored) => stored,
            Err(error) => {
                Ready::of(at.mount())?.ground_changed();
                return Err(error);
            }
        };
        let of = Of::Profile(wanted.profile);
        let by = (&stored.id, self.under.name());
        let mut record = Record::new(&self.issued, of, by, &wanted.account);
        (record.names, record.renews) = (Some(wanted.names), wanted.renews);
        record.create(items, &self.issued.serial, seconds(at.sure_now()))
    }

    /// That what it was made by is so now. The addresses are not looked at: with those of just before it is as good as what was stored just before.
    fn is_still(&self, items: &Items<'_>, wanted: &Wanted) -> Result<StoredIssuer, EngineError> {
        let name = self.under.name();
        let stored = StoredIssuer::get(items, name)?;
        may_issue(name, &stored)?;
        let changed = |what: &str| {
            let why = format!("{what} was changed meanwhile; ask again");
            Err(EngineError::Precondition(why))
        };
        if stored.id != *self.under.id() {
            return changed("the issuer");
        }
        if profile(items, &wanted.profile)? != *self.by {
            return changed("the profile");
        }
        Ok(stored)
    }
}
