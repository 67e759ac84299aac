//! Bans that MCIAS finds: who guesses passwords at it is dropped here, in the kernel.
//!
//! A subscription, not a request for each packet or connection: what is in force comes first, then each as it happens. While MCIAS cannot be
//! reached, what it said before stays until its time; once it is there again, what it does not say any more is lifted. The operator's own
//! rules win: an allow rule over every ban, a ban of his that lasts longer over a shorter one, and his are never lifted by MCIAS's word.

mod watched;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use mc_proto::mcias::v1::{Ban, WatchBansRequest, ban_event::Event};
use mcdsl::{
    auth::client::{Client, ClientError, Config as ClientConfig},
    clock::Clock,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use watched::{State, Watched};

use crate::{
    config::Mcias,
    control::{Control, ControlError},
    spec::{Action, Rule, RuleKind},
    store::Actor,
};

/// Between attempts to have the stream.
const RETRY: Duration = Duration::from_secs(2);
/// A stream that says nothing for so long is down; MCIAS says something every 10 s.
const SILENCE: Duration = Duration::from_secs(25);
/// No ban is longer, whatever MCIAS says.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bans that come at the beginning of a stream: more than MCIAS remembers. With more nothing is taken to be lifted.
const MAX_FIRST: usize = 200_000;
/// What its bans begin with in lists.
const COMMENT: &str = "MCIAS: ";

/// For the MCIAS of the configuration; it connects when it is asked.
///
/// # Errors
/// If its address, its CA or the token cannot be used.
pub fn client(config: &Mcias) -> Result<Arc<Client>, ClientError> {
    Client::new(&of(config), Clock::default())
}

/// Whether [`client`] could be made.
///
/// # Errors
/// As [`client`].
pub(crate) fn check(config: &Mcias) -> Result<(), ClientError> {
    of(config).check()
}

fn of(config: &Mcias) -> ClientConfig {
    ClientConfig {
        server_url: config.server_url.clone(),
        ca_cert: config.ca_cert.clone(),
        service_name: "mc-proxy".to_owned(),
        token_file: config.token_file.clone(),
    }
}

/// Keeps MCIAS's bans in force until `stop`.
pub async fn subscribe(control: Arc<Control>, client: Arc<Client>, stop: CancellationToken) {
    let subscribed = async {
        // Said once for each time that it goes away.
        let mut told = false;
        loop {
            let error = follow(&control, &client, &mut told).await;
            control
                .bans_watched
                .failed(SystemTime::now(), error.message());
            if !told {
                tracing::warn!(
                    error = error.message(),
                    "no bans come from MCIAS; those in force stay until their time, and it is tried again"
                );
                told = true;
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(subscribed).await;
}

async fn follow(control: &Arc<Control>, client: &Client, told: &mut bool) -> Status {
    let stream = client
        .grpc()
        .watch_bans(client.request(WatchBansRequest {}, None))
        .await;
    let mut stream = match stream {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    tracing::info!("bans come from MCIAS");
    *told = false;
    // What it says until it has said all.
    let mut first = Some(HashSet::new());
    loop {
        let event = tokio::time::timeout(SILENCE, stream.message()).await;
        match event {
            Err(_) => return Status::unavailable("the stream is silent"),
            Ok(Err(status)) => return status,
            Ok(Ok(None)) => return Status::unavailable("the stream ended"),
            Ok(Ok(Some(message))) => {
                let control = Arc::clone(control);
                // They write the database and the maps. A panic there is logged by its hook.
                let done = match message.event {
                    Some(Event::Ban(ban)) => {
                        if let (Some(first), Ok(network)) =
                            (&mut first, ban.source.parse::<IpNet>())
                        {
                            first.insert(network);
                        }
                        first = first.filter(|first| first.len() <= MAX_FIRST);
                        tokio::task::spawn_blocking(move || enter(&control, &ban))
                    }
                    Some(Event::Lifted(lifted)) => tokio::task::spawn_blocking(move || {
                        let of = lifted.source.parse::<IpNet>();
                        lift(&control, |network| Ok(network) == of);
                    }),
                    Some(Event::Synced(_)) => {
                        control.bans_watched.connected(SystemTime::now());
                        let Some(first) = first.take() else { continue };
                        tokio::task::spawn_blocking(move || {
                            lift(&control, |network| !first.contains(&network));
                        })
                    }
                    Some(Event::Heartbeat(_)) | None => continue,
                };
                let _ = done.await;
            }
        }
    }
}

fn enter(control: &Control, ban: &Ban) {
    let now = SystemTime::now();
    let Some(rule) = rule(ban, now) else {
        tracing::warn!(
            source = ban.source,
            "a ban of MCIAS is none, or is over; it is left out"
        );
        return;
    };
    match add(control, &rule) {
        Ok(true) => {
            control.bans_watched.taken();
            tracing::info!(source = %rule.cidr, reason = ban.reason, "banned by MCIAS's word");
        }
        Ok(false) => {}
        Err(error) => tracing::error!(
            error = mcdsl::cli::chain(&error),
            source = %rule.cidr,
            "a ban of MCIAS is not in force"
        ),
    }
}

/// Takes those of MCIAS's bans out that it does not say any more.
fn lift(control: &Control, is_lifted: impl Fn(IpNet) -> bool) {
    let lifted = || {
        let rules = control.rules()?.into_iter().map(|counted| counted.rule);
        let keys: Vec<_> = rules
            .filter(|rule| is_mcias(rule) && is_lifted(rule.cidr))
            .map(|rule| (rule.kind, rule.cidr))
            .collect();
        if !keys.is_empty() {
            control.remove_rules(&Actor::daemon("MCIAS"), &keys)?;
        }
        Ok::<_, ControlError>(keys)
    };
    match lifted() {
        Ok(keys) => {
            for (_, source) in keys {
                tracing::info!(%source, "let in again by MCIAS's word");
            }
        }
        Err(error) => tracing::error!(
            error = mcdsl::cli::chain(&error),
            "a ban that MCIAS has lifted is still in force, until its time"
        ),
    }
}

/// Whether it was made here.
fn is_mcias(rule: &Rule) -> bool {
    rule.kind == RuleKind::Ban && rule.comment.starts_with(COMMENT)
}

/// Whether it changed something.
fn add(control: &Control, rule: &Rule) -> Result<bool, ControlError> {
    let same = |other: &Rule| other.kind == RuleKind::Ban && other.cidr == rule.cidr;
    let there = control
        .rules()?
        .into_iter()
        .map(|counted| counted.rule)
        .find(same);
    if there.is_some_and(|there| stays(&there, rule)) {
        return Ok(false);
    }
    control.add_rules(&Actor::daemon("MCIAS"), std::slice::from_ref(rule), true)?;
    Ok(true)
}

/// Whether a ban that there is stays in the place of MCIAS's: the same one, or the operator's that lasts longer.
fn stays(there: &Rule, new: &Rule) -> bool {
    match (is_mcias(there), there.expires) {
        (true, expires) => expires == new.expires,
        (false, None) => true,
        (false, expires) => expires >= new.expires,
    }
}

fn rule(ban: &Ban, now: SystemTime) -> Option<Rule> {
    let until = SystemTime::try_from(ban.until?).ok()?;
    let reason = ban.reason.chars().filter(|c| !c.is_control()).take(200);
    (until > now).then_some(Rule {
        id: 0,
        kind: RuleKind::Ban,
        cidr: ban.source.parse().ok()?,
        action: Action::Drop,
        expires: Some(until.min(now + LONGEST)),
        comment: COMMENT.chars().chain(reason).collect(),
        created: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_ban_of_the_operator_stays() {
        let now = SystemTime::now();
        let hours = |hours: u64| Some(now + Duration::from_secs(hours * 3600));
        let ban = |comment: &str, expires| Rule {
            id: 0,
            kind: RuleKind::Ban,
            cidr: "192.0.2.1/32".parse().unwrap(),
            action: Action::Drop,
            expires,
            comment: comment.to_owned(),
            created: now,
        };
        let new = ban("MCIAS: failed logins", hours(2));
        for (description, comment, expires, wanted) in [
            ("his for ever", "", None, true),
            ("his, longer", "scanner", hours(3), true),
            ("his, shorter", "scanner", hours(1), false),
            ("MCIAS's, the same", "MCIAS: x", hours(2), true),
            ("MCIAS's, shorter", "MCIAS: x", hours(1), false),
            (
                "MCIAS's, longer, and lifted since",
                "MCIAS: x",
                hours(3),
                false,
            ),
        ] {
            let there = ban(comment, expires);
            assert_eq!(stays(&there, &new), wanted, "{description}");
        }
        let block = Rule {
            kind: RuleKind::Block,
            ..new.clone()
        };
        assert!(is_mcias(&new) && !is_mcias(&block) && !is_mcias(&ban("scanner", None)));
    }

    #[test]
    fn what_is_no_ban_is_left_out() {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let ban = |source: &str, until: Option<SystemTime>| Ban {
            source: source.to_owned(),
            until: until.map(Into::into),
            reason: "failed\x1b[31m logins".to_owned(),
            bans: 1,
        };
        for (description, ban, wanted) in [
            (
                "an address",
                ban("192.0.2.1/32", Some(now + hour)),
                Some(hour),
            ),
            (
                "an IPv6 network",
                ban("2001:db8::/64", Some(now + hour)),
                Some(hour),
            ),
            (
                "for ever",
                ban("192.0.2.1/32", Some(now + hour * 10_000)),
                Some(LONGEST),
            ),
            ("over", ban("192.0.2.1/32", Some(now - hour)), None),
            ("without an end", ban("192.0.2.1/32", None), None),
            ("of nobody", ban("everybody", Some(now + hour)), None),
        ] {
            let rule = rule(&ban, now);
            let length = rule
                .as_ref()
                .map(|rule| rule.expires.unwrap().duration_since(now).unwrap());
            assert_eq!(length, wanted, "{description}");
            if let Some(rule) = rule {
                assert!(!rule.comment.contains(char::is_control), "{description}");
            }
        }
    }
}
