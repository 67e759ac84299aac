//! The pages: as people see them, in Chromium, and as programs do.

mod areas;
mod denied;
mod guard;
mod opened;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use mc_proto::METHODS;
use mc_testkit::{browser::Browser, wait_for_async};
use thirtyfour::By;

use crate::{running::PASSWORD, world::World};

const PREFIX: &str = "/metacircular.metacrypt.v1.";
/// Sends the form of a page.
const SEND: &str = "main form.card button[type=submit]";

/// A browser at Metacrypt's pages.
struct Walk<'w> {
    browser: Browser,
    world: &'w World,
    /// Where pictures go: to `MC_SCREENSHOTS`, or nowhere that stays.
    pictures: PathBuf,
}

impl<'w> Walk<'w> {
    async fn start(world: &'w World) -> Result<Self> {
        let kept = std::env::var_os("MC_SCREENSHOTS");
        Ok(Self {
            browser: Browser::start().await?,
            world,
            pictures: kept.map_or_else(|| world.root.path().to_owned(), PathBuf::from),
        })
    }

    /// In which somebody is logged in.
    async fn of(world: &'w World, account: &str) -> Result<Self> {
        let walk = Self::start(world).await?;
        walk.log_in(account).await?;
        walk.heading("Overview").await?;
        Ok(walk)
    }

    async fn log_in(&self, account: &str) -> Result<()> {
        let password = match account {
            "admin" => &*self.world.mcias.password,
            _ => PASSWORD,
        };
        self.go("/login").await?;
        self.heading("Log in").await?;
        self.fill(&[("account", account), ("password", password)])
            .await?;
        self.click("main form button[type=submit]").await
    }

    async fn heading(&self, wanted: &str) -> Result<()> {
        wait_for_async(wanted, async || {
            let heading = self.browser.driver().find(By::Css("h1")).await.ok()?;
            (heading.text().await.ok()? == wanted).then_some(())
        })
        .await
    }

    async fn go(&self, path: &str) -> Result<()> {
        let url = format!("{}{path}", self.world.url);
        Ok(self.browser.driver().goto(&url).await?)
    }

    /// A page, under its heading.
    async fn open(&self, path: &str, title: &str) -> Result<()> {
        self.go(path).await?;
        self.heading(title).await.with_context(|| path.to_owned())
    }

    async fn click(&self, selector: &str) -> Result<()> {
        let found = self.browser.driver().find(By::Css(selector)).await?;
        Ok(found.click().await?)
    }

    /// Presses what the selector finds, which leads to a page of this title.
    async fn press(&self, selector: &str, title: &str) -> Result<()> {
        self.click(selector).await?;
        self.heading(title).await
    }

    async fn fill(&self, fields: &[(&str, &str)]) -> Result<()> {
        for (id, text) in fields {
            let field = self.browser.driver().find(By::Id(*id)).await?;
            field.clear().await?;
            field.send_keys(*text).await?;
        }
        Ok(())
    }

    /// What the page says, in what the selector finds.
    async fn text(&self, selector: &str) -> Result<String> {
        let found = self.browser.driver().find(By::Css(selector)).await?;
        Ok(found.text().await?)
    }

    async fn says(&self, words: &str) -> Result<()> {
        let said = self.text("main").await?;
        ensure!(said.contains(words), "{words:?} is not in {said}");
        Ok(())
    }

    /// The address of a link.
    async fn link(&self, selector: &str) -> Result<String> {
        let found = self.browser.driver().find(By::Css(selector)).await?;
        Ok(found.attr("href").await?.unwrap_or_default())
    }

    async fn count(&self, selector: &str) -> Result<usize> {
        let found = self.browser.driver().find_all(By::Css(selector)).await?;
        Ok(found.len())
    }

    /// No page is refused anything by its policy, is wider than the screen, or keeps anybody out.
    async fn judge(&self, what: &str) -> Result<()> {
        let browser = &self.browser;
        for (width, dark) in [(360, true), (1280, false)] {
            browser.view(width, dark).await?;
            let name = format!("{what}-{width}");
            let to = self.pictures.join(format!("{name}.png"));
            browser.screenshot(&to).await?;
            ensure!(browser.overflow().await? == 0, "{name} is too wide");
            let found = browser.accessibility().await?;
            ensure!(found.is_empty(), "{name}: {found:#?}");
        }
        let refused = browser.violations().await?;
        ensure!(refused.is_empty(), "{what}: {refused:#?}");
        Ok(())
    }
}

/// Calls a method by REST as whoever's token it is: `System/CreateMount`.
fn call(world: &World, token: &str, method: &str, fields: &str) -> serde_json::Value {
    let path = format!("{PREFIX}{method}");
    let found = METHODS.iter().find(|method| method.path == path);
    let (status, body) = world.rest(token, found.unwrap(), fields);
    assert_eq!(status, 200, "{method} {fields}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A CA with the profile `web`, both SSH authorities with the profile `people`, and keys; Ada may use them, and Gil nothing.
async fn furnished() -> World {
    let world = World::open().await;
    let mut admin = world.mcias.admin().await;
    admin.person("gil", "user").await;
    let token = world.token("admin", &world.mcias.password).await;
    for (method, fields) in [
        ("System/CreateMount", r#"{"name":"pki","engine":"pki"}"#),
        ("System/CreateMount", r#"{"name":"ssh","engine":"ssh"}"#),
        (
            "System/CreateMount",
            r#"{"name":"transit","engine":"transit"}"#,
        ),
        (
            "Pki/CreateRoot",
            r#"{"mount":"pki","name":"root","key_algorithm":"CERTIFICATE_KEY_ECDSA_P384","common_name":"Example Root","organization":"Example"}"#,
        ),
        (
            "Pki/CreateIssuer",
            r#"{"mount":"pki","name":"services","under":"root","key_algorithm":"CERTIFICATE_KEY_ECDSA_P256","common_name":"Example Services","organization":"Example","constraints":{"permitted_dns":["example.org"]}}"#,
        ),
        (
            "Pki/PutProfile",
            r#"{"mount":"pki","name":"web","profile":{"issuer":"services","dns_suffixes":["example.org"],"server":true,"client":true,"key_algorithms":["CERTIFICATE_KEY_ECDSA_P256","CERTIFICATE_KEY_ED25519"],"ttl_s":"604800","max_ttl_s":"7776000"}}"#,
        ),
        (
            "Ssh/CreateCaKey",
            r#"{"mount":"ssh","ca":"user","algorithm":"SSH_CA_ALGORITHM_ED25519"}"#,
        ),
        (
            "Ssh/CreateCaKey",
            r#"{"mount":"ssh","ca":"host","algorithm":"SSH_CA_ALGORITHM_ED25519"}"#,
        ),
        (
            "Ssh/PutProfile",
            r#"{"mount":"ssh","name":"people","profile":{"kind":"SSH_KIND_USER","principals":[{"account":true},{"exact":"deploy"}],"max_ttl_s":"36000"}}"#,
        ),
        (
            "Transit/CreateKey",
            r#"{"mount":"transit","name":"backup","algorithm":"AES_256_GCM","rotate_after_s":"2592000"}"#,
        ),
        (
            "Transit/CreateKey",
            r#"{"mount":"transit","name":"releases","algorithm":"ED25519"}"#,
        ),
        (
            "System/CreateRule",
            r#"{"rule":{"name":"ada-uses-all","accounts":["ada"],"actions":["mount:read","pki:*","ssh:*","transit:*"],"resources":["**"],"comment":"for the tests of pages"}}"#,
        ),
    ] {
        call(&world, &token, method, fields);
    }
    world
}
