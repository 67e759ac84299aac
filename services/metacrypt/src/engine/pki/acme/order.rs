//! Orders, their authorizations and challenges (RFC 8555 §7.1.6): what state follows which. No I/O, no clock.

use serde::{Deserialize, Serialize};

use super::{
    super::{
        name::{AltName, Names},
        serial::Serial,
    },
    problem::{Problem, Type},
};

/// How the control of a name is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Method {
    /// RFC 8555 §8.3.
    #[serde(rename = "http-01")]
    Http01,
    /// RFC 8555 §8.4.
    #[serde(rename = "dns-01")]
    Dns01,
    /// RFC 8737.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Http01, Self::Dns01, Self::TlsAlpn01];
        all.into_iter().find(|method| method.name() == name)
    }

    /// Those that can show it for a name: of wildcards DNS alone, of addresses all else (RFC 8738 §4).
    fn of(name: &AltName) -> &'static [Self] {
        match name {
            AltName::Dns(name) if name.is_wildcard() => &[Self::Dns01],
            AltName::Dns(_) => &[Self::Http01, Self::Dns01, Self::TlsAlpn01],
            AltName::Ip(_) => &[Self::Http01, Self::TlsAlpn01],
            AltName::Uri(_) => &[],
        }
    }
}

/// Of a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    Pending,
    Processing,
    /// When, in seconds since 1970.
    Valid(u64),
    Invalid(Problem),
}

/// One way to show the control of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) method: Method,
    pub(crate) progress: Progress,
}

/// Of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authorization {
    pub(crate) name: AltName,
    /// Of all its challenges: 256 random bits, base64url.
    pub(crate) token: String,
    pub(crate) deactivated: bool,
    pub(crate) challenges: Vec<Challenge>,
}

/// As clients are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Ready,
    Valid,
    Invalid,
    Deactivated,
    Expired,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
            Self::Expired => "expired",
        }
    }
}

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Pending,
    Ready,
    Valid(Serial),
    Invalid(Option<Problem>),
}

/// The certificate that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    /// As the client names it (RFC 9773 §4.1).
    pub(crate) id: String,
    pub(crate) serial: Serial,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The ACME account.
    pub(crate) account: String,
    /// Whose that is: the id of an account of MCIAS.
    #[serde(default)]
    pub(crate) owner: String,
    pub(crate) profile: String,
    pub(crate) names: Names,
    pub(crate) replaces: Option<Replaced>,
    /// Seconds since 1970.
    pub(crate) ends_s: u64,
    pub(crate) authorizations: Vec<Authorization>,
    state: State,
}

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) method: Method,
    pub(crate) name: AltName,
    pub(crate) token: String,
}

impl Order {
    /// A new one; `token` gives one for each name.
    pub(crate) fn new<E>(
        account: &str,
        owner: &str,
        profile: &str,
        names: Names,
        replaces: Option<Replaced>,
        ends_s: u64,
        mut token: impl FnMut() -> Result<String, E>,
    ) -> Result<Self, E> {
        let authorization = |name: &AltName| -> Result<_, E> {
            let challenge = |method: &Method| Challenge {
                method: *method,
                progress: Progress::Pending,
            };
            Ok(Authorization {
                name: name.clone(),
                token: token()?,
                deactivated: false,
                challenges: Method::of(name).iter().map(challenge).collect(),
            })
        };
        let authorizations = names.iter().map(authorization).collect::<Result<_, _>>()?;
        Ok(Self {
            account: account.to_owned(),
            owner: owner.to_owned(),
            profile: profile.to_owned(),
            names,
            replaces,
            ends_s,
            authorizations,
            state: State::Pending,
        })
    }

    /// How far it is.
    pub(crate) fn status(&self, now_s: u64) -> Status {
        match &self.state {
            State::Valid(_) => Status::Valid,
            State::Pending | State::Ready if self.ends_s <= now_s => Status::Invalid,
            State::Pending => Status::Pending,
            State::Ready => Status::Ready,
            State::Invalid(_) => Status::Invalid,
        }
    }

    /// Whether something can still come of it.
    pub(crate) fn is_open(&self, now_s: u64) -> bool {
        matches!(self.status(now_s), Status::Pending | Status::Ready)
    }

    /// Why nothing came of it.
    pub(crate) fn error(&self, now_s: u64) -> Option<Problem> {
        match &self.state {
            State::Invalid(error) => error.clone(),
            State::Pending | State::Ready if self.ends_s <= now_s => Some(Problem::malformed(
                "the order has expired; make another (newOrder)",
            )),
            _ => None,
        }
    }

    /// What came of it.
    pub(crate) fn serial(&self) -> Option<&Serial> {
        match &self.state {
            State::Valid(serial) => Some(serial),
            _ => None,
        }
    }

