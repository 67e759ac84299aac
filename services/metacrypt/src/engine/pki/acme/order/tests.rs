//! What follows which.

use super::*;

fn order(names: &[&str]) -> Order {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let names = Names::parse(&names).unwrap();
    let token = || Ok::<_, ()>("token".to_owned());
    Order::new("account", "ada", "web", names, None, 100, token).unwrap()
}

fn failed() -> Problem {
    Problem::new(Type::Connection, "refused")
}

#[test]
fn names_are_shown_by_what_can_show_them() {
    let order = order(&["a.example", "*.a.example", "10.0.0.1"]);
    let methods: Vec<Vec<_>> = order
        .authorizations
        .iter()
        .map(|one| one.challenges.iter().map(|c| c.method.name()).collect())
        .collect();
    assert_eq!(
        methods,
        [
            vec!["http-01", "dns-01", "tls-alpn-01"],
            vec!["dns-01"],
            vec!["http-01", "tls-alpn-01"],
        ]
    );
}

#[test]
fn an_order_is_ready_once_all_its_names_are_shown() {
    use Method::{Dns01, Http01};
    let mut order = order(&["a.example", "b.example"]);
    assert_eq!(order.end(0, Http01, Ok(()), 1), ());
    assert_eq!(
        order.authorization(0, 1),
        Some(Status::Pending),
        "not begun"
    );
    let task = order.begin(0, Http01, 1).unwrap().unwrap();
    assert_eq!(task.name.to_string(), "a.example");
    assert_eq!(order.begin(0, Http01, 1), Ok(None), "said twice");
    order.end(0, Http01, Ok(()), 2);
    assert_eq!(order.authorization(0, 2), Some(Status::Valid));
    assert_eq!(order.status(2), Status::Pending);
    assert!(order.begin(0, Dns01, 2).is_err(), "it is valid by another");
    assert!(order.ready(2).is_err());
    order.begin(1, Dns01, 2).unwrap().unwrap();
    order.end(1, Dns01, Ok(()), 3);
    assert_eq!(order.status(3), Status::Ready);
    let serial = Serial::new([1; 20]);
    order.issued(serial.clone(), 3).unwrap();
    assert_eq!(
        (order.status(1000), order.serial()),
        (Status::Valid, Some(&serial))
    );
    assert!(order.issued(serial, 3).is_err(), "twice");
    order.cancel();
    assert_eq!(order.status(3), Status::Valid);
}

#[test]
fn what_fails_ends_the_order() {
    use Method::Http01;
    let mut order = order(&["a.example", "b.example"]);
    order.begin(0, Http01, 1).unwrap();
    order.begin(1, Http01, 1).unwrap();
    order.end(0, Http01, Err(failed()), 2);
    assert_eq!(order.status(2), Status::Invalid);
    let error = order.error(2).unwrap();
    assert_eq!(error.identifier.as_deref(), Some("a.example"));
    order.end(1, Http01, Ok(()), 3);
    assert_eq!(order.authorization(1, 3), Some(Status::Invalid), "late");
    assert!(order.ready(3).is_err() && !order.is_open(3));
}

#[test]
fn what_is_late_or_given_up_comes_to_nothing() {
    use Method::Http01;
    let mut late = order(&["a.example"]);
    late.begin(0, Http01, 99).unwrap();
    late.end(0, Http01, Ok(()), 100);
    assert_eq!(
        (late.status(100), late.authorization(0, 100)),
        (Status::Invalid, Some(Status::Expired))
    );
    let mut ready = order(&["a.example"]);
    ready.begin(0, Http01, 1).unwrap();
    ready.end(0, Http01, Ok(()), 1);
    assert!(ready.ready(99).is_ok() && ready.ready(100).is_err());
    ready.deactivate(0).unwrap();
    assert_eq!(
        (ready.status(2), ready.authorization(0, 2)),
        (Status::Invalid, Some(Status::Deactivated))
    );
    assert!(ready.begin(0, Method::Dns01, 2).is_err());
    assert!(ready.begin(7, Http01, 2).is_err() && ready.deactivate(7).is_err());
}

#[test]
fn what_is_valid_stays_valid_when_another_challenge_fails() {
    use Method::{Dns01, Http01};
    let mut order = order(&["a.example", "b.example"]);
    order.begin(0, Http01, 1).unwrap();
    order.begin(0, Dns01, 1).unwrap();
    order.end(0, Http01, Ok(()), 2);
    order.end(0, Dns01, Err(failed()), 3);
    assert_eq!(
        (order.status(3), order.authorization(0, 3)),
        (Status::Pending, Some(Status::Valid))
    );
    let ended = &order.authorizations[0].challenges[1].progress;
    assert_eq!(*ended, Progress::Invalid(failed()));
    order.begin(1, Http01, 3).unwrap();
    order.end(1, Http01, Ok(()), 4);
    assert!(order.ready(4).is_ok());
}
