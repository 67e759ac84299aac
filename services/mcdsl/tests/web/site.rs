//! A small service: it believes everybody's name, and has one of everything that pages are made of.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use askama::Template;
use axum::{
    Extension, Router,
    response::Response,
    routing::{get, post},
};
use mcdsl::{
    clock::Clock,
    db::{Migration, Store},
    server::Source,
    web::{
        self, CsrfField, CurrentSession, ErrorPage, Flash, Form, Limits, LocalPath, NavItem,
        NewSession, Page, SESSIONS_SQL, Sessions, Site,
    },
};
use serde::Deserialize;

type Answer = Result<Response, ErrorPage>;

/// The cookie of its sessions.
pub(crate) const COOKIE: &str = "__Host-sample";

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<form class="card narrow" method="post" action="/login?next={{ next|urlencode }}">
{{ csrf }}
<div class="field"><label for="name">Name</label><input id="name" name="name" autocomplete="username" required></div>
<div class="field"><label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" aria-describedby="hint"><p class="hint" id="hint">Anything will do here.</p></div>
<button type="submit">Log in</button>
</form>"#
)]
struct Login<'a> {
    csrf: CsrfField,
    next: &'a str,
}

#[derive(Template)]
#[template(path = "../tests/web/gallery.html")]
struct Gallery<'a> {
    csrf: CsrfField,
    text: &'a str,
}

#[derive(Template)]
#[template(ext = "html", source = "<p>{{ text }}</p>")]
struct Text<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    #[serde(default)]
    roles: Vec<String>,
}

async fn login(page: Page) -> Answer {
    let (csrf, next) = (page.csrf(), page.next());
    let next = next.as_str();
    page.render("Log in", &Login { csrf, next })
}

fn new_session(name: String) -> NewSession {
    let mut roles = vec!["user".to_owned()];
    if name == "admin" {
        roles.push("admin".into());
    }
    NewSession {
        account: format!("id-of-{name}"),
        name,
        roles,
        data: serde_json::json!({ "kept": true }),
        flash: None,
    }
}

async fn do_login(page: Page, Form(form): Form<Credentials>) -> Answer {
    let next = page.next();
    page.log_in(new_session(form.name), &next).await
}

async fn logout(page: Page) -> Answer {
    page.log_out(&LocalPath::home()).await
}

async fn home(page: Page, CurrentSession(session): CurrentSession) -> Answer {
    let text = &session.name;
    let csrf = page.csrf();
    page.render("Accounts", &Gallery { csrf, text })
}

async fn create(page: Page, _: CurrentSession, Form(form): Form<Account>) -> Answer {
    let text = format!("Made {} with roles {:?}.", form.name, form.roles);
    let home = LocalPath::home();
    page.redirect(&home, Some(Flash::success(text))).await
}

async fn admin(page: Page, CurrentSession(session): CurrentSession) -> Answer {
    session.require_role("admin")?;
    page.render("Administration", &Text { text: "secret" })
}

async fn fail(page: Page, _: CurrentSession) -> Answer {
    let failed = Flash::error("Failed.");
    page.redirect(&LocalPath::home(), Some(failed)).await
}

/// Whoever asks is an administrator by now.
async fn promoted(page: Page, _: CurrentSession) -> Answer {
    page.has_roles(&["admin".to_owned()]);
    page.render("Promoted", &Text { text: "now" })
}

async fn who(page: Page) -> Answer {
    let text = page.session().map_or("nobody".into(), |s| {
        let source = s.source.map(|source| source.to_string());
        format!("{} {source:?} {}", s.name, s.data["kept"])
    });
    page.fragment(&Text { text: &text })
}

async fn elsewhere(page: Page) -> Answer {
    page.log_in_elsewhere("https://idp.example/authorize?x=1", &("state", 7))
}

async fn callback(page: Page) -> Answer {
    let state: Option<(String, u8)> = page.login_state();
    match state {
        Some((_, 7)) => {
            page.log_in(new_session("ann".into()), &LocalPath::home())
                .await
        }
        _ => Err(ErrorPage::bad_request("The login was not begun here.")),
    }
}

async fn consent(page: Page) -> Answer {
    let page = page.with(Flash::notice("Think twice."));
    let page = page.with_form_action("https://client.example/callback?x=1");
    let page = page.map_err(|e| ErrorPage::bad_request(e.to_string()))?;
    page.render("Consent", &Text { text: "May it?" })
}

/// The sessions in a database of `directory`, as after a restart.
pub(crate) fn sessions(directory: &Path, limits: Limits) -> Sessions {
    sessions_by(Clock::default(), directory, limits)
}

/// The same, by a clock.
pub(crate) fn sessions_by(clock: Clock, directory: &Path, limits: Limits) -> Sessions {
    let migration = Migration {
        version: 1,
        name: "sessions",
        sql: SESSIONS_SQL,
    };
    let store = Store::open(&directory.join("sample.db"), &[migration]).expect("a database");
    Sessions::by(clock, store, limits)
}

/// The service's pages.
pub(crate) fn site(sessions: Sessions) -> Router {
    let nav = |label, path, role| NavItem { label, path, role };
    let site = Site {
        service: "sample",
        title: "Sample",
        nav: vec![
            nav("Accounts", "/", None),
            nav("Policies", "/policies", None),
            nav("Audit", "/audit", None),
            nav("Administration", "/admin", Some("admin")),
        ],
        account: vec![nav("Your sessions", "/who", None)],
        login: "/login",
        logout: "/logout",
        scripts: vec![web::Script {
            name: "sample.js",
            content: "document.body.dataset.script = 'ran';",
        }],
        sessions,
        sso: None,
    };
    let routes = Router::new()
        .route("/login", get(login).post(do_login))
        .route("/logout", post(logout))
        .route("/", get(home))
        .route("/accounts", post(create).delete(create))
        .route("/admin", get(admin))
        .route("/promoted", get(promoted))
        .route("/who", get(who))
        .route("/fail", get(fail))
        .route("/echo", post(async |body: String| body))
        .route("/elsewhere", get(elsewhere))
        .route("/callback", get(callback))
        .route("/consent", get(consent))
        .route(
            "/busy",
            get(async || ErrorPage::too_many(Duration::from_secs(7))),
        )
        .route("/panic", get(async || -> String { panic!("on purpose") }))
        .route(
            "/json",
            get(async || ([("content-type", "application/json")], "{}")),
        );
    web::wrap(site, routes)
}

/// With a database of its own, as asked from one address.
pub(crate) fn fresh() -> (tempfile::TempDir, Sessions, Router) {
    let directory = tempfile::tempdir().expect("a directory");
    let sessions = sessions(directory.path(), Limits::default());
    let source = Source(Ipv4Addr::new(192, 0, 2, 7).into());
    let router = site(sessions.clone()).layer(Extension(source));
    (directory, sessions, router)
}