    /// How far an authorization is.
    pub(crate) fn authorization(&self, at: usize, now_s: u64) -> Option<Status> {
        let one = self.authorizations.get(at)?;
        let any =
            |wanted: fn(&Progress) -> bool| one.challenges.iter().any(|c| wanted(&c.progress));
        let valid = any(|p| matches!(p, Progress::Valid(_)));
        Some(if one.deactivated {
            Status::Deactivated
        } else if !valid && any(|p| matches!(p, Progress::Invalid(_))) {
            Status::Invalid
        } else if self.ends_s <= now_s && self.serial().is_none() {
            Status::Expired
        } else if valid {
            Status::Valid
        } else if matches!(self.state, State::Invalid(_)) {
            // Another name's failed: this one is not asked for any more.
            Status::Invalid
        } else {
            Status::Pending
        })
    }

    fn challenge(&mut self, at: usize, method: Method) -> Option<&mut Challenge> {
        let all = &mut self.authorizations.get_mut(at)?.challenges;
        all.iter_mut().find(|challenge| challenge.method == method)
    }

    /// The client is ready for a challenge. What is to be looked at; `None`: that was said before.
    ///
    /// # Errors
    /// If there is no such challenge, or it does not matter any more.
    pub(crate) fn begin(
        &mut self,
        at: usize,
        method: Method,
        now_s: u64,
    ) -> Result<Option<Task>, Problem> {
        let open = self.status(now_s) == Status::Pending
            && self.authorization(at, now_s) == Some(Status::Pending);
        let challenge = self.challenge(at, method);
        let challenge = challenge.ok_or_else(|| Problem::not_found("challenge"))?;
        match (&challenge.progress, open) {
            (Progress::Pending, true) => challenge.progress = Progress::Processing,
            (Progress::Pending, false) => {
                return Err(Problem::malformed(
                    "the authorization is not pending any more; make another order (newOrder)",
                ));
            }
            _ => return Ok(None),
        }
        Ok(self.task(at, method))
    }

    /// What is to be looked at, if that was begun and matters.
    pub(crate) fn task(&self, at: usize, method: Method) -> Option<Task> {
        let one = self.authorizations.get(at)?;
        let challenge = one.challenges.iter().find(|c| c.method == method)?;
        let going = challenge.progress == Progress::Processing
            && self.state == State::Pending
            && !one.deactivated;
        going.then(|| Task {
            method,
            name: one.name.clone(),
            token: one.token.clone(),
        })
    }

    /// What came of looking. Nothing, if it does not matter any more.
    pub(crate) fn end(
        &mut self,
        at: usize,
        method: Method,
        found: Result<(), Problem>,
        now_s: u64,
    ) {
        if self.task(at, method).is_none() || self.ends_s <= now_s {
            return;
        }
        let Some(challenge) = self.challenge(at, method) else {
            return;
        };
        match found {
            Ok(()) => {
                challenge.progress = Progress::Valid(now_s);
                let valid = |at| self.authorization(at, now_s) == Some(Status::Valid);
                if (0..self.authorizations.len()).all(valid) {
                    self.state = State::Ready;
                }
            }
            Err(problem) => {
                challenge.progress = Progress::Invalid(problem.clone());
                if self.authorization(at, now_s) == Some(Status::Valid) {
                    // By another challenge: valid ones stay so (RFC 8555 §7.1.6).
                    return;
                }
                let name = self.authorizations.get(at).map(|one| one.name.to_string());
                let problem = problem.about(name.unwrap_or_default());
                self.state = State::Invalid(Some(problem));
            }
        }
    }

    /// The names that were shown to be the account's.
    pub(crate) fn shown(&self, now_s: u64) -> impl Iterator<Item = &AltName> {
        let valid = move |at: usize| self.authorization(at, now_s) == Some(Status::Valid);
        let all = self.authorizations.iter().enumerate();
        all.filter(move |(at, _)| valid(*at))
            .map(|(_, one)| &one.name)
    }

    /// The client gives a name up.
    ///
    /// # Errors
    /// If there is no such authorization.
    pub(crate) fn deactivate(&mut self, at: usize) -> Result<(), Problem> {
        let one = self.authorizations.get_mut(at);
        one.ok_or_else(|| Problem::not_found("authorization"))?
            .deactivated = true;
        if matches!(self.state, State::Pending | State::Ready) {
            self.state = State::Invalid(Some(Problem::new(
                Type::Unauthorized,
                "an authorization was deactivated",
            )));
        }
        Ok(())
    }

    /// Nothing is to come of it: its account ended.
    pub(crate) fn cancel(&mut self) {
        if matches!(self.state, State::Pending | State::Ready) {
            self.state = State::Invalid(None);
        }
    }

    /// That it can be finalized.
    ///
    /// # Errors
    /// If it cannot.
    pub(crate) fn ready(&self, now_s: u64) -> Result<(), Problem> {
        match self.status(now_s) {
            Status::Ready => Ok(()),
            status => Err(Problem::new(
                Type::OrderNotReady,
                format!(
                    "the order is {}; it has to be ready (all its authorizations valid)",
                    status.name()
                ),
            )),
        }
    }

    /// A certificate was issued.
    ///
    /// # Errors
    /// If it is not ready.
    pub(crate) fn issued(&mut self, serial: Serial, now_s: u64) -> Result<(), Problem> {
        self.ready(now_s)?;
        self.state = State::Valid(serial);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
