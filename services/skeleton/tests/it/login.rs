//! A page's session lives by its login at MCIAS.

use mc_proto::mcias::v1::{
    EndSessionRequest, ListSessionsRequest, RevokeRequest, revoke_request::What,
};
use mc_testkit::wait_for_async;

use crate::{
    running::PASSWORD,
    world::{COOKIE, World, logged_out},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_comes_back_to_the_page_and_leaves_at_both() {
    let world = World::start().await;
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    let back = world.log_in(&mut here, &mut there, "/?from=there").await;
    assert_eq!(back.status, 200);
    let again = r#"http-equiv="refresh" content="0; url=/?from=there""#;
    assert!(back.body.contains(again), "{}", back.body);
    let page = here.get("/?from=there").await;
    assert!(page.body.contains("ada"), "{}", page.body);
    let policy = page.header("content-security-policy");
    let form = format!("form-action 'self' {}", world.issuer);
    assert!(policy.ends_with(&form), "{policy}");
    assert_eq!(here.get("/login?next=/a").await.location(), "/a", "already");

    let away = here.submit("/", "/logout", &[]).await;
    assert!(!here.cookies.contains_key(COOKIE));
    let said = there.get(world.at_mcias(away.location())).await;
    assert_eq!(said.location(), format!("{}/logout", world.url));
    assert_eq!(there.get("/").await.location(), "/login?next=%2F");
    let out = here.get("/logout").await;
    assert!(out.body.contains("You are logged out."), "{}", out.body);
    assert_eq!(here.get("/").await.location(), "/login?next=%2F");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_the_login_ends_the_page() {
    let mut world = World::start().await;
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);

    // Its own row on the sessions page, as the API has it.
    world.log_in(&mut here, &mut there, "/").await;
    let token = world.mcias.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = world.mcias.clients(Some(&token)).await;
    let listed = ada.profile.list_sessions(ListSessionsRequest {}).await;
    let listed = listed.unwrap().into_inner().sessions;
    let own = listed.iter().find(|session| session.service == "guestbook");
    let request = EndSessionRequest {
        id: own.unwrap().id.clone(),
    };
    ada.profile.end_session(request).await.unwrap();
    logged_out(&mut here).await;

    // The login that it was given by.
    world.log_in(&mut here, &mut there, "/").await;
    assert_eq!(here.get("/").await.status, 200);
    there.submit("/", "/logout", &[]).await;
    logged_out(&mut here).await;

    // An administrator, of the account, and of everybody.
    for what in [What::Account("ada".to_owned()), What::Everything(true)] {
        let mut there = world.person("ada").await;
        world.log_in(&mut here, &mut there, "/").await;
        assert_eq!(here.get("/").await.status, 200);
        let request = RevokeRequest {
            what: Some(what),
            ..RevokeRequest::default()
        };
        world.admin.accounts.revoke(request).await.unwrap();
        logged_out(&mut here).await;
        world.admin = world.mcias.admin().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_mcias_nobody_is_let_in_and_told_why() {
    let mut world = World::start().await;
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    world.log_in(&mut here, &mut there, "/").await;
    let mut late = world.visitor();
    let back = world.answered(&mut late, &mut there, "/").await;
    world.mcias.stop().await;

    let told = "MCIAS, which knows who you are, does not answer";
    let mut stranger = world.visitor();
    let answer = wait_for_async("a login that fails", async || {
        let answer = stranger.get("/login").await;
        (answer.status == 503).then_some(answer)
    });
    let answer = answer.await.unwrap();
    assert!(answer.body.contains(told), "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    let answer = late.get(&back).await;
    assert_eq!(answer.status, 503, "a code that nobody exchanges");
    assert!(!late.cookies.contains_key(COOKIE));
    // Whether it was ended meanwhile nobody can say.
    let answer = wait_for_async("the page to be closed", async || {
        let answer = here.get("/").await;
        (answer.status == 503).then_some(answer)
    });
    assert!(answer.await.unwrap().body.contains(told));

    world.mcias.restart().await;
    wait_for_async("the page", async || {
        (here.get("/").await.status == 200).then_some(())
    })
    .await
    .unwrap();
    let mut there = world.person("ada").await;
    wait_for_async("logins", async || {
        let login = stranger.get("/login").await;
        (login.status == 303).then_some(())
    })
    .await
    .unwrap();
    world.log_in(&mut stranger, &mut there, "/").await;
    assert_eq!(stranger.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_mcias_whoever_logs_out_is_logged_out_here() {
    let world = World::start().await;
    let (mut at_once, mut later, mut there) =
        (world.visitor(), world.visitor(), world.person("ada").await);
    let mut tokens = Vec::new();
    for here in [&mut at_once, &mut later] {
        world.log_in(here, &mut there, "/").await;
        tokens.push(here.get("/").await.field("csrf_token"));
    }
    world.mcias.stop().await;
    let sessions = || -> i64 {
        let db = rusqlite::Connection::open(world.root.path().join("guestbook.db")).unwrap();
        let sql = "SELECT count(*) FROM web_sessions";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    for (ended, (here, token)) in (0..).zip([&mut at_once, &mut later].into_iter().zip(tokens)) {
        if ended > 0 {
            // Nobody can say any more whether the login goes on.
            let closed = wait_for_async("the page to be closed", async || {
                (here.get("/").await.status == 503).then_some(())
            });
            closed.await.unwrap();
        }
        let mut copy = here.clone();
        let forged = here.post("/logout", &[("csrf_token", "x")]).await;
        assert_eq!((forged.status, sessions()), (403, 2 - ended));
        let token = [("csrf_token", token.as_str())];
        let out = here.post("/logout", &token).await;
        assert_eq!(out.location(), "/logout?alone");
        assert!(!here.cookies.contains_key(COOKIE));
        assert_eq!(sessions(), 1 - ended);
        let page = here.get(out.location()).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("MCIAS does not answer"), "{}", page.body);
        let copied = copy.get("/").await;
        assert_eq!(copied.location(), "/login?next=%2F", "nor by a copy of it");
    }
}
