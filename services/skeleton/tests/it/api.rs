//! One definition: gRPC, REST and pages do the same, refuse the same, and are written down alike.

use std::process::Command as Program;

use mc_proto::{
    guestbook::v1::{Entry, ReadRequest, guestbook_client::GuestbookClient},
    mcias::v1::LoginRequest,
};
use mcdsl::archive;
use serde_json::{Value, json};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};

use crate::{
    running::PASSWORD,
    world::{World, command},
};

impl World {
    /// A token for the guestbook, as a tool gets one.
    async fn token(&self, account: &str) -> String {
        let request = LoginRequest {
            account: account.to_owned(),
            password: PASSWORD.to_owned(),
            service: "guestbook".to_owned(),
            ..LoginRequest::default()
        };
        let mut clients = self.mcias.clients(None).await;
        clients
            .auth
            .login(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }

    /// What curl gets: the status and the body.
    async fn curl(&self, more: &[&str], path: &str) -> (u16, String) {
        let mut command = tokio::process::Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.root.path().join("ca.pem"))
            .args(["--write-out", "\n%{http_code}"])
            .args(more)
            .arg(format!("{}{path}", self.url));
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.mcias.ca.pem()))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn entry(text: &str) -> Entry {
    Entry {
        text: text.to_owned(),
        ..Entry::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_rest_and_grpc_are_one() {
    let mut world = World::start().await;
    let (ada, gil) = (world.token("ada").await, world.token("gil").await);
    let mut grpc = GuestbookClient::new(world.channel().await);
    let signed = grpc.sign(by(&ada, entry("by gRPC"))).await.unwrap();
    assert_eq!(signed.into_inner().name, "ada");
    let bearer = format!("authorization: Bearer {ada}");
    let sent = json!({ "text": "by REST" }).to_string();
    let post = [
        "-H",
        &bearer,
        "-H",
        "content-type: application/json",
        "-d",
        &sent,
    ];
    let (status, body) = world.curl(&post, "/v1/entries").await;
    assert_eq!((status, body.contains("ada")), (200, true), "{body}");
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    world.log_in(&mut here, &mut there, "/").await;
    let done = here.submit("/", "/", &[("text", "by <page>")]).await;
    assert_eq!(done.location(), "/");
    let page = here.get("/").await;
    assert!(page.body.contains("by &#60;page&#62;"), "{}", page.body);
    assert!(page.body.contains("Signed."), "{}", page.body);

    // All see the same.
    let (status, body) = world.curl(&["-H", &bearer], "/v1/entries").await;
    let rest: Value = serde_json::from_str(&body).unwrap();
    let read = grpc
        .read(by(&ada, ReadRequest {}))
        .await
        .unwrap()
        .into_inner();
    let texts: Vec<_> = read.entries.iter().map(|entry| &*entry.text).collect();
    assert_eq!(
        (status, &*texts),
        (200, &["by <page>", "by REST", "by gRPC"][..])
    );
    let same: Vec<_> = rest["entries"].as_array().unwrap().iter().collect();
    assert!(
        same.iter()
            .zip(&texts)
            .all(|(one, text)| one["text"] == **text)
    );
    assert!(
        read.may_sign && read.why.contains("rule users-sign"),
        "{}",
        read.why
    );

    // Who may not is refused alike, and told why.
    let refused = grpc.sign(by(&gil, entry("x"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "gil may not book:sign on book");
    let others = format!("authorization: Bearer {gil}");
    let post = [
        "-H",
        &others,
        "-H",
        "content-type: application/json",
        "-d",
        &sent,
    ];
    let (status, body) = world.curl(&post, "/v1/entries").await;
    assert_eq!(
        (status, body.contains("gil may not book:sign")),
        (403, true),
        "{body}"
    );
    let (mut guest, mut there) = (world.visitor(), world.person("gil").await);
    world.log_in(&mut guest, &mut there, "/").await;
    let page = guest.get("/").await;
    assert!(page.body.contains("rule users-sign") && page.body.contains("does not match"));
    let forced = [("csrf_token", &*logout_token(&page.body)), ("text", "x")];
    let refused = guest.post("/", &forced).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("gil may not book:sign on book"));
    let long = "a".repeat(501);
    let refused = grpc.sign(by(&ada, entry(&long))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = here.submit("/", "/", &[("text", &long)]).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    // A token for another service is none here.
    let elsewhere = world.mcias.log_in("ada", PASSWORD).await.unwrap().token;
    let refused = grpc.read(by(&elsewhere, ReadRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(world.curl(&[], "/v1/entries").await.0, 401);

    // Each is in the audit log, whichever way it came.
    let db = rusqlite::Connection::open(world.root.path().join("guestbook.db")).unwrap();
    let sql = "SELECT name || ' ' || outcome FROM audit WHERE action LIKE '%/Sign' ORDER BY seq";
    let mut rows = db.prepare(sql).unwrap();
    let rows: Vec<String> = rows
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let outcomes = |who: &str| rows.iter().filter(|row| row.starts_with(who)).count();
    assert_eq!(
        (
            outcomes("ada OK"),
            outcomes("ada INV"),
            outcomes("gil PERM")
        ),
        (3, 2, 3),
        "{rows:?}"
    );

    let (status, body) = world.curl(&[], "/openapi.json").await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, document["paths"]["/v1/entries"].is_object()),
        (200, true)
    );
    assert_eq!(world.curl(&[], "/healthz").await, (200, "ok\n".to_owned()));
    operated(&mut world);
}

/// The token of a page without a form of its own.
fn logout_token(body: &str) -> String {
    let rest = body.split(r#"name="csrf_token" value=""#).nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// What its operator does.
fn operated(world: &mut World) {
    let run = |more: &[&str]| {
        let mut program: Program = command(world.root.path());
        let ended = program.args(more).output().unwrap();
        let text = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{more:?}: {text}");
        text
    };
    assert!(run(&["version"]).starts_with("guestbook "));
    assert!(run(&["status"]).contains("answers"));
    let snapshot = run(&["snapshot"]);
    let unpacked = world.root.path().join("unpacked");
    archive::read(snapshot.trim().as_ref(), &unpacked, 1 << 20).unwrap();
    let copy = rusqlite::Connection::open(unpacked.join("guestbook.db")).unwrap();
    let count = copy.query_row("SELECT count(*) FROM entry", [], |row| row.get(0));
    assert_eq!(count, Ok(3));
    assert!(
        world.guestbook.terminate().unwrap().success(),
        "{}",
        world.guestbook.output()
    );
}
