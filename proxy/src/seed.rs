//! The configuration's listeners, routes and rules: they fill an empty database once. After that the database
//! rules, and what differs is told, not applied.

use crate::{
    config::Seed,
    spec::{CountryPolicy, RateLimits},
    store::State,
};

/// What a first start writes.
pub(crate) fn state(seed: &Seed) -> State {
    State {
        listeners: seed.listeners.clone(),
        routes: seed.routes.clone(),
        rules: seed.rules.clone(),
        countries: CountryPolicy::default(),
        rates: RateLimits::default(),
    }
}

/// One sentence for each entry of the configuration that the database does not hold as written.
pub(crate) fn differences(seed: &Seed, state: &State) -> Vec<String> {
    let mut told = Vec::new();
    for wanted in &seed.listeners {
        let stored = state
            .listeners
            .iter()
            .find(|l| l.address == wanted.address)
            .cloned();
        let same = stored.map(|s| crate::spec::Listener { id: wanted.id, ..s } == *wanted);
        told.extend(sentence(
            same,
            &format!("listener {}", wanted.address),
            "listener",
        ));
    }
    for wanted in &seed.routes {
        let stored = state.routes.iter().find(|r| r.key == wanted.key).cloned();
        let same = stored.map(|s| crate::spec::Route { id: wanted.id, ..s } == *wanted);
        let name = format!("route {} port {}", wanted.key.hostname, wanted.key.port);
        told.extend(sentence(same, &name, "route"));
    }
    for wanted in &seed.rules {
        let stored = state
            .rules
            .iter()
            .find(|r| (r.kind, r.cidr) == (wanted.kind, wanted.cidr));
        let same = stored.map(|s| s.action == wanted.action && s.comment == wanted.comment);
        told.extend(sentence(
            same,
            &format!("rule {} {}", wanted.kind.name(), wanted.cidr),
            "firewall",
        ));
    }
    told
}

fn sentence(same: Option<bool>, name: &str, command: &str) -> Option<String> {
    let how = match same {
        Some(true) => return None,
        Some(false) => "is another in the database",
        None => "is not in the database",
    };
    Some(format!(
        "config: {name} {how}; the config only seeds an empty database: use `mcproxyctl {command}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Listener;

    #[test]
    fn what_differs_is_told_once() {
        let listener = |port: u16, guarded| Listener {
            id: 0,
            address: ([127, 0, 0, 1], port).into(),
            trusted_proxies: Vec::new(),
            redirect: None,
            guarded,
        };
        let seed = Seed {
            listeners: vec![listener(1, true), listener(2, true), listener(3, true)],
            ..Seed::default()
        };
        let mut stored = state(&seed);
        stored.listeners[0].id = 7;
        stored.listeners[1].guarded = false;
        stored.listeners.remove(2);
        let told = differences(&seed, &stored);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("127.0.0.1:2 is another") && told[1].contains("127.0.0.1:3 is not in"),
            "{told:?}"
        );
    }
}
