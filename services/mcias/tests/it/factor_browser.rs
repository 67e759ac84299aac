//! The pages of second factors and new devices as people see them, in Chromium, with an authenticator of its own.

use anyhow::{Context as _, Result, ensure};
use mc_proto::mcias::v1::LoginRequest;
use mc_testkit::{browser::Browser, wait_for_async};
use serde_json::json;
use thirtyfour::By;

use crate::{
    browser::{Pictures, back_at_the_client, client, consent, heading, judge, type_in},
    factors::code,
    oidc_client::request,
    running::{PASSWORD, Running},
};

async fn click(browser: &Browser, selector: &str) -> Result<()> {
    let found = browser.driver().find(By::Css(selector)).await;
    Ok(found.with_context(|| selector.to_owned())?.click().await?)
}

/// Follows a link, and answers with the password.
async fn with_password(
    browser: &Browser,
    link: &str,
    picture: Option<(&str, &Pictures)>,
) -> Result<()> {
    click(browser, &format!("main a[href^='{link}']")).await?;
    wait_for_async(link, async || {
        browser
            .driver()
            .find(By::Id("password"))
            .await
            .ok()?
            .tag_name()
            .await
            .ok()
            .filter(|t| t == "input")
    })
    .await?;
    if let Some((name, pictures)) = picture {
        judge(browser, name, pictures).await?;
    }
    if let Ok(name) = browser.driver().find(By::Id("name")).await {
        name.send_keys("this desk").await?;
    }
    type_in(browser, "password", &format!("{PASSWORD}\u{e007}")).await
}

async fn says(browser: &Browser, wanted: &str) -> Result<()> {
    wait_for_async(wanted, async || {
        let main = browser.driver().find(By::Id("main")).await.ok()?;
        main.text().await.ok()?.contains(wanted).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_added_and_logs_in_to_a_client() -> Result<()> {
    // The issuer is where the browser is: the port has to be known before.
    let free = mc_testkit::port::free();
    let base = format!("https://localhost:{}", free.port());
    let running = Running::start_as(|config| {
        config.server.listen = free;
        config.token.issuer.clone_from(&base);
    })
    .await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let (home, redirect) = client(&mut admin).await?;
    let pictures = Pictures::of(&running);
    let browser = Browser::start().await?;
    let driver = browser.driver();
    browser.cdp("WebAuthn.enable", json!({})).await?;
    let options = json!({ "options": {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true,
    } });
    let made = browser
        .cdp("WebAuthn.addVirtualAuthenticator", options)
        .await?;
    let authenticator = made["authenticatorId"]
        .as_str()
        .context("an id")?
        .to_owned();
    let verifies = async |verified: bool| {
        let set = json!({ "authenticatorId": authenticator, "isUserVerified": verified });
        browser.cdp("WebAuthn.setUserVerified", set).await
    };

    driver.goto(&format!("{base}/login?next=/factors")).await?;
    type_in(&browser, "account", "ada").await?;
    type_in(&browser, "password", &format!("{PASSWORD}\u{e007}")).await?;
    heading(&browser, "Login security").await?;
    judge(&browser, "security-none", &pictures).await?;

    let picture = Some(("passkey-name", &pictures));
    with_password(&browser, "/factors/passkeys", picture).await?;
    says(&browser, "asks where to keep this desk").await?;
    verifies(false).await?;
    click(&browser, "form[data-passkey] button").await?;
    says(&browser, "No passkey was used").await?;
    judge(&browser, "passkey-create", &pictures).await?;
    verifies(true).await?;
    click(&browser, "form[data-passkey] button").await?;
    says(&browser, "The passkey this desk is added.").await?;

    with_password(&browser, "/factors/totp", None).await?;
    says(&browser, "Scan this").await?;
    judge(&browser, "totp", &pictures).await?;
    let shown = driver.find(By::Css("main code")).await?.text().await?;
    let code = code(&shown.replace(' ', ""), 0);
    type_in(&browser, "code", &format!("{code}\u{e007}")).await?;
    says(&browser, "The authenticator app is set up").await?;
    with_password(&browser, "/factors/recovery-codes", None).await?;
    heading(&browser, "Your recovery codes").await?;
    judge(&browser, "recovery-codes", &pictures).await?;
    click(&browser, "main a.button").await?;
    says(&browser, "10 left").await?;
    judge(&browser, "security", &pictures).await?;
    click(&browser, "main a[href^='/factors/passkeys/remove']").await?;
    heading(&browser, "Remove a passkey").await?;
    judge(&browser, "passkey-remove", &pictures).await?;

    // Out, and in again for a client of another site, without a name or a password.
    driver.goto(&format!("{base}/oauth/logout")).await?;
    click(&browser, "main button").await?;
    heading(&browser, "Log in").await?;
    let path = request("app", &[("redirect_uri", &redirect)]);
    let to: String =
        url::form_urlencoded::byte_serialize(format!("{base}{path}").as_bytes()).collect();
    driver.goto(&format!("{home}/?to={to}")).await?;
    click(&browser, "#go").await?;
    heading(&browser, "Log in").await?;
    judge(&browser, "login-passkey", &pictures).await?;
    verifies(false).await?;
    click(&browser, "form[data-passkey] button").await?;
    says(&browser, "No passkey was used").await?;
    verifies(true).await?;
    click(&browser, "form[data-passkey] button").await?;
    consent(&browser).await?;
    back_at_the_client(&running, &browser, &redirect).await?;

    // A program with her password logs in, from nowhere that she has been.
    let mut thief = running.clients_from("127.0.0.2", None).await;
    let codes = "SELECT count(*) FROM recovery_code";
    let left: i64 = running.database().query_row(codes, [], |row| row.get(0))?;
    ensure!(left == 10);
    running.database().execute("DELETE FROM totp", [])?;
    running.database().execute("DELETE FROM passkey", [])?;
    let stolen = LoginRequest {
        account: "ada".to_owned(),
        password: PASSWORD.to_owned(),
        device: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150"
            .to_owned(),
        ..LoginRequest::default()
    };
    let login = thief.auth.login(stolen).await?.into_inner();
    ensure!(login.new_device);
    driver.goto(&format!("{base}/")).await?;
    says(&browser, "A login from a new device").await?;
    judge(&browser, "new-device", &pictures).await?;
    driver
        .goto(&format!("{base}/devices?next=/sessions"))
        .await?;
    heading(&browser, "New devices").await?;
    judge(&browser, "devices", &pictures).await?;
    click(&browser, "main button.danger").await?;
    heading(&browser, "Change your password").await?;
    says(&browser, "choose a new one now").await?;

    // The passkey is not known any more.
    driver.goto(&format!("{base}/oauth/logout")).await?;
    click(&browser, "main button").await?;
    heading(&browser, "Log in").await?;
    click(&browser, "form[data-passkey] button").await?;
    says(&browser, "The passkey is not known here").await?;
    judge(&browser, "login-refused", &pictures).await?;
    Ok(())
}
