//! No client has all of a backend's places.

use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::wait_for;

use super::{Site, Speaks, backend::Backend};
use crate::world::NODE6;

#[test]
fn one_client_leaves_places_for_others() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let backend = Backend::start(&site, Speaks::Http1)?;
    site.route(&format!("--backend {} --max-requests 8", backend.address))?;
    let status = "-o /dev/null -w %{http_code}";
    // The same machine by its other address is another client.
    let other = format!("{status} --connect-to ::[{NODE6}]:443");
    std::thread::scope(|scope| {
        // It may have as many as are free.
        let held: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| site.curl(status, "/hold")))
            .collect();
        let all = wait_for("five requests at the backend", || {
            (backend.requests() == 5).then_some(())
        });
        let greedy = site.curl(status, "/");
        let modest = site.curl(&other, "/");
        backend.mood.released.add_permits(5);
        for held in held {
            let code = held.join().expect("it does not panic")?;
            ensure!(code == "200", "of those that it may have: {code}");
        }
        all?;
        ensure!(greedy.as_ref().is_ok_and(|c| c == "503"), "{greedy:?}");
        ensure!(modest.as_ref().is_ok_and(|c| c == "200"), "{modest:?}");
        Ok(())
    })
    .with_context(|| site.world.log())?;
    ensure!(site.curl(status, "/")? == "200", "there is room again");
    let requests = backend.mood.requests.load(SeqCst);
    ensure!(requests == 7, "{requests}");
    (site.world).wait_metric("mc_proxy_errors_total", &["reason=\"client_share\""], 1.0)
}
