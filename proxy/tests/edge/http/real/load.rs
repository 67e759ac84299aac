//! h2load: many requests at once, and each is answered.

use anyhow::{Result, ensure};

use super::{NAME, Site, text};
use crate::{http::Speaks, world::NODE};

#[test]
fn h2load_gets_an_answer_to_each_request() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(speaks, "")?;
        let (to, url) = (
            format!("--connect-to={NODE}:443"),
            format!("https://{NAME}/bytes/1000"),
        );
        for version in [&["-m", "20"][..], &["--h1"]] {
            let load = ["h2load", "-n", "2000", "-c", "10", &to, &url];
            let output = site.program(60, &[&load, version].concat())?;
            let said = text(&output);
            let clean = "2000 succeeded, 0 failed, 0 errored, 0 timeout";
            ensure!(
                said.contains(clean) && said.contains("status codes: 2000 2xx"),
                "{version:?} to {speaks:?}: {said}\n{}",
                site.world.log()
            );
        }
    }
    Ok(())
}
