//! When to renew (ARI, RFC 9773).

use axum::{
    body::Body,
    extract::{Path, State},
    http::Request,
    response::Response,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::{
    super::{
        name::Names,
        ready,
        serial::Serial,
        store::{Record, StoredIssuer},
    },
    answer::{Answer, finish, rfc3339},
    here::Here,
    order::Replaced,
    problem::{Problem, Type},
    source,
    store::IssuedTo,
};
use crate::{api::Api, barrier::Items, engine::EngineError};

/// Most seconds until it is asked for again, and fewest.
const AGAIN_S: (u64, u64) = (6 * 60 * 60, 60);

/// Seconds until it is asked for again: a twelfth of the certificate's life, so that a revocation is seen in it.
fn again(not_before_s: u64, not_after_s: u64) -> u64 {
    let (most, fewest) = AGAIN_S;
    let life = not_after_s.saturating_sub(not_before_s);
    (life / 12).clamp(fewest, most)
}

/// When a certificate is to be renewed: in the twelfth of its life that begins when a third is left, so that not all come at once; at once, if it is no use
/// any more.
fn window(not_before_s: u64, not_after_s: u64, ended: bool, now_s: u64) -> (u64, u64) {
    if ended {
        return (now_s.saturating_sub(7200), now_s.saturating_sub(3600));
    }
    let life = not_after_s.saturating_sub(not_before_s);
    let begin = not_before_s + life / 3 * 2;
    (begin, begin + (life / 12).max(1))
}

/// What a certificate is named by (RFC 9773 §4.1): its issuer's key identifier, and its serial number.
fn parse(id: &str) -> Option<(Vec<u8>, Serial)> {
    let (issuer, serial) = id.split_once('.')?;
    let issuer = BASE64URL_NOPAD.decode(issuer.as_bytes()).ok()?;
    let serial = BASE64URL_NOPAD.decode(serial.as_bytes()).ok()?;
    Some((issuer, Serial::of(&serial)?))
}

/// The certificate of that name.
fn find(
    items: &Items<'_>,
    mount: &crate::barrier::Mount,
    (issuer, serial): &(Vec<u8>, Serial),
) -> Result<Option<(Record, bool)>, EngineError> {
    let Some(record) = Record::find(items, serial)? else {
        return Ok(None);
    };
    let Some(stored) = StoredIssuer::find(items, &record.issuer)? else {
        return Ok(None);
    };
    let by = ready::issuer(mount, items, &record.issuer)?;
    let ours = *by.id() == record.by && by.key_identifier() == &**issuer;
    Ok(ours.then_some((record, stored.disabled)))
}

/// renewalInfo, which anybody may read.
pub(super) async fn info(
    State(api): State<Api>,
    Path((mount, id)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    let from = source(&request);
    let answer = async move {
        let here = Here::of(&api, &mount).await?;
        here.stranger(from?)?;
        let none = || Problem::not_found("certificate");
        let named = parse(&id).ok_or_else(none)?;
        let at = here.own()?;
        let found = here.read(move |items| find(items, at.mount(), &named));
        let (record, disabled) = found.await?.ok_or_else(none)?;
        let ended = record.revoked.is_some() || disabled;
        let (start, end) = window(record.not_before_s, record.not_after_s, ended, here.now_s());
        let again = again(record.not_before_s, record.not_after_s);
        let value = json!({"suggestedWindow": {"start": rfc3339(start), "end": rfc3339(end)}});
        Ok(Answer::json(200, &value).after(Some(again)))
    };
    finish(None, answer.await)
}

/// The certificate that an order says that it replaces (RFC 9773 §5).
pub(super) async fn replaced(
    here: &Here,
    account: &str,
    id: &str,
    names: &Names,
) -> Result<Replaced, Problem> {
    let none =
        || Problem::malformed("replaces: it is no certificate of this account; leave it out");
    let named = parse(id).ok_or_else(none)?;
    let at = here.own()?;
    let serial = named.1.clone();
    let look = serial.clone();
    let read = move |items: &Items<'_>| -> Result<_, EngineError> {
        let found = find(items, at.mount(), &named)?;
        Ok(found.zip(IssuedTo::find(items, &look)?))
    };
    let ((record, _), whose) = here.read(read).await?.ok_or_else(none)?;
    if whose.account != account {
        return Err(none());
    }
    if whose.replaced {
        let why = "replaces: another order has replaced it; leave it out";
        return Err(Problem::new(Type::AlreadyReplaced, why));
    }
    let old = record.names.iter().flat_map(Names::iter);
    let shared = old
        .into_iter()
        .any(|old| names.iter().any(|new| new == old));
    match shared {
        true => Ok(Replaced {
            id: id.to_owned(),
            serial,
        }),
        false => Err(Problem::malformed(
            "replaces: it has none of the names of the order",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_when_a_third_is_left_or_at_once() {
        for (description, args, wanted) in [
            ("90 days", (0, 7_776_000, false, 5), (5_184_000, 5_832_000)),
            ("an hour", (0, 3600, false, 5), (2400, 2700)),
            ("revoked", (0, 3600, true, 10_000), (2800, 6400)),
            ("a moment", (100, 101, false, 0), (100, 101)),
        ] {
            let (begin, end, ended, now) = args;
            assert_eq!(window(begin, end, ended, now), wanted, "{description}");
        }
        for (life, wanted) in [(7_776_000, 21_600), (3600, 300), (30, 60)] {
            assert_eq!(again(100, 100 + life), wanted, "{life}");
        }
        // RFC 9773 §4.1's serial number is not one of ours: 20 octets here.
        assert_eq!(parse("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"), None);
        let serial = Serial::new([1; 20]);
        let number = serial.number().unwrap();
        let id = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(b"key"),
            BASE64URL_NOPAD.encode(number.as_bytes())
        );
        assert_eq!(parse(&id), Some((b"key".to_vec(), serial)));
    }
}
