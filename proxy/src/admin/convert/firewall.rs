//! Rules, country policy, rate limits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::{IpNet, Ipv6Net};
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::{invalid, missing};
use crate::{
    control::CountedRule,
    spec::{Action, CountryCode, CountryPolicy, RateLimit, RateLimits, Rule, RuleKind, text},
};

/// A prefix without host bits, or a bare address as its host prefix.
pub(in crate::admin) fn cidr_in(field: &str, text: &str) -> Result<IpNet, Status> {
    text::network(text).map_err(|why| invalid(field, format!("{text:?}: {why}")))
}

pub(in crate::admin) fn rule_kind_in(kind: pb::RuleKind) -> Option<RuleKind> {
    match kind {
        pb::RuleKind::Unspecified => None,
        pb::RuleKind::Allow => Some(RuleKind::Allow),
        pb::RuleKind::Block => Some(RuleKind::Block),
        pb::RuleKind::Ban => Some(RuleKind::Ban),
    }
}

pub(in crate::admin) fn action_in(action: pb::Action) -> Action {
    match action {
        pb::Action::Unspecified | pb::Action::Drop => Action::Drop,
        pb::Action::Reset => Action::Reset,
        pb::Action::Observe => Action::Observe,
    }
}

pub(in crate::admin) fn action_out(action: Action) -> pb::Action {
    match action {
        Action::Drop => pb::Action::Drop,
        Action::Reset => pb::Action::Reset,
        Action::Observe => pb::Action::Observe,
    }
}

/// (kind, cidr): what identifies a rule.
pub(in crate::admin) fn rule_key_in(message: &pb::Rule) -> Result<(RuleKind, IpNet), Status> {
    let kind = rule_kind_in(message.kind()).ok_or_else(|| missing("kind"))?;
    let cidr = cidr_in("cidr", &message.cidr)?;
    if kind != RuleKind::Ban {
        return Ok((kind, cidr));
    }
    match cidr {
        IpNet::V4(v4) if v4.prefix_len() == 32 => Ok((kind, cidr)),
        // The other half of an IPv6 address is the client's to choose.
        IpNet::V6(v6) if v6.prefix_len() >= 64 => {
            let widened = Ipv6Net::new(v6.addr(), 64).map_err(|e| invalid("cidr", e))?;
            Ok((kind, IpNet::V6(widened.trunc())))
        }
        _ => Err(invalid(
            "cidr",
            format!("{cidr} is too wide for a ban (one IPv4 address, one IPv6 /64); block it"),
        )),
    }
}

/// Longest life of a ban: a year. Longer is a block.
const MAX_BAN: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest comment, bytes.
const MAX_COMMENT: usize = 512;

pub(in crate::admin) fn rule_in(message: &pb::Rule, now: SystemTime) -> Result<Rule, Status> {
    let (kind, cidr) = rule_key_in(message)?;
    let ttl = Duration::from_secs(message.ttl_s);
    let expires = match kind {
        RuleKind::Ban if ttl.is_zero() => return Err(missing("ttl_s")),
        RuleKind::Ban if ttl > MAX_BAN => {
            return Err(invalid(
                "ttl_s",
                "is above a year; block the address instead",
            ));
        }
        RuleKind::Ban => Some(now + ttl),
        _ if !ttl.is_zero() => return Err(invalid("ttl_s", "is only for bans")),
        _ => None,
    };
    if message.comment.len() > MAX_COMMENT {
        return Err(invalid("comment", format!("is above {MAX_COMMENT} bytes")));
    }
    let comment = message.comment.clone();
    Ok(Rule {
        id: 0,
        kind,
        cidr,
        action: action_in(message.action()),
        expires,
        comment,
        created: now,
    })
}

pub(in crate::admin) fn rule_out(counted: &CountedRule, now: SystemTime) -> pb::Rule {
    let rule = &counted.rule;
    let kind = match rule.kind {
        RuleKind::Allow => pb::RuleKind::Allow,
        RuleKind::Block => pb::RuleKind::Block,
        RuleKind::Ban => pb::RuleKind::Ban,
    };
    // After a jump of the wall clock a ban in force may have ended by it; 0 would be a rule without an end.
    let left = rule
        .expires
        .map(|e| e.duration_since(now).unwrap_or_default());
    let action = match rule.kind {
        RuleKind::Allow => pb::Action::Unspecified,
        _ => action_out(rule.action),
    };
    pb::Rule {
        id: rule.id,
        kind: kind.into(),
        cidr: rule.cidr.to_string(),
        action: action.into(),
        ttl_s: left.map_or(0, |d| d.as_secs().max(1)),
        comment: rule.comment.clone(),
        created_unix_s: unix_seconds(rule.created),
        packets: counted.count.packets,
        bytes: counted.count.bytes,
        samples: Vec::new(),
    }
}

