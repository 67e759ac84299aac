//! What holds for a key's versions and uses, at their bounds most of all.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    algorithm::Algorithm,
    key::{Due, Key, LOT, Next},
    ring::Ring,
};

const MAX_USES: u64 = 1 << 32;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn of_versions(algorithm: Algorithm, versions: usize) -> Key {
    let mut key = Key::new(algorithm, now()).unwrap();
    for _ in 1..versions {
        key.rotate(now()).unwrap();
    }
    key
}

#[test]
fn a_version_is_replaced_before_its_nonces_may_repeat() {
    let mut key = Key::new(Algorithm::Aes256Gcm, now()).unwrap();
    assert_eq!(key.reserve(1).unwrap(), LOT);
    assert_eq!(key.reserve(LOT + 1).unwrap(), LOT + 1, "as many as asked");
    for (description, used, uses, due, lot) in [
        ("a lot is left", MAX_USES - LOT, 1, None, LOT),
        ("less is left, and enough", MAX_USES - 10, 10, None, 10),
        ("not enough", MAX_USES - 10, 11, Some(Due::Uses), 0),
        ("nothing", MAX_USES, 1, Some(Due::Uses), 0),
    ] {
        key.used(used);
        assert_eq!(key.due(uses, now()).unwrap(), due, "{description}");
        let left = key.reserve(uses);
        assert_eq!(left.ok(), due.is_none().then_some(lot), "{description}");
    }
    let mut other = Key::new(Algorithm::Xchacha20Poly1305, now()).unwrap();
    assert_eq!(other.reserve(1).unwrap(), u64::MAX, "no bound");
}

#[test]
fn a_version_is_replaced_when_it_is_old() {
    let mut key = Key::new(Algorithm::Ed25519, now()).unwrap();
    key.rotate_after_s = 60;
    let ring = Ring::new(&key, 0).unwrap();
    let later = now() + Duration::from_secs(60);
    let before = later - Duration::from_secs(1);
    assert!(ring.take(1, before) && !ring.take(1, later));
    assert_eq!(key.due(1, before).unwrap(), None);
    assert_eq!(key.due(1, later).unwrap(), Some(Due::Age));
    key.rotate(later).unwrap();
    assert_eq!(key.due(1, later).unwrap(), None, "once");
    // A clock that was ahead for a moment, and one that was set back a little.
    for (description, ahead_s, due) in [
        ("a while", 3600, None),
        ("months", 100 * 24 * 3600, Some(Due::Age)),
    ] {
        key.rotate(later + Duration::from_secs(ahead_s)).unwrap();
        let ring = Ring::new(&key, 0).unwrap();
        assert_eq!(key.due(1, later).unwrap(), due, "{description}");
        assert_eq!(ring.take(1, later), due.is_none(), "{description}");
    }
    key.rotate(later).unwrap();
    assert_eq!(key.due(1, later).unwrap(), None, "and once");
}

#[test]
fn what_is_written_down_is_all_that_is_used() {
    let mut key = Key::new(Algorithm::Aes256Gcm, now()).unwrap();
    let left = key.reserve(1).unwrap();
    let ring = Ring::new(&key, left).unwrap();
    assert!(ring.take(LOT - 1, now()) && ring.take(1, now()));
    assert!(!ring.take(1, now()));
}

