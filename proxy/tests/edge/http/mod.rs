//! L7 routes: real clients through TLS that ends at the proxy.

mod acks;
mod certificates;
mod changes;
mod hardening;
mod heads;
mod health;
mod interim;
mod protocols;
mod real;
mod redirects;
mod refused;
mod requests;
mod server;
mod trust;
mod tunnels;
mod uploads;
mod workers;

use anyhow::{Result, ensure};
use mc_testkit::ca::Ca;

pub(crate) use server::{Seen, Speaks};

use crate::world::{NODE, World};

const NAME: &str = "web.example.org";

/// A world with one L7 route to `addresses`.
struct Site {
    world: World,
    ca: Ca,
    backend: String,
}

impl Site {
    /// Without the route.
    fn bare() -> Result<Self> {
        Self::configured("")
    }

    fn configured(config: &str) -> Result<Self> {
        let world = World::started(config)?;
        let ca = Ca::new()?;
        std::fs::write(world.dir.path().join("ca.pem"), ca.pem())?;
        ca.issue(&[NAME])?.write(world.dir.path(), "web")?;
        Ok(Self {
            world,
            ca,
            backend: String::new(),
        })
    }

    /// With a backend that notes what it sees.
    fn recorded(options: &str) -> Result<(Self, Seen)> {
        let site = Self::bare()?;
        let (backend, seen) = site.world.recorder()?;
        site.route(&format!("--backend {backend} {options}"))?;
        Ok((site, seen))
    }

    fn new(speaks: Speaks, options: &str) -> Result<Self> {
        let mut site = Self::bare()?;
        let backend = site.world.http("one", speaks, &site.ca)?;
        site.backend = format!("--backend {backend} {}", site.protocol(speaks));
        site.add_backend(options)?;
        Ok(site)
    }

    /// Options of a route whose backends speak so.
    fn protocol(&self, speaks: Speaks) -> String {
        match speaks {
            Speaks::Http1 => String::new(),
            Speaks::H2c => " --protocol h2c".to_owned(),
            Speaks::H2 => format!(
                "--protocol h2 --backend-name backend.example.org --backend-ca {}",
                self.path("ca.pem")
            ),
        }
    }

    fn path(&self, file: &str) -> String {
        self.world.dir.path().join(file).display().to_string()
    }

    /// The route to the backend it began with, with other options.
    fn add_backend(&self, options: &str) -> Result<String> {
        self.route(&format!("{} {options}", self.backend))
    }

    fn route(&self, options: &str) -> Result<String> {
        let (certificate, key) = (self.path("web.crt"), self.path("web.key"));
        self.world.run(&format!(
            "route add {NAME} --replace --certificate {certificate} --key {key} {options}"
        ))
    }

    fn curl(&self, args: &str, path: &str) -> Result<String> {
        let ca = self.path("ca.pem");
        let line = format!(
            "-sS -m 10 --cacert {ca} --resolve {NAME}:443:{NODE} {args} https://{NAME}{path}"
        );
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = self.world.client_command("curl", &args)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "curl {line}: {output:?}\n{}",
            self.world.log()
        );
        Ok(text)
    }
}

#[test]
fn curl_speaks_both_versions_to_every_kind_of_backend() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c, Speaks::H2] {
        let site = Site::new(speaks, "")?;
        for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let got = site.curl(&format!("{version} -w %{{http_version}}"), "/")?;
            ensure!(
                got == format!("hello from one\n{shown}"),
                "{version} to {speaks:?}: {got}"
            );
            let long = site.curl(
                &format!("{version} -o /dev/null -w %{{size_download}}"),
                "/bytes/3000000",
            )?;
            ensure!(long == "3000000", "{version} to {speaks:?}: {long}");
            let data = site.path("data");
            std::fs::write(&data, vec![b'y'; 2_000_000])?;
            let sum = site.curl(&format!("{version} --data-binary @{data}"), "/sum")?;
            ensure!(sum == "2000000\n", "{version} to {speaks:?}: {sum}");
        }
    }
    Ok(())
}

#[test]
fn backends_learn_who_the_client_is_and_nothing_of_its_hop() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let got = site.curl(
        "--http1.1 -H X-Forwarded-For:1.2.3.4 -H Forwarded:for=evil -H Connection:x-secret -H X-Secret:1 -H Proxy-Connection:close \
         -H X_Forwarded_For:5.6.7.8 -H x_real_ip:5.6.7.8 -H Transfer_Encoding:evil -H x_request_id:stays",
        "/headers?q=1",
    )?;
    for wanted in [
        "HTTP/1.1 GET /headers?q=1\n",
        "host: web.example.org\n",
        "x-forwarded-for: 10.9.1.2\n",
        "x-real-ip: 10.9.1.2\n",
        "x-forwarded-proto: https\n",
        "forwarded: for=10.9.1.2;proto=https;host=web.example.org\n",
        // A name of its own, whatever is in it.
        "x_request_id: stays\n",
    ] {
        ensure!(got.contains(wanted), "{wanted:?} in {got}");
    }
    for hidden in ["x-secret", "evil", "1.2.3.4", "5.6.7.8", "proxy-connection"] {
        ensure!(!got.contains(hidden), "{hidden:?} in {got}");
    }
    Ok(())
}
