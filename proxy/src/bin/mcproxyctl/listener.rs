//! `mcproxyctl listener`.

use std::net::SocketAddr;

use clap::Subcommand;
use ipnet::IpNet;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::Output;

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listens on an address
    Add(Add),
    /// Shows the listeners
    #[command(visible_alias = "ls")]
    List,
    /// Stops listening; open connections go on
    #[command(visible_alias = "rm")]
    Remove {
        /// The address as added, e.g. 0.0.0.0:443
        #[arg(value_parser = parse::listen_address)]
        address: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Address and port, e.g. 0.0.0.0:443 or [::]:443 (IPv6 only)
    #[arg(value_parser = parse::listen_address)]
    address: SocketAddr,
    /// Requires a PROXY header (v1 or v2), believed from this source only; repeatable
    #[arg(long, value_name = "CIDR", value_parser = parse::network)]
    proxy_from: Vec<IpNet>,
    /// Speaks plain HTTP and redirects to https on a port [default: 443]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "443",
        value_parser = clap::value_parser!(u16).range(1..))]
    redirect: Option<u16>,
    /// Country and rate rules do not judge this port
    #[arg(long)]
    unguarded: bool,
}

impl Add {
    pub(crate) fn request(&self) -> pb::AddListenerRequest {
        let proxy = match self.proxy_from.is_empty() {
            true => pb::ProxyProtocolIn::Off,
            false => pb::ProxyProtocolIn::Required,
        };
        pb::AddListenerRequest {
            listener: Some(pb::Listener {
                address: self.address.to_string(),
                proxy_protocol: proxy.into(),
                trusted_sources: self.proxy_from.iter().map(IpNet::to_string).collect(),
                guarded: !self.unguarded,
                redirect_port: self.redirect.map_or(0, Into::into),
                ..pb::Listener::default()
            }),
        }
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let admin = client.admin().await?;
        match self {
            Self::Add(add) => {
                let listener = call(admin.add_listener(add.request())).await?;
                let sentence = format!("listening on {}", listener.address);
                out.done(&sentence, &view::listener(&listener))?;
            }
            Self::List => {
                let list = call(admin.list_listeners(pb::ListListenersRequest {})).await?;
                let rows = list.listeners.iter().map(row).collect();
                out.table(
                    &[
                        "ADDRESS",
                        "STATE",
                        "SERVES",
                        "PROXY FROM",
                        "GUARDED",
                        "ACTIVE",
                    ],
                    rows,
                    "no listeners; add one with `mcproxyctl listener add 0.0.0.0:443`",
                    &view::list(&list.listeners, view::listener),
                )?;
            }
            Self::Remove { address } => {
                let address = address.to_string();
                let mut sentence = format!("no longer listening on {address}");
                let mut json = serde_json::json!({ "removed": address });
                let request = pb::RemoveListenerRequest {
                    address: address.clone(),
                };
                let answer = call(admin.remove_listener(request)).await?;
                if answer.routes > 0 {
                    let routes = match answer.routes {
                        1 => "1 route has".to_owned(),
                        n => format!("{n} routes have"),
                    };
                    let warning = format!("{routes} no listener on its port now");
                    sentence.push_str(&format!("\n warning: {warning}"));
                    json["warning"] = warning.into();
                }
                out.done(&sentence, &json)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn row(l: &pb::Listener) -> Vec<String> {
    let state = match (l.listening, l.error.as_str()) {
        _ if l.draining => "draining".to_owned(),
        (true, _) => "listening".to_owned(),
        (false, "") => "not listening".to_owned(),
        (false, error) => format!("failed: {error}"),
    };
    let proxies = match l.trusted_sources.as_slice() {
        [] => "-".to_owned(),
        sources => sources.join(" "),
    };
    let guarded = if l.guarded { "yes" } else { "no" };
    vec![
        l.address.clone(),
        state,
        match l.redirect_port {
            0 => "routes".to_owned(),
            port => format!("redirect to {port}"),
        },
        proxies,
        guarded.to_owned(),
        l.active_connections.to_string(),
    ]
}
