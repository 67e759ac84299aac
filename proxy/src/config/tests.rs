use super::*;

fn check(toml: &str) -> Result<Config, String> {
    let raw: Raw = toml::from_str(toml).map_err(|e| e.to_string())?;
    Config::check(raw, Path::new("mc-proxy.toml"), Path::new("/srv/mc-proxy"))
        .map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_a_whole_configuration() {
    let config = check("").unwrap();
    assert_eq!(config.admin_socket, Path::new("/srv/mc-proxy/admin.sock"));
    assert_eq!(config.client_hello_timeout, CLIENT_HELLO_TIMEOUT);
}

#[test]
fn trusted_proxies_are_canonical() {
    let config = check(
        "[[listeners]]\naddress='0.0.0.0:443'\ntrusted_proxies=['::ffff:192.0.2.0/120', '198.51.100.7', '2001:db8::/32']",
    )
    .unwrap();
    let proxies = config.seed.listeners[0].trusted_proxies.iter();
    assert_eq!(
        proxies.map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]
    );
}

const L7: &str = "[[routes]]\nhostname='a.example'\nport=443\nbackends=['1.1.1.1:1']\n[routes.l7]\ncertificate='a.pem'\nkey='a.key'\n";

#[test]
fn sizes_are_numbers_with_a_unit_or_without() {
    for (written, bytes) in [("3145728", 3 << 20), ("'3MiB'", 3 << 20), ("'7'", 7)] {
        let config = check(&format!("{L7}max_body={written}")).unwrap();
        let l7 = config.seed.routes[0].l7.as_ref().unwrap();
        assert_eq!(l7.max_body, Some(bytes), "{written}");
    }
}

#[test]
fn all_that_cannot_be_is_told_at_once() {
    let error = check(
        "[server]\nmax_connections=0\n[relay]\nidle_timeout='0s'\nmax_age='10ms'\n[metrics]\nlisten='0.0.0.0:9'\n[log]\nlevel='verbose'\n\
         [firewall]\ninterfaces=['', 'abcdefghijklmnopq']\n\
         [[listeners]]\naddress='1.1.1.1:0'\n[[listeners]]\naddress='1.1.1.1:0'\n\
         [[routes]]\nhostname='-'\nport=443\nbackends=['1.1.1.1:1']\n\
         [[routes]]\nhostname='a.example'\nport=0\nbackends=['1.1.1.1:0']\nsend_proxy=true\nengine='copy'\n\
         [routes.l7]\ncertificate='a.pem'\nkey='a.key'\nprotocol='h2'\nmax_streams=0\nretries=99\n\
         [routes.l7.health]\ncheck='tcp'\npath='x'\n\
         [[rules]]\nkind='block'\ncidr='64:ff9b::/96'",
    )
    .unwrap_err();
    let keys: Vec<&str> = error
        .lines()
        .map(|line| line.split(": ").nth(1).expect(line))
        .collect();
    let wanted = [
        "metrics.listen",
        "relay.idle_timeout",
        "relay.max_age",
        "log.level",
        "server.max_connections",
        "firewall.interfaces",
        "firewall.interfaces",
        "listeners[0].address",
        "listeners[1].address",
        "listeners[1].address",
        "routes[0].hostname",
        "routes[1].port",
        "routes[1].backends",
        "routes[1].send_proxy",
        "routes[1].engine",
        "routes[1].l7.backend_ca",
        "routes[1].l7.max_streams",
        "routes[1].l7.retries",
        "routes[1].l7.health.path",
        "routes[1].l7.health.path",
        "rules[0].cidr",
    ];
    assert_eq!(keys, wanted, "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let route = "[[routes]]\nhostname='a.example'\nport=443\n";
    for (description, toml, wanted) in [
        (
            "a size that is none",
            format!("{L7}max_body='3MB'"),
            "like 10MiB",
        ),
        (
            "a size below zero",
            format!("{L7}max_body=-1"),
            "a size like",
        ),
        (
            "a health check that is no table",
            format!("{L7}health='http'"),
            "[routes.l7.health] with check =",
        ),
        (
            "metrics off loopback",
            "[metrics]\nlisten='0.0.0.0:9'".to_owned(),
            "metrics.listen",
        ),
        (
            "zero timeout",
            "[relay]\nidle_timeout='0s'".to_owned(),
            "relay.idle_timeout",
        ),
        (
            "no backend",
            format!("{route}backends=[]"),
            "routes[0].backends",
        ),
        (
            "same backend twice",
            format!("{route}backends=['1.1.1.1:1','1.1.1.1:1']"),
            "there twice",
        ),
        (
            "port zero backend",
            format!("{route}backends=['1.1.1.1:0']"),
            "cannot be connected",
        ),
        (
            "bad name",
            "[[routes]]\nhostname='-'\nport=443\nbackends=['1.1.1.1:1']".to_owned(),
            "routes[0].hostname",
        ),
        (
            "same listener twice",
            "[[listeners]]\naddress='1.1.1.1:1'\n[[listeners]]\naddress='1.1.1.1:1'".to_owned(),
            "listeners[1]",
        ),
        (
            "a listener without a port",
            "[[listeners]]\naddress='1.1.1.1:1'\n[[listeners]]\naddress='1.1.1.1:0'".to_owned(),
            "listeners[1].address: needs a port",
        ),
        (
            "a part of a second",
            "[relay]\nidle_timeout='1500ms'".to_owned(),
            "relay.idle_timeout: must be whole seconds",
        ),
        (
            "a part of a second of a route",
            format!("{route}backends=['1.1.1.1:1']\nmax_age='10ms'"),
            "routes[0].max_age: must be whole seconds",
        ),
        (
            "no duration",
            "[relay]\nidle_timeout='ten'".to_owned(),
            "\"ten\": write a duration like 250ms, 30s, 10m or 1h30m",
        ),
        (
            "a number for a duration",
            "[relay]\nidle_timeout=10".to_owned(),
            "expected a duration like \"30s\"",
        ),
        (
            "a name for an address",
            format!("{route}backends=['b.example:1']"),
            "\"b.example:1\": write an IP address and a port, like 10.0.0.2:8443",
        ),
        (
            "host bits",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1/24'".to_owned(),
            "did you mean 192.0.2.0/24?",
        ),
        (
            "no log level",
            "[log]\nlevel='verbose'".to_owned(),
            "log.level: \"verbose\" is not a log level; write off, error",
        ),
        (
            "a relative path for pins",
            "[firewall]\npin_path='pins'".to_owned(),
            "firewall.pin_path: pins is not an absolute path",
        ),
        (
            "a path that a terminal would obey",
            format!("{L7}client_ca=\"a\\u001b[31m.pem\""),
            "l7.client_ca: \"/srv/mc-proxy/a\\u{1b}[31m.pem\" has a control character",
        ),
        (
            "interface name too long",
            "[firewall]\ninterfaces=['abcdefghijklmnopq']".to_owned(),
            "firewall.interfaces",
        ),
    ] {
        let error = check(&toml).expect_err(description);
        assert!(error.contains(wanted), "{description}: {error}");
    }
}
