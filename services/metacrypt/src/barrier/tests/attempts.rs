//! Attempts that wait.

use super::*;

#[tokio::test]
async fn wrong_secrets_wait_longer_whatever_is_restarted() {
    let (mut world, fresh) = World::new().await;
    for _ in 0..3 {
        let wrong = world.open(password("wrong")).await.map(drop);
        assert!(
            matches!(wrong, Err(SealError::Slot(SlotError::Wrong))),
            "{wrong:?}"
        );
    }
    let waits = |result: Result<Unsealed, SealError>| match result.map(drop) {
        Err(SealError::Wait(wait)) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(world.open(password("one")).await), 1);
    world.restart();
    assert_eq!(
        waits(world.open(password("one")).await),
        1,
        "after a restart"
    );
    let there = world.open_from(password("wrong"), THERE).await;
    assert!(
        matches!(there.map(drop), Err(SealError::Slot(SlotError::Wrong))),
        "elsewhere nobody failed"
    );
    world.pass(1);
    assert!(!world.opens("wrong").await);
    assert_eq!(waits(world.open(password("one")).await), 2, "twice as long");
    world.pass(1000);
    let slip = world.open(Secret::Recovery(text("a slip"))).await.map(drop);
    assert!(
        matches!(slip, Err(SealError::Slot(SlotError::Slip(_)))),
        "{slip:?}"
    );
    let recovery = Secret::Recovery(fresh.recovery.unwrap());
    let opened = world.open(recovery).await.map(drop);
    assert!(opened.is_ok(), "a slip is no attempt: {opened:?}");
    assert!(!world.opens("wrong").await, "and who opens it begins anew");
    assert!(world.opens("one").await);
}

#[tokio::test]
async fn a_clock_that_is_set_neither_ends_a_wait_nor_makes_it_longer() {
    let years = Duration::from_secs(10 * 365 * 86400);
    for (description, set, restarted, waits) in [
        (
            "ahead, as it runs",
            FakeClock::set_ahead as fn(&_, _),
            false,
            8,
        ),
        ("back, as it runs", FakeClock::set_back, false, 8),
        ("back, and a restart", FakeClock::set_back, true, 8),
        (
            "ahead, and a restart: not known",
            FakeClock::set_ahead,
            true,
            0,
        ),
    ] {
        let (mut world, _) = World::new().await;
        let wait = async |world: &World| match world.open(password("one")).await {
            Ok(_) => 0,
            Err(SealError::Wait(wait)) => wait.as_secs(),
            Err(other) => panic!("{description}: {other:?}"),
        };
        for _ in 0..6 {
            world.pass(100);
            assert!(!world.opens("wrong").await);
        }
        set(&world.clock, years);
        if restarted {
            world.restart();
        }
        assert_eq!(wait(&world).await, waits, "{description}");
        world.pass(5);
        assert_eq!(wait(&world).await, waits.saturating_sub(5), "{description}");
        world.pass(3);
        assert_eq!(wait(&world).await, 0, "{description}");
    }
}

#[tokio::test]
async fn strangers_keep_nobody_out_who_was_let_in() {
    let (world, _) = World::new().await;
    let stranger = "198.51.100.7";
    world.open_from(password("one"), THERE).await.unwrap();
    for _ in 0..3 {
        let wrong = world.open_from(password("wrong"), stranger).await;
        assert!(wrong.is_err());
    }
    let more = world.open_from(password("one"), stranger).await.map(drop);
    assert!(matches!(more, Err(SealError::Wait(_))), "{more:?}");
    assert!(world.open_from(password("one"), THERE).await.is_ok());
}

#[tokio::test]
async fn who_has_a_key_or_shares_waits_for_nobody_who_guesses() {
    let (world, fresh) = World::new().await;
    for _ in 0..12 {
        world.pass(1000);
        assert!(!world.opens("wrong").await);
    }
    let waits = world.open(password("one")).await.map(drop);
    assert!(matches!(waits, Err(SealError::Wait(_))), "{waits:?}");
    let _turn = world.seal.lines.turn(Origin::Known).await.unwrap();
    let key = Secret::Recovery(fresh.recovery.unwrap());
    let shares = Secret::Shares(fresh.shares[..2].to_vec());
    let (other, wrong) = World::new().await;
    drop(other);
    for (description, secret, wanted) in [
        ("a recovery key", key, None),
        ("shares", shares, None),
        (
            "another seal's key",
            Secret::Recovery(wrong.recovery.unwrap()),
            Some(SlotError::Wrong),
        ),
    ] {
        let told = match world.open(secret).await {
            Err(SealError::Slot(error)) => Some(error),
            opened => {
                opened.unwrap();
                None
            }
        };
        assert_eq!(told, wanted, "{description}");
    }
}

#[tokio::test]
async fn strangers_have_a_line_of_their_own_and_slips_need_none() {
    let (world, fresh) = World::new().await;
    let refused = |opened: Result<Unsealed, SealError>| opened.map(drop).unwrap_err();
    let known = world.seal.lines.turn(Origin::Known).await.unwrap();
    let stranger = world.seal.lines.turn(Origin::Stranger).await.unwrap();
    let busy = refused(world.open_from(password("one"), THERE).await);
    assert!(matches!(busy, SealError::Busy), "{busy:?}");
    let share = fresh.shares[0].clone();
    for (description, source, secret) in [
        ("a slip", THERE, Secret::Recovery(text("a slip"))),
        ("a slip here", HERE, Secret::Recovery(text("a slip"))),
        ("a share alone", THERE, Secret::Shares(vec![share.clone()])),
        ("a share for a key", THERE, Secret::Recovery(share)),
    ] {
        let slip = refused(world.open_from(secret, source).await);
        let told = matches!(&slip, SealError::Slot(error) if *error != SlotError::Wrong);
        assert!(told, "{description}: {slip:?}");
    }
    let db = world.db();
    let count = "SELECT count(*) FROM attempt";
    let written: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(written, 0, "and nothing is written of them");
    // Whoever is known waits, if not too many do.
    let mut waiting: Vec<_> = (1..line::KNOWN)
        .map(|_| Box::pin(world.seal.lines.turn(Origin::Known)))
        .collect();
    for turn in &mut waiting {
        tokio::select! {
            biased;
            _ = turn.as_mut() => panic!("two at once"),
            () = std::future::ready(()) => {}
        }
    }
    let full = refused(world.open(password("one")).await);
    assert!(matches!(full, SealError::Busy), "{full:?}");
    drop((known, waiting));
    assert!(world.opens("one").await, "strangers are in nobody's way");
    drop(stranger);
    assert!(world.open_from(password("one"), THERE).await.is_ok());
}
