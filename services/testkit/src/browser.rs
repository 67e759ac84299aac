//! Pages in Debian's Chromium, driven by ChromeDriver: what a person would see, and what axe says of it.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    CapabilitiesHelper as _, ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver,
};

use crate::process::Process;

/// ChromeDriver says where it listens.
const STARTED: &str = "successfully on port ";
/// What it says when it cannot.
const PORT_TAKEN: &str = "port not available";
/// How often ChromeDriver may choose another port, and Chromium be started anew; more in a row are no chance.
const TRIES: u32 = 5;
/// Written down before a page's own scripts run.
const LISTEN: &str = "window.violations = []; document.addEventListener('securitypolicyviolation', \
     e => window.violations.push(`${e.effectiveDirective}: ${e.blockedURI} (${e.sourceFile}:${e.lineNumber})`));";

/// For axe on a busy machine.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(120);

/// A browser without a window, with a profile of its own.
pub struct Browser {
    /// Dropped first: it asks ChromeDriver to end the browser, which is in a process group of its own.
    driver: WebDriver,
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts it; certificates of no known CA are taken.
    ///
    /// # Errors
    /// If Chromium or ChromeDriver is not installed, or does not start however often it is tried.
    pub async fn start() -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::start_once().await {
                // Its first page may be replaced, or end, while ChromeDriver takes hold of it.
                Err(error) if tries < TRIES => eprintln!("try {tries}: {error:#}"),
                result => return result,
            }
            tries += 1;
        }
    }

    async fn start_once() -> Result<Self> {
        let (process, port) = chromedriver()?;
        let profile = tempfile::tempdir()?;
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary("/usr/bin/chromium")?;
        wanted.accept_insecure_certs(true)?;
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &format!("--user-data-dir={}", profile.path().display()),
        ] {
            wanted.add_arg(flag)?;
        }
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted)
            .await
            .with_context(|| process.output())?;
        driver
            .set_script_timeout(SCRIPT_TIMEOUT)
            .await
            .context("cannot set the timeout of scripts")?;
        let browser = Self {
            driver,
            _process: process,
            _profile: profile,
        };
        let listen = json!({ "source": LISTEN });
        browser
            .cdp("Page.addScriptToEvaluateOnNewDocument", listen)
            .await?;
        Ok(browser)
    }

    /// The client of WebDriver, for all else.
    #[must_use]
    pub fn driver(&self) -> &WebDriver {
        &self.driver
    }

    /// A command of Chromium's own (Chrome DevTools Protocol).
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn cdp(&self, command: &str, arguments: Value) -> Result<Value> {
        let answer = self.driver.cdp().send_raw(command, arguments).await;
        answer.with_context(|| command.to_owned())
    }

    /// A script's value.
    ///
    /// # Errors
    /// If it throws.
    pub async fn script(&self, script: &str) -> Result<Value> {
        let value = self.driver.execute(script, Vec::new()).await;
        let value = value.with_context(|| shortened(script))?;
        Ok(value.json().clone())
    }

    /// Shows pages `width` pixels wide, and in the dark or the light scheme.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn view(&self, width: u32, dark: bool) -> Result<()> {
        let phone = width < 600;
        let screen =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": phone });
        self.cdp("Emulation.setDeviceMetricsOverride", screen)
            .await?;
        let scheme = if dark { "dark" } else { "light" };
        // A picture is of what the page becomes, not of a colour on its way there.
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.cdp("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// What the page's content security policy refused since it was loaded.
    ///
    /// # Errors
    /// If the browser does not say.
    pub async fn violations(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(
            self.script("return window.violations").await?,
        )?)
    }

    /// By how many pixels the page is wider than what shows it.
    ///
    /// # Errors
    /// If the browser does not say.
    pub async fn overflow(&self) -> Result<i64> {
        let script = "const e = document.documentElement; return Math.max(e.scrollWidth, document.body.scrollWidth) - e.clientWidth";
        self.script(script).await?.as_i64().context("a number")
    }

    /// A picture of the whole page, PNG.
    ///
    /// # Errors
    /// If the browser takes none.
    pub async fn screenshot(&self, to: &Path) -> Result<()> {
        use base64::Engine as _;
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.cdp("Page.captureScreenshot", whole).await?;
        let text = picture["data"].as_str().context("a picture")?;
        fs::write(to, base64::engine::general_purpose::STANDARD.decode(text)?)?;
        Ok(())
    }

    /// What axe finds wrong with the page and calls serious or critical: rule, help and where.
    ///
    /// # Errors
    /// If axe cannot be installed by npm or does not run.
    pub async fn accessibility(&self) -> Result<Vec<String>> {
        self.script(&axe()?).await?;
        let script = "const done = arguments[arguments.length - 1]; axe.run(document, { resultTypes: ['violations'] }).then( \
             r => done({ passes: r.passes.length, found: r.violations \
                 .filter(v => v.impact === 'serious' || v.impact === 'critical') \
                 .map(v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).join('; ')}`) }), \
             e => done({ error: String(e) }))";
        let result = self.driver.execute_async(script, Vec::new()).await;
        let result = result.context("axe")?;
        let result = result.json();
        ensure!(
            result["passes"].as_u64().is_some_and(|n| n > 0),
            "axe did not run: {result}"
        );
        Ok(serde_json::from_value(result["found"].clone())?)
    }
}

/// Enough of a script to find it by.
fn shortened(script: &str) -> String {
    script.chars().take(80).collect()
}

/// Starts ChromeDriver; where it listens. It takes any port of IPv6, and ends if another has the same one of IPv4.
fn chromedriver() -> Result<(Process, u16)> {
    let mut tries = 1;
    loop {
        let mut process = Process::start(Command::new("chromedriver").arg("--port=0"))
            .context("chromedriver (Debian: chromium-driver)")?;
        match process.wait_for_output(STARTED) {
            Ok(()) => {
                let output = process.output();
                let port = output.split(STARTED).nth(1).context("a port")?;
                let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                return Ok((process, port.parse()?));
            }
            Err(_) if tries < TRIES && process.output().contains(PORT_TAKEN) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// axe-core, as the lock file has it, installed once beside what is built.
fn axe() -> Result<String> {
    let program = env::current_exe()?;
    let built = program.ancestors().nth(2).context("a build directory")?;
    let lock = include_str!("../axe/package-lock.json");
    let place = built.join("axe-core");
    let script = place.join("node_modules/axe-core/axe.min.js");
    // Tests are processes of their own: one installs, the others wait.
    let one = File::create(built.join("axe-core.lock"))?;
    one.lock()?;
    let installed = fs::read_to_string(place.join("package-lock.json"));
    if !installed.is_ok_and(|i| i == lock) || !script.exists() {
        let fresh = tempfile::tempdir_in(built)?;
        fs::write(
            fresh.path().join("package.json"),
            include_str!("../axe/package.json"),
        )?;
        fs::write(fresh.path().join("package-lock.json"), lock)?;
        let status = Command::new("npm")
            .args([
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ])
            .current_dir(fresh.path())
            .status()
            .context("npm (Debian: npm)")?;
        ensure!(status.success(), "npm cannot install axe-core");
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(fresh.keep(), &place)?;
    }
    fs::read_to_string(&script).with_context(|| script.display().to_string())
}
