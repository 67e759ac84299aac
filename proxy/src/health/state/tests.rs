use proptest::prelude::*;

use super::*;

const SLOW_START: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_000 + seconds)
}

fn check(state: &mut State, now: Duration, passed: bool) -> Option<Event> {
    let result = if passed {
        Ok(())
    } else {
        Err("timeout".into())
    };
    state.checked(now, result)
}

fn ejected(now: Duration) -> State {
    let mut state = State::default();
    for _ in 0..EJECT_AFTER {
        state.failed(now, "backend_refused".into(), true);
    }
    assert!(state.ejected(now));
    state
}

#[test]
fn the_first_check_decides_then_rise_and_fall() {
    for (description, results, standing, condition) in [
        ("none yet", "", Standing::Share(WHOLE), Condition::Unchecked),
        (
            "the first passed",
            "+",
            Standing::Share(WHOLE),
            Condition::Up,
        ),
        ("the first failed", "-", Standing::Down, Condition::Down),
        (
            "up, then failed too seldom",
            "+--+--",
            Standing::Share(WHOLE),
            Condition::Up,
        ),
        ("up, then down", "+---", Standing::Down, Condition::Down),
        ("down, passed once", "-+-+", Standing::Down, Condition::Down),
        (
            "down, then up: slowly",
            "-++",
            Standing::Share(FIRST_SHARE),
            Condition::SlowStart(FIRST_SHARE),
        ),
    ] {
        let mut state = State::default();
        for result in results.chars() {
            check(&mut state, at(0), result == '+');
        }
        assert_eq!(state.standing(at(0), SLOW_START), standing, "{description}");
        let report = state.report(at(0), SLOW_START);
        assert_eq!(report.condition, condition, "{description}");
    }
}

#[test]
fn a_change_is_told_once_and_says_why() {
    let mut state = State::default();
    let mut events: Vec<Event> = Vec::new();
    for (second, passed) in [1, 1, 1, 0, 0, 0, 0, 1, 1, 1].into_iter().enumerate() {
        events.extend(check(&mut state, at(second as u64), passed == 1));
    }
    assert_eq!(
        events,
        [Event::Up, Event::Down("timeout".into()), Event::Up]
    );
    let (why, ago) = state.report(at(10), SLOW_START).last.unwrap();
    assert_eq!((&*why, ago), ("2 checks passed", Duration::from_secs(2)));
}

#[test]
fn checks_that_ended_no_longer_count() {
    let mut state = State::default();
    for _ in 0..FALL {
        check(&mut state, at(0), false);
    }
    state.forget_checks();
    let report = state.report(at(1), SLOW_START);
    assert_eq!(
        (report.condition, report.last),
        (Condition::Unchecked, None)
    );
    check(&mut state, at(2), true);
    assert_eq!(
        state.standing(at(2), SLOW_START),
        Standing::Share(WHOLE),
        "it begins anew"
    );
    let mut state = ejected(at(0));
    state.forget_checks();
    assert!(state.ejected(at(0)), "requests said so, not checks");
}

#[test]
fn failures_in_a_row_eject_for_a_time() {
    let mut state = State::default();
    let fail = |state: &mut State| state.failed(at(0), "backend_refused".into(), true);
    for _ in 1..EJECT_AFTER {
        assert_eq!(fail(&mut state), None);
    }
    state.succeeded();
    for _ in 1..EJECT_AFTER {
        assert_eq!(fail(&mut state), None, "a success resets");
    }
    let event = fail(&mut state);
    assert_eq!(
        event,
        Some(Event::Ejected(EJECT_BASE, "backend_refused".into()))
    );
    assert_eq!(fail(&mut state), None, "what was under way already");
    let end = at(0) + EJECT_BASE;
    for (description, now, condition, why, since) in [
        (
            "ejected",
            at(1),
            Condition::Ejected(EJECT_BASE - Duration::from_secs(1)),
            "5 requests failed in a row, the last: backend_refused",
            1,
        ),
        (
            "back",
            end + Duration::from_secs(4),
            Condition::SlowStart(400),
            "was ejected: 5 requests failed in a row, the last: backend_refused",
            4,
        ),
        (
            "as before",
            end + SLOW_START,
            Condition::Unchecked,
            "was ejected: 5 requests failed in a row, the last: backend_refused",
            10,
        ),
    ] {
        let report = state.report(now, SLOW_START);
        assert_eq!(report.condition, condition, "{description}");
        let last = Some((Why::from(why), Duration::from_secs(since)));
        assert_eq!(report.last, last, "{description}");
    }
}

