//! The seal, opened and closed by a browser.

use anyhow::{Result, ensure};

use super::{SEND, Walk};
use crate::world::{SEAL, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_opens_the_seal_and_an_administrator_closes_it() -> Result<()> {
    let (world, fresh) = World::sealed_by_all().await;
    let walk = Walk::start(&world).await?;
    let sealed = "Metacrypt is sealed";
    walk.open("/", sealed).await?;
    walk.judge("sealed").await?;
    walk.fill(&[("password", "not this one")]).await?;
    walk.click(SEND).await?;
    walk.heading(sealed).await?;
    ensure!(walk.count("[role=alert]").await? == 1, "why it was refused");
    walk.judge("sealed-refused").await?;
    // Who is logged in meanwhile is told as well.
    walk.log_in("admin").await?;
    walk.heading(sealed).await?;
    walk.open("/pki", "The service cannot do that now").await?;
    walk.says("Metacrypt is sealed").await?;
    walk.judge("sealed-page").await?;
    // By two of three shares.
    walk.open("/", sealed).await?;
    let shares = fresh.shares;
    walk.click("details:last-of-type summary").await?;
    walk.fill(&[("share-1", &**shares[0]), ("share-2", &**shares[2])])
        .await?;
    walk.press("details:last-of-type button", "Overview")
        .await?;
    walk.says("The seal is open.").await?;
    walk.judge("overview").await?;
    walk.press("main a[href='/seal']", "Seal Metacrypt?")
        .await?;
    walk.judge("seal").await?;
    walk.press(SEND, sealed).await?;
    // By the password, after the wait for the wrong one.
    world.unseal().await;
    walk.open("/", "Overview").await?;
    let rows = world.audit();
    let opened: Vec<_> = rows
        .iter()
        .filter(|(action, ..)| action.ends_with("Sealing/Unseal"))
        .map(|(_, on, outcome, _)| (&**on, &**outcome))
        .collect();
    ensure!(opened.len() == 3, "{opened:?}");
    ensure!(opened[1].1 == "OK" && opened[0].1 != "OK", "{opened:?}");
    let all = format!("{rows:?}");
    ensure!(!all.contains("not this one") && !all.contains(SEAL) && !all.contains(&**shares[0]));
    Ok(())
}
