use super::{super::idle::Busy, *};

/// A connection that works for that account.
fn working_for(
    places: &Arc<Places>,
    source: &str,
    account: &str,
) -> Result<(Place, Busy), Refusal> {
    let place = places.take()?;
    place.count(source.parse().unwrap())?;
    let busy = place.activity.begin();
    place.known(account);
    Ok((place, busy))
}

/// A connection that works for somebody: at each source somebody else.
fn working(places: &Arc<Places>, source: &str) -> Result<(Place, Busy), Refusal> {
    working_for(places, source, source)
}

#[test]
fn places_are_bounded_in_all_and_for_each_source() {
    let places = Places::new(8);
    let mut held = Vec::new();
    for (description, source, wanted) in [
        ("the first", "192.0.2.1", None),
        ("the second, mapped", "::ffff:192.0.2.1", None),
        ("one too many of it", "192.0.2.1", Some(Refusal::Source)),
        ("its neighbour", "192.0.2.2", None),
        ("IPv6", "2001:db8::1", None),
        ("of the same /64", "2001:db8::2", None),
        ("and again", "2001:db8::3", Some(Refusal::Source)),
        ("another /64", "2001:db8:0:1::1", None),
        ("the seventh", "192.0.2.3", None),
        ("the eighth", "192.0.2.4", None),
        ("one too many", "192.0.2.5", Some(Refusal::Full)),
    ] {
        let got = working(&places, source);
        assert_eq!(got.as_ref().err().copied(), wanted, "{description}");
        held.extend(got.ok());
    }
    drop(held);
    let state = places.state();
    let left = (state.held.len(), state.sources.len(), state.accounts.len());
    assert_eq!(left, (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_has_its_share_makes_room_itself() {
    // Of eight places an account has two.
    for (description, others, last) in [
        (
            "the one that has worked for the longest",
            [("ann", true), ("ann", true), ("bob", true)],
            Some(0),
        ),
        (
            "the one that does nothing, though it came later",
            [("ann", true), ("ann", false), ("bob", true)],
            Some(1),
        ),
        (
            "not that of another account, which does nothing",
            [("bob", false), ("ann", true), ("ann", true)],
            Some(1),
        ),
        (
            "within its share none",
            [("bob", true), ("ann", true), ("eve", false)],
            None,
        ),
    ] {
        let places = Places::new(8);
        let mut held = Vec::new();
        let mut come = async |n: usize, account: &str, works: bool| {
            let new = working_for(&places, &format!("192.0.2.{n}"), account).unwrap();
            let (place, busy) = new;
            // The clock is the test's.
            tokio::time::advance(Duration::from_secs(1)).await;
            held.push((place, works.then_some(busy)));
        };
        for (n, (account, works)) in others.into_iter().enumerate() {
            come(n, account, works).await;
        }
        come(others.len(), "ann", true).await;
        let ended = held.iter().position(|(place, _)| place.activity.is_ended());
        assert_eq!(ended, last, "{description}");
        assert!(places.state().accounts["ann"] <= 2, "{description}");
    }
}

#[test]
fn one_account_from_many_sources_keeps_nobody_out() {
    let places = Places::new(8);
    let held: Vec<_> = (0..16)
        .map(|n| working_for(&places, &format!("192.0.2.{n}"), "ann").unwrap())
        .collect();
    assert_eq!(places.state().held.len(), 2, "its share");
    let others: Vec<_> = (0..6)
        .map(|n| working(&places, &format!("198.51.100.{n}")).unwrap())
        .collect();
    assert_eq!(places.state().held.len(), 8);
    drop((held, others));
}

/// By its extensions, as methods and pages see a request.
#[test]
fn a_connection_is_its_first_accounts() {
    let places = Places::new(8);
    let place = Arc::new(places.take().unwrap());
    let mut request = Extensions::new();
    known(&request, "nobody's connection");
    assert!(places.state().accounts.is_empty());
    request.insert(Arc::clone(&place));
    for account in ["ann", "ann", "bob"] {
        known(&request, account);
        assert_eq!(place.activity.standing().0, Dispensable::Known);
        let accounts = places.state().accounts.clone();
        assert_eq!(accounts, HashMap::from([("ann".into(), 1)]), "{account}");
    }
}

/// What a connection does.
enum Does {
    Nothing,
    PublicStream,
    Work,
    LongWork,
}

#[tokio::test(start_paused = true)]
async fn whoever_does_nothing_makes_room() {
    use Does::{LongWork, Nothing, PublicStream, Work};
    for (description, others, last) in [
        (
            "the one that has done nothing for the longest",
            [(false, Nothing), (false, Nothing), (false, Nothing)],
            Some(0),
        ),
        (
            "a public stream is nothing",
            [(false, PublicStream), (false, Nothing), (false, Nothing)],
            Some(0),
        ),
        (
            "a stranger rather than somebody",
            [(true, Nothing), (true, PublicStream), (false, Nothing)],
            Some(2),
        ),
        (
            "who has asked for long rather than who does nothing yet",
            [(false, LongWork), (false, Work), (false, Nothing)],
            Some(0),
        ),
        (
            "who has done nothing for long rather than who asks",
            [(false, Nothing), (false, Work), (false, LongWork)],
            Some(0),
        ),
        (
            "of strangers who ask the one who has for the longest",
            [(true, Nothing), (false, LongWork), (false, Work)],
            Some(1),
        ),
        (
            "somebody who does nothing",
            [(true, LongWork), (true, PublicStream), (true, Work)],
            Some(1),
        ),
        (
            "nobody who works",
            [(true, LongWork), (true, Work), (true, Work)],
            None,
        ),
    ] {
        // Of the same source, and of many: in both cases there is no room for a fourth.
        for (max, alone) in [(3, false), (12, true)] {
            let places = Places::new(max);
            let mut held = Vec::new();
            for (n, (known, does)) in others.iter().enumerate() {
                let place = places.take().unwrap();
                let last = if alone { 1 } else { u8::try_from(n).unwrap() };
                place.count(IpAddr::from([192, 0, 2, last])).unwrap();
                if *known {
                    place.known(&n.to_string());
                }
                let busy = (!matches!(does, Nothing)).then(|| place.activity.begin());
                if let (PublicStream, Some(busy)) = (does, &busy) {
                    place.activity.is_public_stream(busy.id);
                }
                // The clock is the test's.
                if matches!(does, LongWork) {
                    tokio::time::advance(Duration::from_secs(20)).await;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
                held.push((place, busy));
            }
            let (new, source) = (places.take(), if alone { 1 } else { 9 });
            let came = new.and_then(|new| {
                new.count(IpAddr::from([192, 0, 2, source]))?;
                Ok(new)
            });
            let ended = held.iter().position(|(place, _)| place.activity.is_ended());
            assert_eq!(ended, last, "{description}, of one source: {alone}");
            assert_eq!(came.is_ok(), last.is_some(), "{description}: {alone}");
            drop((held, came));
            let state = places.state();
            assert_eq!((state.held.len(), state.sources.len()), (0, 0));
        }
    }
}

#[test]
fn what_made_room_before_its_source_was_known_is_refused() {
    let places = Places::new(1);
    let first = places.take().unwrap();
    let second = places.take().unwrap();
    assert!(first.activity.is_ended());
    let source = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(first.count(source), Err(Refusal::Full));
    assert_eq!(second.count(source), Ok(()));
    drop(first);
    assert_eq!(places.state().held.len(), 1, "the second's");
}

#[test]
fn refusals_are_counted() {
    let places = Places::new(1);
    let peer = IpAddr::from([192, 0, 2, 1]);
    for why in [Refusal::Full, Refusal::Header, Refusal::Full] {
        places.refused(why, peer);
    }
    let _idle = places.take();
    let _new = places.take();
    let text = places.metrics();
    for line in [
        "full\"} 2",
        "source\"} 0",
        "proxy_header\"} 1",
        "displaced_total 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// Who is logged in on a page shows no token.
#[cfg(feature = "web")]
#[tokio::test]
async fn who_is_logged_in_on_a_page_is_known() {
    use axum::{Router, body::Body, http::Request, http::header, routing::get};
    use tower::ServiceExt as _;

    use crate::{
        db::Store,
        web::{self, Limits, LocalPath, NewSession, Page, Sessions, Site},
    };

    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db"), &[web::migration(1)]).unwrap();
    let site = Site {
        service: "sample",
        title: "Sample",
        nav: Vec::new(),
        account: Vec::new(),
        login: "/login",
        logout: "/logout",
        scripts: Vec::new(),
        sessions: Sessions::new(store, Limits::default()),
        sso: None,
    };
    let log_in = async |page: Page| {
        let new = NewSession {
            account: "ann".to_owned(),
            name: "Ann".to_owned(),
            roles: Vec::new(),
            data: serde_json::Value::Null,
            flash: None,
        };
        page.log_in(new, &LocalPath::home()).await
    };
    let routes = Router::new()
        .route("/", get(async || "ok"))
        .route("/own", get(async |page: Page| page.login_goes_on()))
        .route("/login", get(log_in));
    let router = web::wrap(site, routes);
    let places = Places::new(8);
    let ask = async |path: &str, cookie: &str| {
        let place = Arc::new(places.take().unwrap());
        let request = Request::get(path)
            .header(header::COOKIE, cookie)
            .extension(Arc::clone(&place))
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        (answer, place.activity.standing().0)
    };
    let (answer, standing) = ask("/login", "").await;
    assert_eq!(standing, Dispensable::Stranger, "not logged in yet");
    let cookies = answer.headers().get_all(header::SET_COOKIE).iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap());
    let session = cookies.find(|cookie| cookie.starts_with("__Host-sample="));
    let (session, _) = session.unwrap().split_once(';').unwrap();
    for (description, path, cookie, wanted) in [
        ("nobody", "/own", "", Dispensable::Stranger),
        (
            "another's cookie",
            "/own",
            "__Host-sample=a",
            Dispensable::Stranger,
        ),
        (
            "whose login may be over",
            "/",
            session,
            Dispensable::Stranger,
        ),
        ("whose login goes on", "/own", session, Dispensable::Known),
    ] {
        let (_, standing) = ask(path, cookie).await;
        assert_eq!(standing, wanted, "{description}");
    }
}
