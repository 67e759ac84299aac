//! `mciasctl service`: what tokens may be for.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, prompt, write_out};
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
    /// Shows a service
    Show {
        /// The service
        name: String,
    },
    /// Adds a service, or changes the one of that name
    ///
    /// What is said of a service that there is already is added to it, and all else stays; something is taken away by --remove-… alone. A
    /// client that has not had a secret gets one, shown once.
    Put(Put),
    /// Removes a service; not while a rule names it
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
    /// One tag less; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse::tag)]
    remove_tag: Vec<String>,
    /// Where browsers may be sent after a login; compared byte for byte; repeatable
    #[arg(long, value_name = "URI", value_parser = parse::redirect_uri)]
    redirect_uri: Vec<String>,
    /// One redirect URI less; repeatable. Without any the service is no client, and its secret is void
    #[arg(long, value_name = "URI")]
    remove_redirect_uri: Vec<String>,
    /// Where browsers may be sent after a logout; repeatable
    #[arg(long, value_name = "URI", value_parser = parse::redirect_uri)]
    post_logout_redirect_uri: Vec<String>,
    /// One less; repeatable
    #[arg(long, value_name = "URI")]
    remove_post_logout_redirect_uri: Vec<String>,
    /// A program on its user's machine, which can keep no secret
    #[arg(long, conflicts_with_all = ["new_secret", "confidential"])]
    public: bool,
    /// A program that can keep a secret, as a new client is taken for
    #[arg(long)]
    confidential: bool,
    /// What it is
    #[arg(long)]
    comment: Option<String>,
    /// Makes a new client secret; the one before is void
    #[arg(long)]
    new_secret: bool,
    /// Does not ask before the client's secret becomes void
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    to: To,
}

impl Put {
    /// What is sent for a service as it is now; `None`: it is new.
    ///
    /// # Errors
    /// If something is to be taken away that it has not.
    pub(crate) fn request(&self, now: Option<pb::Service>) -> Result<pb::PutServiceRequest> {
        let now = now.unwrap_or_default();
        let lists = |option, now, add, remove| changed(&self.name, option, now, add, remove);
        let service = pb::Service {
            name: self.name.clone(),
            tags: lists("--remove-tag", now.tags, &self.tag, &self.remove_tag)?,
            redirect_uris: lists(
                "--remove-redirect-uri",
                now.redirect_uris,
                &self.redirect_uri,
                &self.remove_redirect_uri,
            )?,
            post_logout_redirect_uris: lists(
                "--remove-post-logout-redirect-uri",
                now.post_logout_redirect_uris,
                &self.post_logout_redirect_uri,
                &self.remove_post_logout_redirect_uri,
            )?,
            public_client: self.public || (now.public_client && !self.confidential),
            comment: self.comment.clone().unwrap_or(now.comment),
            // Told, not taken.
            issuer: String::new(),
        };
        Ok(pb::PutServiceRequest {
            service: Some(service),
            new_secret: self.new_secret,
        })
    }

    async fn run(&self, client: &mut Client, out: Output) -> Result {
        let now = find(client, &self.name).await?;
        let had = now.as_ref().is_some_and(has_secret);
        let request = self.request(now)?;
        let keeps = request.service.as_ref().is_some_and(has_secret);
        if had && (!keeps || self.new_secret) {
            let what = format!("the client secret of {} will be void", self.name);
            prompt::confirm(&what, self.yes)?;
        }
        let mut administration = client.administration().await?;
        let file = self.to.open()?;
        let answer = call(administration.put_service(request)).await?;
        let value = view::json("PutServiceResponse", &answer)?;
        let service = answer.service.clone().unwrap_or_default();
        let registered = format!(
            "{}{} is registered{}",
            configuration(&service),
            self.name,
            view::ended(answer.ended_logins)
        );
        if answer.client_secret.is_empty() {
            out.done(&registered, &value)?;
            return Ok(());
        }
        let notes = format!("{registered}; its client secret is new");
        let (secret, field) = (&answer.client_secret, "client_secret");
        self.to.deliver(file, secret, &notes, field, value, out)
    }
}

