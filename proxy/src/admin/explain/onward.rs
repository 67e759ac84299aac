//! Where a connection goes once the firewall lets it pass.

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use super::{Answer, Question};
use crate::{
    admin::convert::route_out,
    control::{Control, ControlError},
    hostname::Hostname,
    http,
    listener::ListenerState,
    router::{LiveRoute, Miss},
};

impl Answer {
    /// The listener that takes the connection. Where several share the port, one that takes a PROXY header if the question
    /// has a proxy, else one that does not.
    pub(super) fn listener(
        &mut self,
        control: &Control,
        question: &Question,
    ) -> Option<ListenerState> {
        let port = question.port;
        let mut here: Vec<_> = control.listeners.list();
        here.retain(|l| l.listener.address.port() == port);
        let mut up = here.clone();
        up.retain(|l| {
            l.error.is_none() && l.listener.address.is_ipv4() == question.peer().is_ipv4()
        });
        up.sort_by_key(|l| l.listener.trusted_proxies.is_empty() == question.via.is_some());
        let Some(listener) = up.into_iter().next() else {
            self.reset("listener", no_listener(&here, port), "connection_refused");
            return None;
        };
        self.say("listener", listener.listener.address.to_string(), "");
        if control.listeners.full() {
            let most = control.config.max_connections;
            let detail = format!("all {most} connections are open: it waits until one ends");
            self.say("max-connections", detail, "waits");
        }
        Some(listener)
    }

    /// The PROXY header, and the client that it names.
    pub(super) fn proxy(
        &mut self,
        control: &Control,
        question: &Question,
        listener: &ListenerState,
    ) -> Result<bool, ControlError> {
        let (peer, client) = (question.peer(), question.address);
        let trusted = &listener.listener.trusted_proxies;
        if trusted.is_empty() {
            return Ok(match question.via {
                None => true,
                Some(_) if listener.listener.redirect.is_some() => {
                    let detail = "the listener takes no PROXY header, and reads one as broken HTTP";
                    self.say("proxy", detail, "400");
                    self.0.http_status = 400;
                    false
                }
                Some(_) => self.reset(
                    "proxy",
                    "the listener takes no PROXY header, and reads one as broken TLS",
                    "not_tls",
                ),
            });
        }
        let Some(by) = trusted.iter().find(|net| net.contains(&peer)) else {
            let from: Vec<_> = trusted.iter().map(ToString::to_string).collect();
            let detail = format!(
                "the listener takes connections from its proxies only ({}); for a client of one, give it with --via",
                from.join(", ")
            );
            return Ok(self.reset("proxy", detail, "proxy_untrusted"));
        };
        let named = match question.via {
            Some(_) => format!("its PROXY header names {client}"),
            None => "judged as a client that its PROXY header names (--via for another)".to_owned(),
        };
        self.say("proxy", format!("{peer} is trusted ({by}); {named}"), "");
        Ok(self.judge(control.firewall.explain_proxied(client, question.port)?))
    }

    /// Whether the client's source may have another connection.
    pub(super) fn share(&mut self, control: &Control, client: IpAddr) -> bool {
        let stage = "max-connections-per-source";
        let (open, most) = control.context.sources.open(client);
        let detail = format!("its source holds {open} of {most} connections");
        if open >= most {
            return self.reset(stage, detail, "max_connections_per_source");
        }
        self.say(stage, detail, "");
        true
    }

    pub(super) fn route(&mut self, control: &Control, question: &Question) {
        let Some(sni) = &question.sni else {
            let detail = "which one depends on the name asked for (--sni); without a name: reset";
            return self.say("route", detail, "");
        };
        match control.context.router.find(question.port, sni) {
            Err(miss) => {
                self.reset("route", missed(&miss, sni, question.port), miss.reason());
            }
            Ok(live) => {
                let detail = format!(
                    "{sni} is routed by {} on port {} (route {})",
                    live.route.key.hostname, live.route.key.port, live.route.id,
                );
                self.say("route", detail, "route");
                if self.room(&live) {
                    self.backend(&live);
                }
                self.0.route = Some(route_out(&live));
            }
        }
    }

    /// What a client of plain HTTP is answered.
    pub(super) fn redirect(&mut self, control: &Control, question: &Question, to: u16) {
        let stage = "redirect";
        let Some(name) = &question.sni else {
            let detail = format!(
                "plain HTTP, sent on to https on port {to}; by the name asked for (--sni): 404 for one without a route there"
            );
            return self.say(stage, detail, "");
        };
        match http::redirects(&control.context.router, to, name) {
            Ok(()) => {
                let location = http::location(name, to, "/");
                let detail = format!("plain HTTP for {name} is answered 308, to {location}");
                self.say(stage, detail, "308");
                self.0.http_status = 308;
                self.0.location = location;
            }
            Err((reason, miss)) => {
                let detail = format!("plain HTTP is answered 404: {}", missed(&miss, name, to));
                self.say(stage, detail, "404");
                self.0.http_status = 404;
                reason.clone_into(&mut self.0.reason);
            }
        }
    }

    /// The backend of the next connection. An L7 route is asked for each request, and answers 503 instead of resetting.
    fn backend(&mut self, live: &LiveRoute) {
        match live.pick(&[], u64::MAX) {
            Ok(backend) => self.say("backend", backend.address.to_string(), "route"),
            Err(none) if live.tls.is_some() => {
                let detail = "all are down (`mcproxyctl backend list`): requests are answered 503";
                self.say("backend", format!("{}: {detail}", none.reason()), "route");
            }
            Err(none) => {
                let detail = "all are down; see `mcproxyctl backend list`";
                self.reset("backend", detail, none.reason());
            }
        }
    }

    /// Whether the route takes another connection.
    fn room(&mut self, live: &LiveRoute) -> bool {
        let Some(most) = live.route.max_connections else {
            return true;
        };
        let active = live.stats.active.load(Relaxed);
        if active >= u64::from(most) {
            let detail = format!("the route is full: {active} of {most} connections are open");
            return self.reset("max-connections", detail, "max_connections");
        }
        self.say(
            "max-connections",
            format!("{active} of {most} are open"),
            "",
        );
        true
    }
}

/// Why no listener takes it, of those `here` on the port.
fn no_listener(here: &[ListenerState], port: u16) -> String {
    let each: Vec<_> = here
        .iter()
        .map(|l| match &l.error {
            Some(error) => format!("{} is not listening: {error}", l.listener.address),
            None => format!("{} is of the other family", l.listener.address),
        })
        .collect();
    if each.is_empty() {
        return format!("there is none on port {port}; unless another program listens: refused");
    }
    format!("{}; refused", each.join(", "))
}

fn missed(miss: &Miss, sni: &Hostname, port: u16) -> String {
    match miss {
        Miss::Unknown => format!("{sni} has no route on port {port}, exact or wildcard"),
        Miss::Disabled => format!("the route of {sni} on port {port} is disabled"),
        Miss::Diverged(id) => format!(
            "the kernel has route {id}, the daemon does not; `mcproxyctl maps verify --repair`"
        ),
        Miss::Table(error) => mcdsl::cli::chain(error),
    }
}
