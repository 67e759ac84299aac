//! The pages as people see them, in Chromium: sent by a client of another site, logging in, and back.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use axum::{Router, http::Uri, response::Html};
use mc_proto::mcias::v1::{PutServiceRequest, ResetPasswordRequest, Service};
use mc_testkit::{browser::Browser, wait_for_async};
use thirtyfour::By;
use tokio::net::TcpListener;
use url::Url;

use crate::{
    factors::{code, enrol},
    oidc_client::{request, text},
    running::{Clients, PASSWORD, Running},
    web::Http,
};

/// Where screenshots go: to `MC_SCREENSHOTS`, or nowhere that stays.
pub(crate) struct Pictures(PathBuf);

impl Pictures {
    pub(crate) fn of(running: &Running) -> Self {
        let kept = std::env::var_os("MC_SCREENSHOTS");
        Self(kept.map_or_else(|| running.root.path().to_owned(), PathBuf::from))
    }
}

/// No page is refused anything by its policy, is wider than the screen, or keeps anybody out.
pub(crate) async fn judge(browser: &Browser, what: &str, pictures: &Pictures) -> Result<()> {
    for (width, dark) in [(360, false), (360, true), (1280, true), (1280, false)] {
        browser.view(width, dark).await?;
        let scheme = if dark { "dark" } else { "light" };
        let name = format!("{what}-{width}-{scheme}");
        browser
            .screenshot(&pictures.0.join(format!("{name}.png")))
            .await?;
        ensure!(browser.overflow().await? == 0, "{name} is too wide");
        // Both widths and both schemes; axe takes its time.
        if dark == (width == 360) {
            let found = browser.accessibility().await?;
            ensure!(found.is_empty(), "{name}: {found:#?}");
        }
    }
    let refused = browser.violations().await?;
    ensure!(refused.is_empty(), "{what}: {refused:#?}");
    Ok(())
}

/// A service of another site; its pages say where they are. The redirect URI.
pub(crate) async fn client(admin: &mut Clients) -> Result<(String, String)> {
    client_at(admin, "127.0.0.1:0").await
}

/// There.
async fn client_at(admin: &mut Clients, address: &str) -> Result<(String, String)> {
    let listener = TcpListener::bind(address).await?;
    let home = format!("http://{}", listener.local_addr()?);
    let redirect = format!("{home}/callback");
    let page = async |uri: Uri| {
        let query = uri.query().unwrap_or_default();
        let to = query.strip_prefix("to=").unwrap_or("/");
        Html(format!(
            "<title>Client</title><a id=\"go\" href=\"{}\">go</a>",
            decoded(to)
        ))
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(page)).into_future());
    let service = Service {
        name: "app".to_owned(),
        redirect_uris: vec![redirect.clone()],
        public_client: true,
        ..Service::default()
    };
    let request = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(request).await?;
    Ok((home, redirect))
}

fn decoded(text: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    let name = pairs
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned());
    name.replace('&', "&amp;")
}

pub(crate) async fn heading(browser: &Browser, wanted: &str) -> Result<()> {
    wait_for_async(wanted, async || {
        let heading = browser.driver().find(By::Css("h1")).await.ok()?;
        (heading.text().await.ok()? == wanted).then_some(())
    })
    .await
}

pub(crate) async fn type_in(browser: &Browser, id: &str, text: &str) -> Result<()> {
    let field = browser.driver().find(By::Id(id)).await?;
    Ok(field.send_keys(text).await?)
}

/// Says yes to the question whether the client on this machine is the one.
pub(crate) async fn consent(browser: &Browser) -> Result<()> {
    heading(browser, "Log in to app?").await?;
    Ok(browser
        .driver()
        .find(By::Css("main button"))
        .await?
        .click()
        .await?)
}

