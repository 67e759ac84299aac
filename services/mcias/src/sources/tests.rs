use proptest::prelude::*;

use super::*;

const START: u64 = 86_400_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START + seconds)
}

#[test]
fn a_source_is_slowed_then_banned_each_time_for_longer() {
    let mut sources = Sources::default();
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    for n in 0..FREE {
        assert_eq!(sources.failed(source, at(0)), None);
        assert!(
            sources.open_from(source, at(0)) <= at(0),
            "failure {n} is free"
        );
    }
    sources.failed(source, at(0));
    assert_eq!(sources.open_from(source, at(0)), at(1));
    let other = "192.0.2.2".parse().unwrap();
    assert!(sources.open_from(other, at(0)) <= at(0), "another one");
    let mut now = 0;
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(now)));
        let ban = failed.expect("a ban");
        assert_eq!(ban.until, at(now + hours * 3600), "{hours} hours");
        assert_eq!(ban.network, "192.0.2.1/32".parse().unwrap());
        assert_eq!(sources.open_from(source, at(now)), ban.until);
        let again = (0..2 * BANNED_AT).find_map(|_| sources.failed(source, at(now)));
        assert_eq!(again, None, "it is banned already");
        now += hours * 3600;
    }
    now += FORGIVEN.as_secs();
    let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(now)));
    assert_eq!(failed.map(|ban| ban.bans), Some(1), "forgiven");
}

/// They have no rows of their own: their number is told when it is over.
#[test]
fn attempts_within_a_ban_are_counted() {
    let mut sources = Sources::default();
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(!sources.refuse(source, at(0)), "not banned");
    let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(0)));
    let ban = failed.expect("a ban");
    assert_eq!(sources.over(ban.until), [], "nobody came");
    for n in 1..=3 {
        assert!(sources.refuse(source, at(n)));
    }
    assert_eq!(sources.refused(ban.network), 3);
    assert_eq!(sources.over(at(4)), [], "it goes on");
    assert_eq!(sources.over(ban.until), [(ban.network, 3)]);
    assert!(!sources.refuse(source, ban.until), "over");
    sources.told(ban.network, 3);
    assert_eq!(sources.over(ban.until), [], "told");
}

#[test]
fn a_ban_outlives_the_process() {
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    let ban = Ban {
        network: network(source),
        until: at(3600),
        bans: 1,
    };
    let mut sources = Sources::default();
    sources.remember(ban);
    assert_eq!(sources.open_from(source, at(0)), at(3600));
    assert!(sources.open_from(source, at(3600)) <= at(3600));
    let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(3600)));
    assert_eq!(
        failed.map(|ban| ban.until),
        Some(at(3 * 3600)),
        "twice as long"
    );
}

#[test]
fn failures_of_a_source_are_forgotten_in_time() {
    let mut sources = Sources::default();
    let source: IpAddr = "2001:db8::1".parse().unwrap();
    for _ in 0..50 {
        sources.failed(source, at(0));
    }
    let neighbour = "2001:db8::2".parse().unwrap();
    assert!(sources.open_from(neighbour, at(0)) > at(0), "the same /64");
    assert!(
        sources.open_from("2001:db8:0:1::1".parse().unwrap(), at(0)) <= at(0),
        "another /64"
    );
    assert!(
        sources.open_from(source, at(40 * 60)) <= at(40 * 60),
        "after 40 minutes"
    );
    // One that fails once a minute is never banned; one that fails a little more often is.
    assert!((0..1000).all(|n| sources.failed(source, at(7200 + n * 60)).is_none()));
    let mut sources = Sources::default();
    assert!((0..1000).any(|n| sources.failed(source, at(n * 50)).is_some()));
}

#[test]
fn a_flood_of_sources_forgets_those_that_failed_least() {
    let mut sources = Sources::default();
    let bad: IpAddr = "192.0.2.1".parse().unwrap();
    for _ in 0..50 {
        sources.failed(bad, at(0));
    }
    for n in 0..2 * MAX_SOURCES as u32 {
        sources.failed(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), at(0));
    }
    assert!(sources.0.len() <= MAX_SOURCES);
    assert!(sources.open_from(bad, at(0)) > at(0));
}

