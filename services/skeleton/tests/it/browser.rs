//! The login as a person sees it, in Chromium: from the guestbook to MCIAS, another site, and back.

use anyhow::{Result, ensure};
use mc_proto::mcias::v1::{RevokeRequest, revoke_request::What};
use mc_testkit::{browser::Browser, wait_for_async};
use thirtyfour::By;

use crate::{running::PASSWORD, world::World};

async fn heading(browser: &Browser, wanted: &str) -> Result<()> {
    wait_for_async(wanted, async || {
        let heading = browser.driver().find(By::Css("h1")).await.ok()?;
        (heading.text().await.ok()? == wanted).then_some(())
    })
    .await
}

async fn log_in(browser: &Browser) -> Result<()> {
    heading(browser, "Log in").await?;
    let driver = browser.driver();
    driver
        .find(By::Id("account"))
        .await?
        .send_keys("ada")
        .await?;
    let password = driver.find(By::Id("password")).await?;
    password.send_keys(&format!("{PASSWORD}\u{e007}")).await?;
    heading(browser, "Guestbook").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_logs_in_signs_and_is_logged_out() -> Result<()> {
    let mut world = World::start().await;
    let browser = Browser::start().await?;
    let driver = browser.driver();
    let home = format!("{}/", world.url);

    driver.goto(&home).await?;
    log_in(&browser).await?;
    ensure!(driver.current_url().await?.as_str() == home);
    let text = driver.find(By::Id("text")).await?;
    text.send_keys("Was here\u{e007}").await?;
    wait_for_async("the entry", async || {
        let list = driver.find(By::Css("main ul")).await.ok()?;
        list.text()
            .await
            .ok()?
            .contains("ada: Was here")
            .then_some(())
    })
    .await?;
    for width in [360, 1280] {
        browser.view(width, width == 360).await?;
        ensure!(browser.overflow().await? == 0, "{width} is too wide");
    }
    let found = browser.accessibility().await?;
    ensure!(found.is_empty(), "{found:#?}");
    let refused = browser.violations().await?;
    ensure!(refused.is_empty(), "{refused:#?}");

    // An administrator ends it: the next click asks who it is.
    let what = Some(What::Account("ada".to_owned()));
    world
        .admin
        .accounts
        .revoke(RevokeRequest {
            what,
            ..RevokeRequest::default()
        })
        .await?;
    wait_for_async("the login page", async || {
        driver.goto(&home).await.ok()?;
        let url = driver.current_url().await.ok()?;
        url.as_str().starts_with(&world.issuer).then_some(())
    })
    .await?;
    log_in(&browser).await?;

    // Out by the menu: here and at MCIAS.
    driver
        .find(By::Css("button.account"))
        .await?
        .click()
        .await?;
    driver
        .find(By::Css("#account-menu form button"))
        .await?
        .click()
        .await?;
    heading(&browser, "Logged out").await?;
    ensure!(driver.current_url().await?.as_str() == format!("{}/logout", world.url));
    driver.goto(&home).await?;
    heading(&browser, "Log in").await?;
    ensure!(
        driver
            .current_url()
            .await?
            .as_str()
            .starts_with(&world.issuer)
    );
    Ok(())
}
