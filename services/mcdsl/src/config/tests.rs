use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
struct Config {
    server: Server,
    #[serde(default)]
    firewall: Firewall,
    #[serde(default)]
    listeners: Vec<Listener>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Server {
    listen: SocketAddr,
    grpc_listen: Option<SocketAddr>,
    #[serde(default)]
    workers: u16,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    tag: String,
    #[serde(default, deserialize_with = "duration")]
    grace: Duration,
    #[serde(default)]
    tls: Option<Tls>,
}

fn duration<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(text)?;
    crate::human::parse_duration(&text).map_err(serde::de::Error::custom)
}

#[derive(Debug, PartialEq, Deserialize)]
struct Tls {
    cert: PathBuf,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
struct Firewall {
    #[serde(default)]
    interfaces: Vec<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    enabled: bool,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Native,
    Generic,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Listener {
    address: SocketAddr,
}

fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    load("mc-proxy", Some(&path), env)
        .map(|loaded| loaded.value)
        .map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
}

const BASE: &str = "[server]\nlisten = '127.0.0.1:1'\n";

#[test]
fn the_environment_wins_and_is_typed() {
    type Check = fn(&Config) -> bool;
    let rows: [(&str, &str, &str, Check); 16] = [
        ("an address", "SERVER_LISTEN", "[::1]:443", |c| {
            c.server.listen.port() == 443
        }),
        (
            "underscore in a key",
            "SERVER_GRPC_LISTEN",
            "127.0.0.1:9",
            |c| c.server.grpc_listen.is_some_and(|a| a.port() == 9),
        ),
        ("a number", "SERVER_WORKERS", "7", |c| c.server.workers == 7),
        ("a float", "SERVER_RATIO", "2", |c| c.server.ratio == 2.0),
        ("digits for a string", "SERVER_TAG", "443", |c| {
            c.server.tag == "443"
        }),
        ("true for a string", "SERVER_TAG", "true", |c| {
            c.server.tag == "true"
        }),
        ("a duration", "SERVER_GRACE", "10m", |c| {
            c.server.grace == Duration::from_secs(600)
        }),
        ("a section made by its key", "SERVER_TLS_CERT", "/a", |c| {
            c.server
                .tls
                .as_ref()
                .is_some_and(|t| t.cert == Path::new("/a"))
        }),
        (
            "a section as an inline table",
            "SERVER_TLS",
            "{cert = '/b'}",
            |c| {
                c.server
                    .tls
                    .as_ref()
                    .is_some_and(|t| t.cert == Path::new("/b"))
            },
        ),
        (
            "a list by commas",
            "FIREWALL_INTERFACES",
            "eth0, eth1",
            |c| c.firewall.interfaces == ["eth0", "eth1"],
        ),
        ("a TOML list", "FIREWALL_INTERFACES", "['eth0']", |c| {
            c.firewall.interfaces == ["eth0"]
        }),
        ("an empty list", "FIREWALL_INTERFACES", "", |c| {
            c.firewall.interfaces.is_empty()
        }),
        ("an enum", "FIREWALL_MODE", "generic", |c| {
            c.firewall.mode == Mode::Generic
        }),
        ("a bool", "FIREWALL_ENABLED", "true", |c| c.firewall.enabled),
        ("a flag's variable is left alone", "SOCKET", "/x", |c| {
            c.server.listen.port() == 1
        }),
        ("that of a tool too", "SERVER", "https://x:1", |c| {
            c.server.listen.port() == 1
        }),
    ];
    for (what, name, text, check) in rows {
        let config = with(
            BASE,
            &[(&format!("MC_PROXY_{name}"), text), ("HOME", "/root")],
        );
        assert!(check(config.as_ref().unwrap()), "{what}: {config:?}");
    }
}

#[test]
fn errors_say_where_and_what_was_meant() {
    type Row = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let rows: [Row; 13] = [
        (
            "misspelt key",
            "[server]\nlisten='127.0.0.1:1'\nworker=1",
            &[],
            "FILE: unknown key `worker` in [server]; did you mean workers?",
        ),
        (
            "misspelt section",
            "[servr]\nlisten='127.0.0.1:1'",
            &[],
            "FILE: unknown key `servr`; did you mean server?",
        ),
        (
            "far from any key",
            "[server]\nlisten='127.0.0.1:1'\n[server.tls]\ncert='/a'\nzebra=1",
            &[],
            "FILE: unknown key `zebra` in [server.tls]; known here: cert",
        ),
        (
            "in a list of sections",
            "[server]\nlisten='127.0.0.1:1'\n[[listeners]]\naddress='[::]:1'\nadress=1",
            &[],
            "FILE: unknown key `adress` in [listeners[0]]; did you mean address?",
        ),
        (
            "all at once",
            "[server]\nlisten='127.0.0.1:1'\nworker=1\nrato=2",
            &[],
            "FILE: unknown key `rato` in [server]; did you mean ratio?\n\
             FILE: unknown key `worker` in [server]; did you mean workers?",
        ),
        (
            "wrong type",
            "[server]\nlisten='127.0.0.1:1'\nworkers='x'",
            &[],
            "FILE: server.workers: invalid type: string \"x\", expected a whole number from 0 to 65535",
        ),
        (
            "wrong value",
            "[server]\nlisten='nonsense'",
            &[],
            "FILE: server.listen: invalid socket address syntax; write an IP address and a port, like 127.0.0.1:8443",
        ),
        (
            "missing key",
            "[server]\n",
            &[],
            "FILE: server: missing field `listen`",
        ),
        ("missing section", "", &[], "FILE: missing section [server]"),
        (
            "a scalar for a section",
            "server = 1",
            &[],
            "FILE: server: expected a section, found: integer",
        ),
        (
            "bad variable",
            BASE,
            &[("MC_PROXY_SERVER_WORKERS", "many")],
            "environment variable MC_PROXY_SERVER_WORKERS: \"many\" is not a whole number, 0 or above",
        ),
        (
            "variable out of range",
            BASE,
            &[("MC_PROXY_SERVER_WORKERS", "70000")],
            "environment variable MC_PROXY_SERVER_WORKERS: invalid value: integer `70000`, expected a whole number from 0 to 65535",
        ),
        (
            "misspelt variable",
            BASE,
            &[("MC_PROXY_SERVER_WORKRS", "1")],
            "unknown environment variable MC_PROXY_SERVER_WORKRS; did you mean MC_PROXY_SERVER_WORKERS?",
        ),
    ];
    for (what, text, env, want) in rows {
        assert_eq!(with(text, env).unwrap_err(), want, "{what}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nonexistent/mc-proxy.toml");
    let e = load::<Config>("mc-proxy", Some(path), std::iter::empty()).unwrap_err();
    assert!(e.to_string().contains("/nonexistent/mc-proxy.toml"), "{e}");
    assert!(e.to_string().contains("--config"), "{e}");
}

#[test]
fn syntax_errors_have_a_line() {
    let e = with("[server\n", &[]).unwrap_err();
    assert!(
        e.starts_with("FILE is not TOML") && e.contains("line 1"),
        "{e}"
    );
}

#[test]
fn without_a_file_the_environment_is_enough() {
    let env = [("MC_PROXY_SERVER_LISTEN".to_owned(), "[::]:5".to_owned())];
    let loaded = load::<Config>("mc-proxy", None, env.into_iter()).unwrap();
    assert_eq!(loaded.value.server.listen.port(), 5);
    assert_eq!(loaded.overrides, ["MC_PROXY_SERVER_LISTEN"]);
}

#[test]
fn port_variables() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let env = |name: &str| match name {
        "PORT" => Some("80".to_owned()),
        "PORT_REST_API" => Some("81".to_owned()),
        "PORT_BAD" => Some("x".to_owned()),
        _ => None,
    };
    let port = |name| with_port(address, name, env).map(|a| a.port());
    assert_eq!(port(None).unwrap(), 80);
    assert_eq!(port(Some("rest-api")).unwrap(), 81);
    assert_eq!(port(Some("other")).unwrap(), 1);
    assert!(
        port(Some("bad"))
            .unwrap_err()
            .to_string()
            .contains("PORT_BAD")
    );
}
