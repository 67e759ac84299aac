//! What a daemon that begins knows of its backends.

use anyhow::{Result, ensure};

use super::{Site, Speaks};

/// Between two checks, an hour: only the first says anything.
const ONCE: &str = "--health http --health-interval 1h";

impl Site {
    fn restart(&mut self) -> Result<()> {
        self.world.daemon().terminate()?;
        self.world.start()
    }
}

#[test]
fn a_daemon_that_begins_sends_nothing_to_what_is_down() -> Result<()> {
    let mut site = Site::new(Speaks::Http1, "")?;
    let dead = "10.9.2.2:1";
    site.add_backend(&format!("--backend {dead} {ONCE}"))?;
    let spared = |site: &Site, when: &str| {
        ensure!(site.gets(10)? == ["200"; 10], "{when}");
        let told = site.health(dead.parse()?)?;
        ensure!(
            told["health"] == "down" && told["connect_failures"] == 0 && told["checks_failed"] == 1,
            "{when}: {told}"
        );
        Ok(())
    };
    site.wait_health(dead.parse()?, "down")?;
    site.restart()?;
    spared(&site, "after a restart")?;
    site.world.run("upgrade")?;
    spared(&site, "after an upgrade")
}

#[test]
fn a_backend_that_says_nothing_does_not_keep_a_daemon_from_beginning() -> Result<()> {
    let mut site = Site::new(Speaks::Http1, "")?;
    let (_listener, silent) = site.world.listen()?;
    site.add_backend(&format!("--backend {silent} {ONCE} --health-timeout 1h"))?;
    site.restart()?;
    let told = site.health(silent)?;
    ensure!(told["health"] == "unchecked", "{told}");
    let all = site.world.json(&["backend", "list"])?;
    ensure!(all.to_string().contains(r#""health":"up""#), "{all}");
    Ok(())
}
