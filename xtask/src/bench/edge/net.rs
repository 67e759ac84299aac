//! client - node - server. The client reaches the node over three links, so that firewalls stand beside one another in one
//! run: a plain one, one for mc-proxy's firewall, one for xdp-filter.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use mc_testkit::netns::{End, Namespace, veth};

/// The node's address on the link without XDP.
pub(super) const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The node's address on the link that mc-proxy's firewall is for.
pub(super) const FIREWALL: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
/// That link's interface on the node.
pub(super) const FIREWALL_INTERFACE: &str = "n1";
/// The node's address on the link that xdp-filter is for.
pub(super) const XDP_FILTER: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);
/// That link's interface on the node.
pub(super) const XDP_FILTER_INTERFACE: &str = "n2";
/// Server addresses: several, so that a relay never runs short of source ports.
const BACKENDS: u8 = 4;
/// Port of each.
const BACKEND_PORT: u16 = 8443;

/// The three namespaces.
pub(super) struct Net {
    pub(super) client: Namespace,
    pub(super) node: Namespace,
    pub(super) server: Namespace,
}

impl Net {
    pub(super) fn new() -> Result<Self> {
        let net = Self {
            client: Namespace::new("client")?,
            node: Namespace::new("node")?,
            server: Namespace::new("server")?,
        };
        let links = [
            ("c0", "n0", PLAIN),
            ("c1", FIREWALL_INTERFACE, FIREWALL),
            ("c2", XDP_FILTER_INTERFACE, XDP_FILTER),
        ];
        for (client, node, address) in links {
            let [a, b, c, _] = address.octets();
            net.link(
                (&net.client, client, &[format!("{a}.{b}.{c}.2/24")]),
                node,
                address,
            )?;
        }
        let servers: Vec<String> = backends()
            .iter()
            .map(|backend| format!("{}/24", backend.ip()))
            .collect();
        net.link(
            (&net.server, "s0", &servers),
            "n8",
            Ipv4Addr::new(10, 77, 8, 1),
        )?;
        for namespace in [&net.client, &net.node, &net.server] {
            namespace
                .run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"))??;
        }
        Ok(net)
    }

    fn link(
        &self,
        far: (&Namespace, &str, &[String]),
        near: &str,
        address: Ipv4Addr,
    ) -> Result<()> {
        let far_addresses: Vec<&str> = far.2.iter().map(String::as_str).collect();
        let far = End {
            namespace: far.0,
            interface: far.1,
            addresses: &far_addresses,
        };
        let near = End {
            namespace: &self.node,
            interface: near,
            addresses: &[&format!("{address}/24")],
        };
        veth(far, near)
    }
}

/// Where the backend listens.
pub(super) fn backends() -> Vec<SocketAddr> {
    (0..BACKENDS)
        .map(|i| ([10, 77, 8, 11 + i], BACKEND_PORT).into())
        .collect()
}
