//! Backends that TLS fails with: why is told.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{
    ca::{Ca, Leaf},
    wait_for,
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use super::{CHECK, Site, Speaks};

/// The name that the route asks for.
const BACKEND: &str = "backend.example.org";

fn speaks(
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>> {
    let same = leaf.server_config()?;
    let provider = Arc::clone(same.crypto_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&same.cert_resolver));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

#[test]
fn why_tls_with_a_backend_fails_is_told() -> Result<()> {
    let site = Site::bare()?;
    let (good, other) = (
        site.ca.issue(&[BACKEND])?,
        site.ca.issue(&["b.example.org"])?,
    );
    let stranger = Ca::new()?.issue(&[BACKEND])?;
    let h2: &[&[u8]] = &[b"h2"];
    for (config, why) in [
        (
            speaks(&other, &TLS13, h2)?,
            "not valid for name \"backend.example.org\"",
        ),
        (speaks(&stranger, &TLS13, h2)?, "of no CA in backend_ca"),
        (
            speaks(&good, &TLS13, &[b"http/1.1"])?,
            "does not offer HTTP/2",
        ),
        (speaks(&good, &TLS13, &[])?, "does not offer HTTP/2"),
        (speaks(&good, &TLS12, h2)?, "does not speak TLS 1.3"),
    ] {
        let acceptor = TlsAcceptor::from(config);
        let backend = site.world.serve(move |stream| {
            let accepting = acceptor.accept(stream);
            // What becomes of it, the proxy tells.
            async move { drop(accepting.await) }
        })?;
        let route = format!("--backend {backend} {}", site.protocol(Speaks::H2));
        site.route(&route)?;
        ensure!(site.gets(1)? == ["502"], "{why}");
        wait_for(why, || {
            let log = site.world.log();
            let mut lines = log.lines().filter(|l| l.contains("a backend failed"));
            let told =
                |l: &str| l.contains(&backend.to_string()) && l.replace('\\', "").contains(why);
            lines.any(told).then_some(())
        })
        .with_context(|| site.world.log())?;
        site.route(&format!("{route} --health tcp {CHECK}"))?;
        let down = site.wait_health(backend, "down")?;
        let reason = down["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(why), "{why}: {down}");
    }
    Ok(())
}