#[test]
fn a_key_with_as_many_versions_as_it_may_have_stays_of_use() {
    let max = Algorithm::Aes256Gcm.max_versions();
    let mut key = of_versions(Algorithm::Aes256Gcm, max);
    let later = now() + Duration::from_secs(3600);
    key.rotate_after_s = 60;
    assert!(!key.can_rotate());
    assert_eq!(key.due(1, later).unwrap(), None, "too old, and no other");
    let left = key.reserve(1).unwrap();
    let ring = Ring::new(&key, left).unwrap();
    assert!(ring.take(1, later), "as old as it is");
    key.used(MAX_USES);
    assert_eq!(key.due(1, later).unwrap(), Some(Due::Uses));
    for refused in [key.rotate(later).map(|()| 0), key.reserve(1)] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("raise min_decryption_version"), "{said}");
    }
    key.set_min_decryption(2).unwrap();
    let next = Next {
        version: 1025,
        dropped: Some(1),
    };
    assert_eq!(key.next().unwrap(), next);
    key.rotate(later).unwrap();
    assert_eq!((key.versions.len(), key.oldest()), (max, 2));
    assert!(!key.can_rotate(), "each that is left is used");
    key.set_min_decryption(1025).unwrap();
    for (description, below, removed) in [
        ("nothing", 0, None),
        ("what is used", 1026, None),
        ("what is gone already", 2, Some(0)),
        ("some", 1000, Some(998)),
        ("all that is not used", 1025, Some(25)),
    ] {
        assert_eq!(
            key.trim(below).ok().map(|gone| gone.len()),
            removed,
            "{description}"
        );
    }
    assert_eq!((key.versions.len(), key.oldest()), (1, 1025));
    for (min, said) in [(1024, "1025 to 1025"), (1026, "1025 to 1025")] {
        let refused = key.set_min_decryption(min).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_key_of_any_algorithm_fits_into_its_place() {
    for algorithm in [
        Algorithm::X25519Mlkem768,
        Algorithm::EcdsaP384,
        Algorithm::Aes256Siv,
    ] {
        let mut key = Key::new(algorithm, now()).unwrap();
        let version = key.versions[0].clone();
        key.versions = vec![version; algorithm.max_versions()];
        let bytes = serde_json::to_vec(&key).unwrap().len();
        assert!(bytes < 900 << 10, "{algorithm:?}: {bytes}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// As an encryption of so many entries does.
    Use(u64),
    Rotate,
    Later(u64),
    RotateAfter(u64),
    /// A place among the versions, in thousandths.
    Min(usize),
    Trim(usize),
    /// As if it had been used but for so many times.
    UsedBut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..1100_u64).prop_map(Step::Use),
        2 => Just(Step::Rotate),
        1 => (0..200_u64).prop_map(Step::Later),
        1 => select(&[0_u64, 60, 120][..]).prop_map(Step::RotateAfter),
        1 => (0..=1000_usize).prop_map(Step::Min),
        1 => (0..=1000_usize).prop_map(Step::Trim),
        1 => (0..LOT * 2).prop_map(Step::UsedBut),
    ]
}

/// The number of the version at this place.
fn at(key: &Key, thousandths: usize) -> u32 {
    key.versions[(key.versions.len() - 1) * thousandths / 1000].number
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_version_is_used_too_often_and_none_that_is_used_is_lost(
        algorithm in select(&[Algorithm::Aes256Gcm, Algorithm::Xchacha20Poly1305, Algorithm::HmacSha256][..]),
        fewer in 0..4_usize,
        steps in vec(step(), 1..60),
    ) {
        let max = algorithm.max_versions();
        let mut key = of_versions(algorithm, max - fewer);
        let mut now = now();
        // What each version was given out for, at most.
        let mut given: BTreeMap<u32, u64> = BTreeMap::new();
        let mut newest = key.newest().unwrap().number;
        for step in steps {
            let before = key.clone();
            let mut trimmed = 0;
            match step {
                Step::Use(uses) => {
                    let due = key.due(uses, now).unwrap();
                    let rotated = due.map_or(Ok(()), |_| key.rotate(now));
                    let left = rotated.and_then(|()| key.reserve(uses));
                    let stuck = due == Some(Due::Uses) && !before.can_rotate();
                    prop_assert_eq!(left.is_err(), stuck, "it fails where uses are at an end and nothing else");
                    if let (Ok(left), true) = (&left, algorithm.max_uses().is_some()) {
                        prop_assert!(*left >= uses);
                        *given.entry(key.newest().unwrap().number).or_default() += left;
                    }
                    if let Ok(left) = left {
                        let ring = Ring::new(&key, left).unwrap();
                        prop_assert!(ring.take(uses, now), "what was reserved is there");
                    }
                }
                Step::Rotate => {
                    prop_assert_eq!(key.rotate(now).is_ok(), before.can_rotate());
                }
                Step::Later(seconds) => now += Duration::from_secs(seconds),
                Step::RotateAfter(seconds) => key.rotate_after_s = seconds,
                Step::Min(place) => key.set_min_decryption(at(&before, place)).unwrap(),
                Step::Trim(place) => {
                    let below = at(&before, place);
                    prop_assert_eq!(key.trim(below).is_ok(), below <= before.min_decryption);
                    trimmed = below;
                }
                Step::UsedBut(left) => {
                    let number = key.newest().unwrap().number;
                    let so_far = given.get(&number).copied().unwrap_or_default();
                    let uses = (MAX_USES - left).max(so_far);
                    key.used(uses);
                    given.insert(number, uses);
                }
            }
            let numbers: Vec<u32> = key.versions.iter().map(|v| v.number).collect();
            prop_assert!(!numbers.is_empty() && numbers.len() <= max);
            prop_assert!(numbers.windows(2).all(|two| two[0] < two[1]));
            let there: HashSet<u32> = numbers.iter().copied().collect();
            let last = key.newest().unwrap().number;
            prop_assert!(last >= newest, "no number comes again");
            newest = last;
            prop_assert!(key.min_decryption <= newest);
            for version in &before.versions {
                let used = version.number >= before.min_decryption;
                let kept = there.contains(&version.number);
                prop_assert!(!used || kept, "{} is lost", version.number);
                prop_assert!(kept || version.number < trimmed || before.versions.len() == max);
            }
            prop_assert!(given.values().all(|uses| *uses <= MAX_USES), "{:?}", given);
            prop_assert!(algorithm.max_uses().is_none() || key.uses() <= MAX_USES);
        }
    }
}