/// A list with some more and some less.
fn changed(
    service: &str,
    option: &str,
    now: Vec<String>,
    add: &[String],
    remove: &[String],
) -> Result<Vec<String>> {
    if let Some(none) = remove.iter().find(|less| !now.contains(less)) {
        let what = format!("{option}: {service} has no {none:?}");
        return Err(Failure::usage(what).hint(format_args!(
            "`mciasctl service show {service}` says what it has"
        )));
    }
    let mut list = now;
    list.retain(|have| !remove.contains(have));
    for more in add {
        if !list.contains(more) {
            list.push(more.clone());
        }
    }
    Ok(list)
}

fn has_secret(service: &pb::Service) -> bool {
    !service.public_client && !service.redirect_uris.is_empty()
}

async fn get(client: &mut Client, name: &str) -> Result<pb::Service> {
    let request = pb::GetServiceRequest {
        name: name.to_owned(),
    };
    call(client.administration().await?.get_service(request)).await
}

async fn find(client: &mut Client, name: &str) -> Result<Option<pb::Service>> {
    match get(client, name).await {
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        found => found.map(Some),
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::List => {
                let mut administration = client.administration().await?;
                let list = call(administration.list_services(pb::ListServicesRequest {})).await?;
                out.table(
                    &["NAME", "TAGS", "CLIENT", "REDIRECT URIS", "COMMENT"],
                    list.services.iter().map(row).collect(),
                    "no services; add one with `mciasctl service put NAME`",
                    &view::json_list("Service", &list.services)?,
                )?;
            }
            Self::Show { name } => {
                let service = get(client, name).await?;
                if out.json {
                    return Ok(out.json(&view::json("Service", &service)?)?);
                }
                write_out(&view::lines(&lines(&service)))?;
            }
            Self::Put(put) => put.run(client, out).await?,
            Self::Delete { name, yes } => {
                if !yes {
                    // Nobody is asked about what there is not.
                    get(client, name).await?;
                }
                let what = format!("{name} will be removed, and nobody can log in to it");
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteServiceRequest { name: name.clone() };
                call(client.administration().await?.delete_service(request)).await?;
                out.done(&format!("{name} was removed"), &json!({ "deleted": name }))?;
            }
        }
        Ok(())
    }
}

/// What of a client of OpenID Connect it is.
fn client_type(service: &pb::Service) -> &'static str {
    match (service.public_client, service.redirect_uris.is_empty()) {
        (true, _) => "public",
        (false, false) => "confidential",
        (false, true) => "-",
    }
}

/// What the configuration of a client needs; nothing of a service that is none.
fn client(service: &pb::Service) -> Vec<(&'static str, String)> {
    if service.issuer.is_empty() {
        return Vec::new();
    }
    let discovery = format!("{}/.well-known/openid-configuration", service.issuer);
    vec![
        ("issuer", service.issuer.clone()),
        ("client id", service.name.clone()),
        ("discovery", discovery),
    ]
}

fn configuration(service: &pb::Service) -> String {
    match view::lines(&client(service)) {
        none if none.is_empty() => none,
        lines => format!("for the configuration of {}:\n{lines}", service.name),
    }
}

pub(crate) fn lines(service: &pb::Service) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("service", service.name.clone()),
        ("tags", view::names(&service.tags)),
        ("client", client_type(service).to_owned()),
        ("redirect URIs", view::names(&service.redirect_uris)),
        (
            "after a logout",
            view::names(&service.post_logout_redirect_uris),
        ),
        ("comment", view::text(&service.comment)),
    ];
    lines.extend(client(service));
    lines
}

pub(crate) fn row(service: &pb::Service) -> Vec<String> {
    vec![
        service.name.clone(),
        view::names(&service.tags),
        client_type(service).to_owned(),
        view::names(&service.redirect_uris),
        view::text(&service.comment),
    ]
}