/// Waits until the client has the browser again, and has it exchange the code. Where the browser is.
pub(crate) async fn back_at_the_client(
    running: &Running,
    browser: &Browser,
    redirect: &str,
) -> Result<Url> {
    let back = wait_for_async("the client", async || {
        let url = browser.driver().current_url().await.ok()?;
        url.as_str().starts_with(redirect).then_some(url)
    })
    .await?;
    let given = back.query_pairs().find(|(name, _)| name == "code");
    let given = given.map(|(_, code)| code.into_owned()).unwrap_or_default();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", &given),
        ("redirect_uri", redirect),
        ("code_verifier", crate::oidc_client::VERIFIER),
    ];
    let tokens = Http::new(running).post("/oauth/token", &[], &fields).await;
    ensure!(tokens.status == 200, "{}", tokens.body);
    ensure!(!text(&tokens.json(), "id_token").is_empty());
    Ok(back)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_sent_to_log_in_and_back() -> Result<()> {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await?.token;
    let secret = enrol(&mut running.clients(Some(&token)).await).await;
    let (home, redirect) = client(&mut admin).await?;
    let base = format!("https://localhost:{}", running.handle.address().port());
    let pictures = Pictures::of(&running);
    let browser = Browser::start().await?;
    let driver = browser.driver();

    // By a link of another site, with cookies that are kept back on the way, by the keyboard alone.
    let path = request("app", &[("redirect_uri", &redirect)]);
    let to: String =
        url::form_urlencoded::byte_serialize(format!("{base}{path}").as_bytes()).collect();
    driver.goto(&format!("{home}/?to={to}")).await?;
    driver.find(By::Id("go")).await?.click().await?;
    heading(&browser, "Log in").await?;
    judge(&browser, "login", &pictures).await?;
    type_in(&browser, "account", "ada").await?;
    type_in(&browser, "password", &format!("{PASSWORD}\u{e007}")).await?;
    heading(&browser, "Second factor").await?;
    judge(&browser, "second-factor", &pictures).await?;
    type_in(&browser, "code", &format!("{}\u{e007}", code(&secret, 0))).await?;
    heading(&browser, "Log in to app?").await?;
    judge(&browser, "consent", &pictures).await?;
    consent(&browser).await?;
    back_at_the_client(&running, &browser, &redirect).await?;

    // Once more, to an address of IPv6: without a password, but not without the question.
    let (home, redirect) = client_at(&mut admin, "[::1]:0").await?;
    let path = request("app", &[("redirect_uri", &redirect)]);
    let to: String =
        url::form_urlencoded::byte_serialize(format!("{base}{path}").as_bytes()).collect();
    driver.goto(&format!("{home}/?to={to}")).await?;
    driver.find(By::Id("go")).await?.click().await?;
    consent(&browser).await?;
    back_at_the_client(&running, &browser, &redirect).await?;

    for (path, what) in [
        ("/", "account"),
        ("/sessions", "logins"),
        ("/password", "password"),
        ("/oauth/logout?client_id=app", "logout"),
        ("/oauth/authorize?client_id=nobody", "mistake"),
    ] {
        driver.goto(&format!("{base}{path}")).await?;
        judge(&browser, what, &pictures).await?;
    }

    // Out, and in with a password that has to be changed.
    driver.goto(&format!("{base}/oauth/logout")).await?;
    driver.find(By::Css("main button")).await?.click().await?;
    heading(&browser, "Log in").await?;
    admin.person("bob", "user").await;
    let reset = ResetPasswordRequest {
        name: "bob".to_owned(),
    };
    let given = admin
        .accounts
        .reset_password(reset)
        .await?
        .into_inner()
        .password;
    type_in(&browser, "account", "bob").await?;
    type_in(&browser, "password", &format!("{given}\u{e007}")).await?;
    heading(&browser, "Change your password").await?;
    judge(&browser, "expired", &pictures).await?;
    type_in(&browser, "old", &given).await?;
    type_in(&browser, "new", PASSWORD).await?;
    type_in(&browser, "repeated", &format!("{PASSWORD}\u{e007}")).await?;
    heading(&browser, "Your account").await?;
    Ok(())
}
