//! Who gives way to whom.

use super::*;
use crate::server::places::Places;

/// A request from there.
fn request(source: &str) -> Extensions {
    let mut request = Extensions::new();
    request.insert(Source(source.parse().unwrap()));
    request.insert(Arc::new(Places::new(1).take().ok().unwrap()));
    request
}

fn more(hold: &Hold, bytes: usize) -> bool {
    match hold.more(bytes - PIECE) {
        Ok(()) => true,
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable);
            assert!(status.metadata().contains_key("retry-after"));
            false
        }
    }
}

/// Who of those that have something has nothing any more, by one more body.
#[test]
fn the_oldest_of_the_fullest_network_gives_way() {
    let three = [("192.0.2.1", 1000), ("192.0.2.1", 900), ("192.0.2.2", 500)];
    let full = [
        ("192.0.2.1", 2000),
        ("192.0.2.2", 400),
        ("192.0.2.2", 1500),
        ("192.0.2.3", 1990),
        ("192.0.2.4", 1990),
    ];
    for (description, before, source, known, bytes, fits, ended) in [
        (
            "room for it",
            &three[..],
            "192.0.2.1",
            false,
            0,
            true,
            &[][..],
        ),
        (
            "its network has too much",
            &three,
            "192.0.2.1",
            false,
            200,
            true,
            &[0],
        ),
        (
            "far too much",
            &three,
            "192.0.2.1",
            false,
            1500,
            true,
            &[0, 1],
        ),
        (
            "more than a network may have",
            &three,
            "192.0.2.1",
            false,
            2100,
            false,
            &[],
        ),
        (
            "of who is known there",
            &three,
            "192.0.2.1",
            true,
            9000,
            true,
            &[],
        ),
        (
            "another network",
            &three,
            "192.0.2.9",
            false,
            2000,
            true,
            &[],
        ),
        (
            "where all is held",
            &full,
            "192.0.2.9",
            false,
            200,
            true,
            &[0],
        ),
        (
            "and more",
            &full[1..],
            "2001:db8::1",
            false,
            2000,
            true,
            &[],
        ),
    ] {
        let bodies = Bodies::of(8000, 80_000);
        let hold = |source: &str| bodies.hold(&request(source)).unwrap();
        let held: Vec<_> = before.iter().map(|(source, _)| hold(source)).collect();
        for (hold, (_, bytes)) in held.iter().zip(before) {
            assert!(more(hold, *bytes), "{description}");
        }
        let asked = request(source);
        if known {
            crate::server::places::known(&asked, "ada");
        }
        let new = bodies.hold(&asked).unwrap();
        assert_eq!(more(&new, bytes.max(PIECE)), fits, "{description}");
        let over = held.iter().enumerate();
        let over: Vec<_> = over.filter(|(_, hold)| hold.is_over()).collect();
        let over: Vec<_> = over.into_iter().map(|(at, _)| at).collect();
        assert_eq!(over, ended, "{description}");
        for at in over {
            assert!(!more(&held[at], PIECE), "{description}: it is over");
        }
        drop((held, new));
        assert!(is_empty(&bodies), "{description}");
    }
    assert!(
        Bodies::of(1, 1).hold(&Extensions::new()).is_none(),
        "no connection"
    );
}

fn is_empty(bodies: &Bodies) -> bool {
    [&bodies.strangers, &bodies.known].into_iter().all(|pool| {
        let state = pool.state();
        state.shares.is_empty() && state.held == 0
    })
}

#[test]
fn an_account_makes_room_itself() {
    let bodies = Bodies::of(0, 8000);
    let hold = |account: &str| {
        let request = request("192.0.2.1");
        crate::server::places::known(&request, account);
        bodies.hold(&request).unwrap()
    };
    let (ada, second, ben) = (hold("ada"), hold("ada"), hold("ben"));
    assert!(more(&ada, 1500) && more(&ben, 1500));
    assert!(more(&second, 1000), "its share");
    assert!(ada.is_over() && !ben.is_over(), "its oldest alone");
    assert!(!more(&second, 1500), "more than a share");
    let stranger = bodies.hold(&request("192.0.2.1")).unwrap();
    assert!(!more(&stranger, PIECE), "of strangers there is none");
    drop((ada, second, ben, stranger));
    assert!(is_empty(&bodies));
}

#[test]
fn who_shows_by_the_head_who_he_is_is_no_stranger() {
    let bodies = Bodies::of(800, 80_000);
    let asked = request("192.0.2.1");
    let hold = bodies.hold(&asked).unwrap();
    assert!(more(&hold, 150), "the head, of nobody yet");
    crate::server::places::known(&asked, "ada");
    assert!(more(&hold, 5000), "more than strangers have");
    let stranger = bodies.hold(&request("192.0.2.1")).unwrap();
    assert!(more(&stranger, 200) && !hold.is_over(), "all of a network");
    assert_eq!(bodies.known.state().held, 5150);
    drop((hold, stranger));
    assert!(is_empty(&bodies));
}

#[test]
fn what_is_not_kept_any_more_is_free() {
    let bodies = Bodies::of(8000, 0);
    let hold = || bodies.hold(&request("192.0.2.1")).unwrap();
    let (stream, newcomer) = (hold(), hold());
    for _ in 0..10 {
        assert!(more(&stream, 1500));
        stream.less(1500 - PIECE, 1);
    }
    assert!(more(&newcomer, 2000) && !stream.is_over(), "all the room");
    stream.less(100, 1);
    drop((stream, newcomer));
    assert!(is_empty(&bodies));
}

#[test]
fn what_is_whole_is_held_until_its_answer() {
    let bodies = Bodies::of(8000, 0);
    let hold = || bodies.hold(&request("192.0.2.1")).unwrap();
    let (body, newcomer) = (hold(), hold());
    assert!(more(&body, 1500));
    body.is_whole();
    let request = body.clone();
    drop(body);
    assert!(!more(&newcomer, 1000), "its memory is in use");
    assert!(!request.is_over());
    drop(request);
    assert!(more(&newcomer, 1000), "it was answered");
    drop(newcomer);
    assert!(is_empty(&bodies));
}
