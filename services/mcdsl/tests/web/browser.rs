//! Pages as people see them, over TLS, in Chromium.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{browser::Browser, ca::Ca, wait_for_async};
use mcdsl::{
    audit,
    auth::{AuthError, Authenticator, Identity},
    db::{Migration, Store},
    server::{self, App, Config, Handle, Recorder},
    shutdown::Shutdown,
    web::Limits,
};
use thirtyfour::By;

use crate::site::{sessions, site};

struct Nobody;

impl Authenticator for Nobody {
    fn authenticate<'a>(
        &'a self,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(async { Err(AuthError::Invalid("nobody is known here")) })
    }
}

async fn serve(directory: &Path, shutdown: &Shutdown) -> Result<Handle> {
    let (tls_cert, tls_key) = Ca::new()?
        .issue(&["localhost"])?
        .write(directory, "sample")?;
    let config = Config {
        listen: "127.0.0.1:0".parse()?,
        grpc_listen: "127.0.0.1:0".parse()?,
        tls_cert,
        tls_key,
        tls_ca: None,
        metrics_listen: None,
        trusted_proxies: Vec::new(),
    };
    let migration = Migration {
        version: 1,
        name: "audit",
        sql: audit::SCHEMA,
    };
    let store = Store::open(&directory.join("audit.db"), &[migration])?;
    let app = App {
        package: "metacircular.mcproxy.v1",
        grpc: tonic::service::Routes::default(),
        web: site(sessions(directory, Limits::default())),
        plain: axum::Router::new(),
        authenticator: Arc::new(Nobody),
        audit: Some(Arc::new(Recorder::new(store))),
        sealed: server::never_sealed(),
        metrics: Box::new(String::new),
    };
    Ok(server::start(&config, app, shutdown).await?)
}

/// No page is refused anything by its policy, is wider than the screen, or keeps anybody out.
async fn judge(browser: &Browser, url: &str, what: &str, pictures: &Path) -> Result<()> {
    browser.driver().goto(url).await?;
    for (width, dark) in [(360, false), (360, true), (1280, true), (1280, false)] {
        browser.view(width, dark).await?;
        let scheme = if dark { "dark" } else { "light" };
        let name = format!("{what}-{width}-{scheme}");
        let picture = pictures.join(format!("{name}.png"));
        browser.screenshot(&picture).await?;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_usable_on_phones_in_the_dark_and_by_everybody() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let shutdown = Shutdown::new();
    let server = serve(directory.path(), &shutdown).await?;
    let base = format!("https://localhost:{}", server.address.port());
    let pictures = match std::env::var_os("MC_SCREENSHOTS") {
        Some(kept) => kept.into(),
        None => directory.path().to_owned(),
    };
    let browser = Browser::start().await?;
    let driver = browser.driver();

    judge(&browser, &format!("{base}/login"), "login", &pictures).await?;
    judge(&browser, &format!("{base}/nowhere"), "not-found", &pictures).await?;

    // A person logs in, with the keyboard alone.
    driver.goto(&format!("{base}/")).await?;
    ensure!(driver.current_url().await?.path() == "/login");
    let name = driver.find(By::Id("name")).await?;
    name.send_keys("admin").await?;
    let password = driver.find(By::Id("password")).await?;
    password.send_keys("anything\u{e007}").await?;
    wait_for_async("the start page", async || {
        let heading = driver.find(By::Css("h1")).await.ok()?.text().await.ok()?;
        (heading == "Accounts").then_some(())
    })
    .await?;
    let cookies = browser.script("return document.cookie").await?;
    ensure!(cookies == "", "scripts see {cookies}");
    let ran = browser
        .script("return document.body.dataset.script")
        .await?;
    ensure!(ran == "ran", "its own script: {ran}");

    // htmx gets a part of the page, and sends the token with what changes something; a click before it is there is nobody's.
    wait_for_async("htmx", async || {
        let there = browser
            .script("return String('htmx' in window)")
            .await
            .ok()?;
        (there == "true").then_some(())
    })
    .await?;
    driver.find(By::Css("[hx-get]")).await?.click().await?;
    wait_for_async("the part", async || {
        let part = driver.find(By::Id("part")).await.ok()?.text().await.ok()?;
        part.starts_with("admin ").then_some(())
    })
    .await?;
    driver.find(By::Css("[hx-delete]")).await?.click().await?;
    wait_for_async("the message of a failure", async || {
        let message = driver.find(By::Css("#messages .error")).await.ok()?;
        message
            .text()
            .await
            .ok()
            .filter(|t| t.contains("not complete"))
    })
    .await
    .context("a form without its fields is 422, and not 403")?;
    let refused = browser.violations().await?;
    ensure!(refused.is_empty(), "htmx: {refused:#?}");

    // A form that posts, and its message.
    let field = driver.find(By::Id("new-name")).await?;
    field.send_keys("zoe").await?;
    let mail = driver.find(By::Id("mail")).await?;
    mail.clear().await?;
    mail.send_keys("zoe@example.org\u{e007}").await?;
    wait_for_async("the message of a success", async || {
        let message = driver.find(By::Css("#messages .success")).await.ok()?;
        message.text().await.ok().filter(|t| t.contains("Made zoe"))
    })
    .await?;

    judge(&browser, &format!("{base}/"), "accounts", &pictures).await?;
    for (what, script) in [
        ("menu", "document.querySelector('button.account').click()"),
        (
            "dialog",
            "document.querySelector('[commandfor=ask]').click()",
        ),
    ] {
        for (width, dark) in [(360, true), (1280, false)] {
            browser.view(width, dark).await?;
            driver.goto(&format!("{base}/")).await?;
            browser.script(script).await?;
            let open = "return document.querySelector('dialog[open], :popover-open') !== null";
            ensure!(
                browser.script(open).await? == true,
                "the {what} does not open"
            );
            browser
                .screenshot(&pictures.join(format!("{what}-{width}.png")))
                .await?;
            ensure!(browser.overflow().await? == 0, "the {what} is too wide");
            let found = browser.accessibility().await?;
            ensure!(found.is_empty(), "{what}: {found:#?}");
        }
    }

    // The check itself sees what is refused.
    browser.script("const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)").await?;
    let refused = browser.violations().await?;
    ensure!(
        refused.len() == 1 && refused[0].starts_with("script-src"),
        "{refused:?}"
    );
    shutdown.finish(Duration::from_secs(10)).await;
    Ok(())
}