proptest! {
    /// Whoever guesses from one network, whenever he likes and whoever fails beside him: in no stretch of time are there more
    /// failures than a ban takes, and one for each minute.
    #[test]
    fn a_source_guesses_no_faster_than_it_is_to(
        steps in prop::collection::vec((0_u64..200, any::<bool>()), 1..500),
    ) {
        let mut sources = Sources::default();
        let (bad, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let (mut now, mut looked_at) = (0, Vec::new());
        for (passed, beside) in steps {
            now += passed * passed / 100;
            if beside {
                sources.failed(other, at(now));
            }
            let open = sources.open_from(bad, at(now)) <= at(now);
            if let Some(ban) = sources.failed(bad, at(now)) {
                prop_assert!(ban.until >= at(now) + BAN && ban.until <= at(now) + LONGEST_BAN);
            }
            if open {
                looked_at.push(now);
            }
        }
        for (first, from) in looked_at.iter().enumerate() {
            for (last, to) in looked_at.iter().enumerate().skip(first) {
                let count = last - first + 1;
                let most = u64::from(BANNED_AT) + (to - from) / DECAY.as_secs() + 1;
                prop_assert!(count as u64 <= most, "{count} in {} s", to - from);
            }
        }
        prop_assert!(sources.len() <= 2);
    }

    /// Who is looked at often is forgotten no sooner.
    #[test]
    fn looking_forgets_nothing(
        failures in 0_u32..200,
        bans in 0_u32..5,
        banned in 0_u64..100_000,
        looks in prop::collection::vec(0_u64..5_000, 0..40),
    ) {
        let source = Source {
            failures,
            decayed: at(0),
            last: at(0),
            bans,
            banned_until: at(banned),
            refused: 0,
        };
        let (mut now, mut looked) = (0, source);
        for passed in looks {
            now += passed;
            looked = looked.at(at(now));
            let once = source.at(at(now));
            prop_assert_eq!((looked.failures, looked.bans), (once.failures, once.bans));
            prop_assert!(looked.failures <= failures);
        }
    }

    /// A ban that is taken back comes again with the next failure, as long as it was.
    #[test]
    fn what_is_taken_back_comes_again(host in any::<u32>(), before in 0_u64..12, later in 0_u64..59) {
        let source: IpAddr = std::net::Ipv4Addr::from_bits(host).into();
        let mut sources = Sources::default();
        let ban = |sources: &mut Sources, now| {
            (0..BANNED_AT).find_map(|_| sources.failed(source, at(now))).unwrap()
        };
        let day = LONGEST_BAN.as_secs();
        for n in 0..before {
            ban(&mut sources, n * day);
        }
        let now = before * day;
        let first = ban(&mut sources, now);
        sources.take_back(first);
        prop_assert!(sources.open_from(source, at(now)) < first.until, "slowed alone");
        let again = sources.failed(source, at(now + later)).unwrap();
        let wanted = Ban { until: first.until + Duration::from_secs(later), ..first };
        prop_assert_eq!(again, wanted);
        sources.take_back(Ban { bans: first.bans + 1, ..again });
        prop_assert_eq!(sources.open_from(source, at(now + later)), again.until, "another one");
    }

    /// A ban that is lifted is over, and nothing else is.
    #[test]
    fn who_is_forgiven_begins_anew(host in any::<u32>(), failures in 0_u32..200) {
        let source: IpAddr = std::net::Ipv4Addr::from_bits(host).into();
        let other = std::net::Ipv4Addr::from_bits(host ^ 1).into();
        let mut sources = Sources::default();
        for _ in 0..failures {
            sources.failed(source, at(0));
            sources.failed(other, at(0));
        }
        let before = sources.open_from(other, at(0));
        sources.forgive(network(source));
        prop_assert!(sources.open_from(source, at(0)) <= at(0));
        prop_assert_eq!(sources.open_from(other, at(0)), before);
    }
}
