//! `mciasctl service`: what tokens may be for.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt};
use serde_json::json;

use crate::{
    Result,
    client::{Client, call},
    parse,
    token::To,
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the services
    #[command(visible_alias = "ls")]
    List,
    /// Adds a service, or replaces the one of that name as a whole; a new one gets a client secret, shown once
    Put(Put),
    /// Removes a service
    #[command(visible_alias = "rm")]
    Delete {
        /// The service
        name: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// The service
    name: String,
    /// What policies tell it by; repeatable
    #[arg(long, value_parser = parse::tag)]
    tag: Vec<String>,
    /// Where browsers may be sent after a login; compared byte for byte; repeatable
    #[arg(long, value_name = "URI", value_parser = parse::redirect_uri)]
    redirect_uri: Vec<String>,
    /// Where browsers may be sent after a logout; repeatable
    #[arg(long, value_name = "URI", value_parser = parse::redirect_uri)]
    post_logout_redirect_uri: Vec<String>,
    /// A program on its user's machine, which can keep no secret
    #[arg(long, conflicts_with = "new_secret")]
    public: bool,
    /// What it is
    #[arg(long, default_value = "")]
    comment: String,
    /// Makes a new client secret; the one before is void
    #[arg(long)]
    new_secret: bool,
    #[command(flatten)]
    to: To,
}

impl Put {
    pub(crate) fn request(&self) -> pb::PutServiceRequest {
        let service = pb::Service {
            name: self.name.clone(),
            tags: self.tag.clone(),
            redirect_uris: self.redirect_uri.clone(),
            post_logout_redirect_uris: self.post_logout_redirect_uri.clone(),
            public_client: self.public,
            comment: self.comment.clone(),
        };
        pb::PutServiceRequest {
            service: Some(service),
            new_secret: self.new_secret,
        }
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut administration = client.administration().await?;
        match self {
            Self::List => {
                let list = call(administration.list_services(pb::ListServicesRequest {})).await?;
                out.table(
                    &["NAME", "TAGS", "CLIENT", "REDIRECT URIS", "COMMENT"],
                    list.services.iter().map(row).collect(),
                    "no services; add one with `mciasctl service put NAME`",
                    &view::json_list("Service", &list.services)?,
                )?;
            }
            Self::Put(put) => {
                let file = put.to.open()?;
                let answer = call(administration.put_service(put.request())).await?;
                let value = view::json("PutServiceResponse", &answer)?;
                if answer.client_secret.is_empty() {
                    out.done(&format!("{} is registered", put.name), &value)?;
                    return Ok(());
                }
                let notes = format!("{} is registered; its client secret is new", put.name);
                let (secret, field) = (&answer.client_secret, "client_secret");
                put.to.deliver(file, secret, &notes, field, value, out)?;
            }
            Self::Delete { name, yes } => {
                let what = format!("{name} will be removed, and nobody can log in to it");
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteServiceRequest { name: name.clone() };
                call(administration.delete_service(request)).await?;
                out.done(&format!("{name} was removed"), &json!({ "deleted": name }))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn row(service: &pb::Service) -> Vec<String> {
    let client = match (service.public_client, service.redirect_uris.is_empty()) {
        (true, _) => "public",
        (false, false) => "confidential",
        (false, true) => "-",
    };
    vec![
        service.name.clone(),
        view::names(&service.tags),
        client.to_owned(),
        view::names(&service.redirect_uris),
        view::text(&service.comment),
    ]
}
