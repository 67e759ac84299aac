//! The smallest whole service, to begin others with: a book that people sign, by pages, gRPC and REST.

use std::process::ExitCode;

use askama::Template;
use axum::{Router, extract::State, routing::get};
use mc_proto::guestbook::v1::{guestbook_client::GuestbookClient, guestbook_server as server, *};
use mcdsl::server::{App, Caller, Local};
use mcdsl::service::{self, Base, Service};
use mcdsl::web::{self, Answer, CsrfField, Flash, Form, LocalPath, Page, Person};
use mcdsl::{audit, audit::Detail, policy::Effect, policy::PolicyError, policy::PolicySet};
use rusqlite::{Row, Transaction};
use tonic::{Request, Response, Status, async_trait, service::Routes};

const SERVICE: Service = Service {
    name: "guestbook",
    title: "Guestbook",
    version: env!("CARGO_PKG_VERSION"),
    package: "metacircular.guestbook.v1",
    migrations: &[
        audit::migration(1),
        web::migration(2),
        mcdsl::db::Migration::new(3, "entries", "CREATE TABLE entry (name TEXT, text TEXT)"),
    ],
};
const POLICY: &str = "rules = [{ name = 'users-sign', effect = 'allow', actions = ['book:sign'],
    subjects = { roles = ['admin', 'user'] }, resources = ['book'] }]";

struct Book {
    base: Base,
    policy: PolicySet,
}

#[async_trait]
impl server::Guestbook for Book {
    async fn sign(&self, request: Request<Entry>) -> Result<Response<Entry>, Status> {
        let (caller, mut entry) = (Caller::of(&request)?, request.into_inner());
        let Self { base, policy } = self;
        let allowed = policy.judge(caller.identity()?, "book:sign", &["book"])?;
        if !(1..=500).contains(&entry.text.len()) {
            return Err(Status::invalid_argument("text: 1 to 500 bytes"));
        }
        entry.name = allowed.subject().name.to_string();
        let (row, sql) = (entry.clone(), "INSERT INTO entry VALUES (?1, ?2)");
        let insert = |tx: &Transaction<'_>| tx.execute(sql, [row.name, row.text]);
        let detail = Detail::new().text("text", &entry.text);
        base.record(&caller, &allowed, detail, insert).await?;
        Ok(Response::new(entry))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Entries>, Status> {
        let (caller, Self { base, policy }) = (Caller::of(&request)?, self);
        let why = policy.explain_to(caller.identity()?, "book:sign", &["book"])?;
        let sql = "SELECT name, text FROM entry ORDER BY rowid DESC LIMIT 100";
        let entry = |row: &Row<'_>| row.try_into().map(|(name, text)| Entry { name, text });
        Ok(Response::new(Entries {
            entries: base.store.rows(sql, [], entry).await?,
            may_sign: why.decision.effect == Effect::Allow,
            why: why.to_string(),
        }))
    }
}

#[derive(Template)]
#[template(path = "guestbook.html")]
struct Shown {
    csrf: CsrfField,
    book: Entries,
}

#[derive(serde::Deserialize)]
struct Words {
    text: String,
}

async fn show(State(api): State<Local>, page: Page, _: Person) -> Answer {
    let mut api = GuestbookClient::new(api.of(&page)?);
    let (csrf, book) = (page.csrf(), api.read(ReadRequest {}).await?.into_inner());
    page.render("Guestbook", &Shown { csrf, book })
}

async fn sign(State(api): State<Local>, page: Page, Form(Words { text }): Form<Words>) -> Answer {
    let (mut api, name) = (GuestbookClient::new(api.of(&page)?), String::new());
    api.sign(Entry { name, text }).await?;
    let signed = Some(Flash::success("Signed."));
    page.redirect(&LocalPath::home(), signed).await
}

async fn start((): (), base: Base) -> Result<App, PolicyError> {
    let pages = base.pages(Vec::new(), Router::new().route("/", get(show).post(sign)));
    let policy = PolicySet::from_toml("the policy", POLICY)?;
    let (own, book) = (base.clone(), Book { base, policy });
    Ok(own.app(Routes::new(server::GuestbookServer::new(book)), pages))
}

fn main() -> ExitCode {
    service::main(&SERVICE, start)
}
