//! What of a configuration only shows on the machine: files, interfaces, the place of the pins. A daemon starts without most of it,
//! serves what it can and says so; whoever asks beforehand wants to know.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{
    bans,
    config::{Config, Seed},
    control,
    geoip::reader,
    http::Tls,
    kernel,
};

/// Everything that is wrong, by key.
#[must_use]
pub fn problems(config: &Config) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    problems.extend(pins(&config.pin_path).map(|e| format!("firewall.pin_path: {e}")));
    for interface in &config.interfaces {
        let problem = match kernel::index(interface) {
            None => format!("there is no interface {interface}; `ip link` lists them"),
            Some(index) => match kernel::check_frames(interface, index) {
                Err(error) => mcdsl::cli::chain(&error),
                Ok(()) => continue,
            },
        };
        problems.push(format!("firewall.interfaces: {problem}"));
    }
    if let Some(path) = &config.geoip
        && let Err(error) = reader::read(path)
    {
        problems.push(format!("geoip.database: {}", mcdsl::cli::chain(&error)));
    }
    if let Some(mcias) = &config.mcias
        && let Err(error) = bans::check(mcias)
    {
        problems.push(mcdsl::cli::chain(&error));
    }
    let listeners = config.seed.listeners.iter().enumerate();
    let mut addresses: Vec<(String, SocketAddr)> = listeners
        .map(|(i, l)| (format!("listeners[{i}].address"), l.address))
        .collect();
    addresses.extend(config.metrics.map(|m| ("metrics.listen".to_owned(), m)));
    problems.extend(collisions(&addresses));
    for (i, route) in config.seed.routes.iter().enumerate() {
        if let Some(l7) = &route.l7
            && let Err(error) = Tls::default().load(l7, &route.key.hostname)
        {
            let error = mcdsl::cli::chain(&error);
            // Of the file that it is about, if it is about one.
            let names = |(_, path): &(&str, &PathBuf)| error.contains(&*path.to_string_lossy());
            let file = l7
                .files()
                .filter(names)
                .max_by_key(|(_, path)| path.as_os_str().len());
            let key = file.map(|(key, _)| format!(".{key}")).unwrap_or_default();
            problems.push(format!("routes[{i}].l7{key}: {error}"));
        }
    }
    problems.extend(unserved(&config.seed));
    problems.extend(control::own_backends(
        &config.seed.routes,
        &config.seed.listeners,
    ));
    problems
}

/// Routes that nobody can come by, once the database is made of the file.
fn unserved(seed: &Seed) -> Vec<String> {
    let serves = |port| {
        let mut listeners = seed.listeners.iter();
        listeners.any(|l| l.address.port() == port && l.redirect.is_none())
    };
    let routes = seed.routes.iter().enumerate();
    let told = routes.filter(|(_, route)| !serves(route.key.port));
    told.map(|(i, route)| {
        let port = route.key.port;
        format!(
            "routes[{i}].port: no listener is on port {port}; add [[listeners]] with address = \"0.0.0.0:{port}\""
        )
    })
    .collect()
}

/// Addresses that cannot both be listened on: the unspecified one holds all of its family. Families do not meet, since IPv6 listeners take
/// IPv6 alone.
fn collisions(addresses: &[(String, SocketAddr)]) -> Vec<String> {
    let collide = |a: SocketAddr, b: SocketAddr| {
        let (x, y) = (a.ip(), b.ip());
        a.port() == b.port()
            && a.port() != 0
            && x.is_ipv4() == y.is_ipv4()
            && (x == y || x.is_unspecified() || y.is_unspecified())
    };
    let each = addresses.iter().enumerate().filter_map(|(i, (key, a))| {
        let (_, b) = addresses[..i].iter().find(|(_, b)| collide(*a, *b))?;
        Some(format!("{key}: {a} and {b} cannot both be listened on"))
    });
    each.collect()
}

/// What keeps maps from being pinned there.
fn pins(path: &Path) -> Option<String> {
    let at = path.display();
    let mut below = path;
    let found = loop {
        match statfs(below) {
            // bpffs refuses to look for a name with a dot.
            Err(Errno::ENOENT | Errno::EPERM) => below = below.parent()?,
            found => break found,
        }
    };
    match found {
        Ok(found) if found.filesystem_type() != BPF_FS_MAGIC => Some(format!(
            "{at} is not on a BPF file system; mount one (`mount -t bpf bpf /sys/fs/bpf`) and name a directory of it, like \
             {}",
            crate::config::PIN_PATH
        )),
        Ok(_)
            if path
                .strip_prefix(below)
                .is_ok_and(|p| p.to_string_lossy().contains('.')) =>
        {
            Some(format!("{at}: a BPF file system takes no names with a dot"))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{at} cannot be looked at: {}", error.desc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_collide_are_told() {
        for (addresses, wanted) in [
            (["10.9.9.9:443", "0.0.0.0:443"], true),
            (["0.0.0.0:443", "10.9.9.9:443"], true),
            (["[::]:443", "[fd00::1]:443"], true),
            (["127.0.0.1:443", "127.0.0.1:443"], true),
            (["0.0.0.0:443", "[::]:443"], false),
            (["10.9.9.9:443", "10.9.9.8:443"], false),
            (["10.9.9.9:443", "0.0.0.0:444"], false),
        ] {
            let keyed = addresses.map(|a| ("key".to_owned(), a.parse().unwrap()));
            let found = collisions(&keyed);
            assert_eq!(!found.is_empty(), wanted, "{addresses:?}: {found:?}");
        }
    }

    #[test]
    fn pins_need_a_bpf_file_system() {
        for (path, wanted) in [
            ("/sys/fs/bpf/mc-proxy", None),
            ("/tmp/pins", Some("not on a BPF file system")),
            ("/nowhere/at/all", Some("not on a BPF file system")),
            ("/sys/fs/bpf/mc.proxy", Some("no names with a dot")),
        ] {
            let found = pins(Path::new(path));
            match (&found, wanted) {
                (None, None) => {}
                (Some(found), Some(wanted)) if found.contains(wanted) => {}
                _ => panic!("{path}: {found:?}"),
            }
        }
    }
}
