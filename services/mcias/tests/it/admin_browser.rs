//! Administration as people see it, in Chromium: an account is made, a rule, a client; and what was asked of the policy and the log.

use anyhow::{Result, ensure};
use mc_testkit::{browser::Browser, wait_for_async};
use serde_json::json;
use thirtyfour::By;

use crate::{
    browser::{Pictures, heading, judge, type_in},
    running::Running,
};

/// A browser in which the first administrator is logged in.
struct Walk {
    browser: Browser,
    base: String,
    pictures: Pictures,
}

impl Walk {
    async fn start(running: &Running) -> Result<Self> {
        let browser = Browser::start().await?;
        let base = format!("https://localhost:{}", running.handle.address().port());
        let walk = Self {
            browser,
            base,
            pictures: Pictures::of(running),
        };
        walk.open("/admin", "Log in").await?;
        type_in(&walk.browser, "account", "admin").await?;
        let password = format!("{}\u{e007}", running.password);
        type_in(&walk.browser, "password", &password).await?;
        heading(&walk.browser, "Accounts").await?;
        Ok(walk)
    }

    /// A page, under its heading.
    async fn open(&self, path: &str, title: &str) -> Result<()> {
        let url = format!("{}{path}", self.base);
        self.browser.driver().goto(&url).await?;
        heading(&self.browser, title).await
    }

    /// Presses what the selector finds, which leads to a page of this title.
    async fn press(&self, selector: &str, title: &str) -> Result<()> {
        let found = self.browser.driver().find(By::Css(selector)).await?;
        found.click().await?;
        heading(&self.browser, title).await
    }

    async fn tick(&self, selector: &str) -> Result<()> {
        let found = self.browser.driver().find(By::Css(selector)).await?;
        Ok(found.click().await?)
    }

    async fn fill(&self, fields: &[(&str, &str)]) -> Result<()> {
        for (id, text) in fields {
            type_in(&self.browser, id, text).await?;
        }
        Ok(())
    }

    /// The button beside what is shown once copies it, and says so; and where the browser refuses, that it is selected.
    async fn copies(&self, shown: &str) -> Result<()> {
        let browser = &self.browser;
        let status = async |wanted: &str| {
            wait_for_async(wanted, async || {
                let status = browser
                    .driver()
                    .find(By::Css(".actions [role=status]"))
                    .await;
                let text = status.ok()?.text().await.ok()?;
                text.contains(wanted).then_some(())
            })
            .await
        };
        let text = format!("return document.querySelector('{shown}').textContent.trim()");
        let wanted = browser.script(&text).await?;
        let allowed = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        browser.cdp("Browser.grantPermissions", allowed).await?;
        self.tick("button[data-copy]").await?;
        status("Copied.").await?;
        let copied = browser
            .script("return navigator.clipboard.readText()")
            .await?;
        ensure!(copied == wanted, "{copied} is not {wanted}");
        let refuse = "navigator.clipboard.writeText = async () => { throw new Error('no'); }";
        browser.script(refuse).await?;
        self.tick("button[data-copy]").await?;
        status("The text is selected").await?;
        let selected = browser
            .script("return String(getSelection()).trim()")
            .await?;
        ensure!(selected == wanted, "{selected} is not {wanted}");
        Ok(())
    }

    async fn judge(&self, what: &str) -> Result<()> {
        judge(&self.browser, what, &self.pictures).await
    }
}

const SEND: &str = "main form.card button[type=submit]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_made_and_has_tokens() -> Result<()> {
    let running = Running::start().await;
    let walk = Walk::start(&running).await?;
    walk.open("/admin/accounts/new", "New account").await?;
    walk.judge("admin-new-account").await?;
    walk.fill(&[("name", "ada"), ("tags", "team:operations")])
        .await?;
    walk.press(SEND, "The account is there").await?;
    walk.judge("admin-password").await?;
    walk.press("main a.button", "ada").await?;
    walk.judge("admin-account").await?;
    walk.press("main a.danger", "Remove ada?").await?;
    walk.judge("admin-ask").await?;
    walk.open("/admin/account?name=admin", "admin").await?;
    walk.tick("select#status option:nth-of-type(2)").await?;
    walk.press(SEND, "admin").await?;
    walk.judge("admin-refused").await?;
    walk.open("/admin/accounts/new", "New account").await?;
    walk.fill(&[(
        "name",
        "build-agent-with-a-very-long-name.svc.mcp.metacircular.net",
    )])
    .await?;
    walk.tick("input[value=system]").await?;
    let name = "build-agent-with-a-very-long-name.svc.mcp.metacircular.net";
    walk.press(SEND, name).await?;
    walk.fill(&[("comment", "on the first node")]).await?;
    walk.press("main form[action$=issue] button", "The token is issued")
        .await?;
    walk.judge("admin-token").await?;
    walk.copies("#secret").await?;
    walk.press("main a.button", name).await?;
    walk.judge("admin-system-account").await?;
    walk.open("/admin/accounts", "Accounts").await?;
    walk.judge("admin-accounts").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_and_a_client_are_made_and_explained() -> Result<()> {
    let running = Running::start().await;
    let walk = Walk::start(&running).await?;
    walk.open("/admin/rule", "New rule").await?;
    walk.judge("admin-new-rule").await?;
    walk.fill(&[
        ("name", "guests-in-the-office"),
        ("services", "mcias"),
        ("comment", "Guests see their own account"),
    ])
    .await?;
    walk.tick("input[value=guest]").await?;
    walk.press(SEND, "Login policy").await?;
    walk.judge("admin-rules").await?;
    walk.open(
        "/admin/explain?account=admin&service=mcias",
        "Who may log in where",
    )
    .await?;
    walk.judge("admin-explained").await?;
    walk.open("/admin/service", "New service").await?;
    walk.fill(&[
        ("name", "wiki"),
        (
            "redirect_uris",
            "https://wiki.svc.mcp.metacircular.net/oauth/callback",
        ),
        ("tags", "kind:web"),
    ])
    .await?;
    walk.press(SEND, "The client's secret").await?;
    walk.judge("admin-secret").await?;
    walk.press("main a.button", "Service wiki").await?;
    walk.judge("admin-service").await?;
    walk.open("/admin/services", "Services").await?;
    walk.judge("admin-services").await?;
    let sql = "INSERT INTO ban VALUES ('192.0.2.1/32', unixepoch() + 3600, 1, ''),
        ('2001:db8:1234:5678::/64', unixepoch() + 80000, 12, '')";
    running.database().execute(sql, [])?;
    walk.open("/admin/bans", "Bans").await?;
    walk.judge("admin-bans").await?;
    walk.press("main td button", "Bans").await?;
    walk.judge("admin-ban-lifted").await?;
    walk.open("/admin/audit", "Audit log").await?;
    walk.judge("admin-audit").await?;
    walk.press("main .bar button", "The audit log verified")
        .await?;
    walk.judge("admin-verified").await
}