pub(in crate::admin) fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

// ---- countries and rates

fn country_in(text: &str) -> Result<CountryCode, Status> {
    let code = match text.as_bytes() {
        b"??" => Some(*b"??"),
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
            Some([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
        }
        _ => None,
    };
    code.map(CountryCode)
        .filter(|c| crate::geoip::countries::index(*c).is_some())
        .ok_or_else(|| {
            invalid(
                "country",
                format!("{text:?} is no ISO 3166-1 alpha-2 code (\"??\" = unknown)"),
            )
        })
}

pub(in crate::admin) fn countries_in(message: &pb::CountryPolicy) -> Result<CountryPolicy, Status> {
    let others = message.only.then(|| action_in(message.default_action()));
    let listed = message
        .rules
        .iter()
        .map(|r| Ok((country_in(&r.country)?, action_in(r.action()))))
        .collect::<Result<_, Status>>()?;
    Ok(CountryPolicy { others, listed })
}

pub(in crate::admin) fn rates_in(message: &pb::RateLimits) -> Result<RateLimits, Status> {
    let one = |field: &str, limit: &Option<pb::RateLimit>| match limit {
        Some(limit) if limit.per_second != 0.0 => rate_in(field, limit).map(Some),
        _ => Ok(None),
    };
    Ok(RateLimits {
        connections: one("connections", &message.connections)?,
        packets: one("packets", &message.packets)?,
    })
}

fn rate_in(field: &str, limit: &pb::RateLimit) -> Result<RateLimit, Status> {
    // A rate below one a day or above one a nanosecond is a mistake.
    if !limit.per_second.is_finite() || !(1.0 / 86_400.0..=1e9).contains(&limit.per_second) {
        return Err(invalid(
            field,
            format!("{} per second is out of range", limit.per_second),
        ));
    }
    let burst = match limit.burst {
        0 => limit.per_second.ceil() as u32,
        burst => burst,
    };
    Ok(RateLimit {
        per_second: limit.per_second,
        burst,
        action: action_in(limit.action()),
    })
}

pub(in crate::admin) fn rate_out(limit: Option<RateLimit>, exceeded: u64) -> pb::RateLimit {
    limit.map_or(
        pb::RateLimit {
            exceeded,
            ..Default::default()
        },
        |l| pb::RateLimit {
            per_second: l.per_second,
            burst: l.burst,
            action: action_out(l.action).into(),
            exceeded,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_canonical() {
        for (description, text, wanted) in [
            ("an IPv4 address", "192.0.2.1", "192.0.2.1/32"),
            ("an IPv6 address", "2001:db8::1", "2001:db8::1/128"),
            (
                "a mapped address is IPv4",
                "::ffff:192.0.2.1",
                "192.0.2.1/32",
            ),
            (
                "a mapped prefix is IPv4",
                "::ffff:192.0.2.0/120",
                "192.0.2.0/24",
            ),
        ] {
            assert_eq!(
                cidr_in("cidr", text).unwrap().to_string(),
                wanted,
                "{description}"
            );
        }
        for (text, advice) in [
            ("", "like 192.0.2.7"),
            ("example.org", "like 192.0.2.7"),
            ("192.0.2.0/33", "like 192.0.2.7"),
            ("1.2.3", "like 192.0.2.7"),
            ("192.0.2.1/24", "did you mean 192.0.2.0/24?"),
        ] {
            let refused = cidr_in("cidr", text).unwrap_err();
            assert!(refused.message().contains(advice), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_ban_is_a_host() {
        let ban = |cidr: &str| {
            let message = pb::Rule {
                kind: pb::RuleKind::Ban.into(),
                cidr: cidr.into(),
                ..Default::default()
            };
            rule_key_in(&message)
                .map(|(_, cidr)| cidr.to_string())
                .map_err(|s| s.message().to_owned())
        };
        assert_eq!(ban("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(
            ban("2001:db8:1:2:3::7").unwrap(),
            "2001:db8:1:2::/64",
            "an IPv6 ban is widened to its /64"
        );
        assert!(ban("192.0.2.0/24").unwrap_err().contains("too wide"));
        assert!(ban("2001:db8::/32").unwrap_err().contains("too wide"));
    }

    #[test]
    fn rates_have_a_range() {
        let rate = |per_second| {
            rate_in(
                "packets",
                &pb::RateLimit {
                    per_second,
                    ..Default::default()
                },
            )
        };
        assert_eq!(
            rate(2.5).unwrap().burst,
            3,
            "the burst defaults to a second's worth"
        );
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1e-9, 1e12] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
