use super::*;

const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

fn text(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[test]
fn each_kind_opens_by_its_secret_alone() {
    let master = Key::random().unwrap();
    let password = Slot::password("right", CHEAP, 1, &master).unwrap();
    let (recovery, key) = Slot::recovery(1, &master).unwrap();
    let (shared, shares) = Slot::shares(2, 3, 1, &master).unwrap();
    let (_, strange) = Slot::shares(2, 3, 1, &master).unwrap();
    let (_, strange_key) = Slot::recovery(1, &master).unwrap();
    let some =
        |which: &[usize]| Secret::Shares(which.iter().map(|at| shares[*at].clone()).collect());
    let few = SlotError::Few {
        needed: 2,
        given: 1,
    };
    let mixed = Secret::Shares(vec![shares[0].clone(), strange[1].clone()]);
    let with_key = Secret::Shares(vec![shares[0].clone(), key.clone()]);
    let right = || Secret::Password(text("right"));
    for (description, slot, secret, opens) in [
        ("the password", &password, right(), Ok(())),
        (
            "another",
            &password,
            Secret::Password(text("wrong")),
            Err(SlotError::Wrong),
        ),
        (
            "none",
            &password,
            Secret::Password(text("")),
            Err(SlotError::Wrong),
        ),
        (
            "the recovery key",
            &recovery,
            Secret::Recovery(key.clone()),
            Ok(()),
        ),
        (
            "another's",
            &recovery,
            Secret::Recovery(strange_key),
            Err(SlotError::Wrong),
        ),
        (
            "a slip",
            &recovery,
            Secret::Recovery(text("abc")),
            Err(SlotError::Slip(Slip)),
        ),
        (
            "a share for it",
            &recovery,
            Secret::Recovery(shares[0].clone()),
            Err(SlotError::Kind("a share, not a recovery key")),
        ),
        ("shares 1 and 2", &shared, some(&[0, 1]), Ok(())),
        ("shares 3 and 1", &shared, some(&[2, 0]), Ok(())),
        ("all", &shared, some(&[0, 1, 2]), Ok(())),
        ("one", &shared, some(&[1]), Err(few)),
        (
            "none of them",
            &shared,
            some(&[]),
            Err(SlotError::Few {
                needed: 2,
                given: 0,
            }),
        ),
        (
            "one twice",
            &shared,
            some(&[1, 1]),
            Err(SlotError::Twice(2)),
        ),
        ("of two keys", &shared, mixed, Err(SlotError::Mixed)),
        (
            "a recovery key among them",
            &shared,
            with_key,
            Err(SlotError::Kind("a recovery key, not a share")),
        ),
        (
            "a password for shares",
            &shared,
            right(),
            Err(SlotError::Missing("password")),
        ),
    ] {
        let opened = secret.read().and_then(|secret| slot.open(&secret, 1));
        if let Ok(opened) = &opened {
            assert_eq!(opened.bytes(), master.bytes(), "{description}");
        }
        assert_eq!(opened.map(drop), opens, "{description}");
    }
    assert_eq!(
        password.open(&right().read().unwrap(), 2).map(drop),
        Err(SlotError::Wrong),
        "of another generation"
    );
}

#[test]
fn what_cannot_be_made_is_refused() {
    let master = Key::random().unwrap();
    for (needed, of) in [(0, 0), (1, 1), (1, 3), (3, 2), (2, 17), (258, 259)] {
        let made = threshold(needed, of);
        assert_eq!(made, Err(SlotError::Threshold { needed, of }));
    }
    let made = Slot::shares(3, 2, 1, &master);
    let refused = SlotError::Threshold { needed: 3, of: 2 };
    assert_eq!(made.map(drop), Err(refused));
    let most = Cost {
        memory_kib: u32::MAX,
        ..CHEAP
    };
    let none = Cost { passes: 0, ..CHEAP };
    for cost in [most, none] {
        let made = Slot::password("a", cost, 1, &master);
        assert_eq!(made.map(drop), Err(SlotError::Cost(cost)));
    }
}