#[test]
fn ejections_double_up_to_a_bound_and_are_forgiven() {
    let (mut state, mut now) = (State::default(), at(0));
    let mut eject = |state: &mut State, pause: Duration| {
        now += pause;
        let events = (0..EJECT_AFTER).map(|_| state.failed(now, "".into(), true));
        match events.last().flatten() {
            Some(Event::Ejected(time, _)) => {
                now += time;
                time.as_secs()
            }
            other => panic!("{other:?}"),
        }
    };
    let times: Vec<u64> = (0..7)
        .map(|_| eject(&mut state, Duration::from_secs(1)))
        .collect();
    assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(eject(&mut state, EJECT_MAX), 300, "not long enough");
    let longer = EJECT_MAX + Duration::from_secs(1);
    assert_eq!(eject(&mut state, longer), 10, "forgiven");
}

#[test]
fn without_room_nothing_is_ejected_until_there_is() {
    for (backends, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (16, 8)] {
        let ejected = (0..backends).take_while(|n| room(*n, backends)).count();
        assert_eq!(ejected, most, "of {backends}");
    }
    let mut state = State::default();
    for _ in 0..3 * EJECT_AFTER {
        assert_eq!(state.failed(at(0), "".into(), false), None);
    }
    assert!(state.failed(at(0), "".into(), true).is_some());
}

#[test]
fn coming_up_ends_an_ejection() {
    let mut state = ejected(at(0));
    for _ in 0..FALL {
        check(&mut state, at(1), false);
    }
    assert!(!state.ejected(at(1)), "it is down, which is more");
    for _ in 0..RISE {
        check(&mut state, at(2), true);
    }
    assert_eq!(
        state.standing(at(3), SLOW_START),
        Standing::Share(WHOLE / 10)
    );
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(usize),
    Fail(usize),
    Request(usize, bool),
    Wait(u64),
}

fn steps(backends: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..backends).prop_map(Step::Pass),
        3 => (0..backends).prop_map(Step::Fail),
        12 => (0..backends, prop::bool::weighted(0.1)).prop_map(|(n, ok)| Step::Request(n, ok)),
        1 => (0..20_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..400)
}

/// What must hold of a route's backends whatever happens to them.
fn run(backends: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut states = vec![State::default(); backends];
    let mut checks = vec![Vec::new(); backends];
    let mut now = at(0);
    for step in steps {
        match *step {
            Step::Pass(n) | Step::Fail(n) => {
                let passed = matches!(step, Step::Pass(_));
                checks[n].push(passed);
                check(&mut states[n], now, passed);
            }
            Step::Request(n, true) => states[n].succeeded(),
            Step::Request(n, false) => {
                let ejected = states.iter().filter(|s| s.ejected(now)).count();
                let event = states[n].failed(now, "".into(), room(ejected, backends));
                if let Some(Event::Ejected(time, _)) = event {
                    prop_assert!((EJECT_BASE..=EJECT_MAX).contains(&time));
                }
            }
            Step::Wait(ms) => now += Duration::from_millis(ms),
        }
        let ejected = states.iter().filter(|s| s.ejected(now)).count();
        prop_assert!(ejected <= backends / 2, "{ejected} of {backends}");
        for (state, results) in states.iter().zip(&checks) {
            let down = state.standing(now, SLOW_START) == Standing::Down;
            prop_assert_eq!(down, is_down(results), "{:?}", results);
            let report = state.report(now, SLOW_START);
            prop_assert_eq!(down, report.condition == Condition::Down);
            if let Condition::Ejected(left) = report.condition {
                prop_assert!(left <= EJECT_MAX);
            }
        }
    }
    Ok(())
}

/// The plain reading of [`RISE`] and [`FALL`]: the last run that is long enough decides, without one the first check.
fn is_down(results: &[bool]) -> bool {
    let ends = |end: usize, passed: bool, n: u32| {
        let last = results[..end].iter().rev().take_while(|r| **r == passed);
        last.count() >= n as usize
    };
    let deciding = (1..=results.len())
        .rev()
        .find(|end| ends(*end, true, RISE) || ends(*end, false, FALL));
    let deciding = deciding
        .map(|end| end - 1)
        .or((!results.is_empty()).then_some(0));
    deciding.is_some_and(|check| !results[check])
}

proptest! {
    #[test]
    fn a_route_keeps_half_of_its_backends_and_checks_rule(
        (backends, steps) in (1..6_usize).prop_flat_map(|n| (Just(n), steps(n)))
    ) {
        run(backends, &steps)?;
    }

    #[test]
    fn a_share_grows_linearly(slow_start in 1..100_000_u64, a in 0..200_000_u64, b in 0..200_000_u64) {
        let slow = Duration::from_millis(slow_start);
        let of = |ms| share(at(0), at(0) + Duration::from_millis(ms), slow);
        let (early, late) = (of(a.min(b)), of(a.max(b)));
        prop_assert!(early <= late);
        let line = (a * WHOLE / slow_start).clamp(FIRST_SHARE, WHOLE);
        prop_assert_eq!(of(a), line);
        prop_assert_eq!(share(at(0), at(1), Duration::ZERO), WHOLE, "none asked for");
    }
}
