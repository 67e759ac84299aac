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
        "[[listeners]]\naddress='0.0.0.0:443'\ntrusted_proxies=['::ffff:192.0.2.0/120', '198.51.100.7/24', '2001:db8::/32']",
    )
    .unwrap();
    let proxies = config.seed.listeners[0].trusted_proxies.iter();
    assert_eq!(
        proxies.map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]
    );
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let route = "[[routes]]\nhostname='a.example'\nport=443\n";
    for (description, toml, wanted) in [
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
            "interface name too long",
            "[firewall]\ninterfaces=['abcdefghijklmnopq']".to_owned(),
            "firewall.interfaces",
        ),
    ] {
        let error = check(&toml).expect_err(description);
        assert!(error.contains(wanted), "{description}: {error}");
    }
}
