//! Pages: the login that all services share, and what people see of their own logins.
//!
//! They are another way to what the API does: the same gate, policy, audit log and revocations. A page is somebody's for as long as his
//! login is in the database, so that whatever ends it ends his pages too.

mod admin;
mod devices;
mod factors;
mod home;
mod login;
mod password;
mod person;
mod refusal;
mod sessions;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    response::IntoResponse as _,
    routing::{get, post},
};
use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    db,
    web::{ErrorPage, LocalPath, NavItem, Page, Script, Sessions, Site},
};
use rusqlite::Transaction;
use tonic::Code;

pub(crate) use mcdsl::web::Answer;

pub use self::admin::paths as admin_paths;
use self::refusal::Refusal;
pub(crate) use self::{
    factors::FACTORS,
    person::{MaybePerson, Person},
    refusal::failed,
};
use crate::{
    SERVICE, account,
    by::By,
    core::{Change, Mcias},
    error::Error,
    oidc::{self, Onward},
};

/// Where one logs in.
pub(crate) const LOGIN: &str = "/login";
/// Where one changes the password.
pub(crate) const PASSWORD: &str = "/password";

/// The pages, and those of OpenID Connect among them.
pub(crate) fn routes(mcias: &Arc<Mcias>, sessions: Sessions) -> Router {
    let nav = |label, path| NavItem {
        label,
        path,
        role: None,
    };
    let administration = NavItem {
        role: Some("admin"),
        ..nav("Admin", admin::HOME)
    };
    let site = Site {
        service: SERVICE,
        title: "MCIAS",
        nav: vec![
            nav("Account", "/"),
            nav("Logins", "/sessions"),
            nav("Security", FACTORS),
            administration,
        ],
        account: vec![nav("Change password", PASSWORD)],
        login: LOGIN,
        logout: "/logout",
        scripts: vec![
            Script {
                name: "passkeys.js",
                content: include_str!("../../assets/passkeys.js"),
            },
            Script {
                name: "copy.js",
                content: include_str!("../../assets/copy.js"),
            },
        ],
        sessions,
        sso: None,
    };
    let routes = Router::new()
        .route("/", get(home::show))
        .route(LOGIN, get(login::show).post(login::log_in))
        .route(login::PASSKEY, post(login::log_in_by_passkey))
        .route("/logout", post(login::log_out))
        .route("/sessions", get(sessions::show))
        .route("/sessions/end", post(sessions::end))
        .route(PASSWORD, get(password::show).post(password::change))
        .route(devices::DEVICES, get(devices::show).post(devices::answer))
        .merge(factors::routes())
        .merge(oidc::pages())
        .merge(admin::routes(mcias))
        .with_state(Arc::clone(mcias));
    mcdsl::web::wrap(site, routes)
}

/// Who asks for what a page at `action` does.
pub(crate) fn by(
    page: &Page,
    action: &'static str,
    person: Option<&Person>,
) -> Result<By, ErrorPage> {
    let source = page.source().ok_or_else(|| {
        tracing::error!("nobody knows where a request came from");
        ErrorPage::internal()
    })?;
    let identity = person.map(Person::identity);
    Ok(By::path(action, source, identity))
}

/// Characters of the longest page that leads on, with what its query has beside `next`.
const LONGEST_PAGE: usize = 64;

fn leading_to(page: &str, next: &str, more: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("{page}?next={next}{more}")
}

/// `page`?next=`next`: there, and then on.
pub(crate) fn then(page: &str, next: &str) -> LocalPath {
    LocalPath::or_home(Some(&leading_to(page, next, "")))
}

/// The login page for who is logged in, and then on.
pub(crate) fn login_again(next: &str) -> LocalPath {
    LocalPath::or_home(Some(&leading_to(LOGIN, next, "&again=1")))
}

/// Whether every page can lead on to `next`; one that cannot would lead home.
pub(crate) fn leads_on_to(next: &str) -> bool {
    let page = format!("/{}", "x".repeat(LONGEST_PAGE - 1));
    LocalPath::parse(next).is_some() && LocalPath::parse(&leading_to(&page, next, "")).is_some()
}

/// Ends a login, with what clients were given by it.
///
/// # Errors
/// If the database fails.
pub(crate) async fn end_login(
    mcias: &Arc<Mcias>,
    by: &By,
    account: String,
    login: String,
) -> Result<(), Error> {
    login::replace(mcias, by, account, login, None).await
}

/// The page, whose form may lead on to where its `next` does: to a client that sent somebody to log in.
async fn leading_on(mcias: &Arc<Mcias>, page: Page, next: &LocalPath) -> Result<Page, ErrorPage> {
    Ok(leading_to_client(mcias, page, next).await?.0)
}

/// And the name of that client; empty: it is none.
async fn leading_to_client(
    mcias: &Arc<Mcias>,
    page: Page,
    next: &LocalPath,
) -> Result<(Page, String), ErrorPage> {
    let onward = oidc::leads_to(mcias, next).await.map_err(failed)?;
    let Some(Onward {
        client,
        redirect_uri,
    }) = onward
    else {
        return Ok((page, String::new()));
    };
    // An address that the policy cannot name is none that a service may have.
    let page = page.clone().with_form_action(&redirect_uri).unwrap_or(page);
    Ok((page, client))
}

/// What somebody is told who was refused. It is written down, if what he asked for has not done so.
async fn refused(mcias: &Arc<Mcias>, by: &By, error: Error) -> Result<Refusal, ErrorPage> {
    let code = error.code();
    let refusal = Refusal::from(error);
    record(mcias, by, code, &refusal.text).await?;
    Ok(refusal)
}

/// What somebody is told who is not logged in and was refused. It is written down as long as failures are, with the account that was
/// tried if there is one: what else was typed there may be a password.
async fn refused_login(
    mcias: &Arc<Mcias>,
    by: &By,
    error: Error,
    tried: &str,
) -> Result<Refusal, ErrorPage> {
    let code = error.code();
    let refusal = Refusal::from(error);
    if by.is_recorded() {
        return Ok(refusal);
    }
    let (tried, message) = (tried.to_owned(), refusal.text.clone());
    let write = move |change: &mut Change<'_>| {
        let account = account::by_name(change.tx, &tried)?;
        change.resource = account.map_or_else(|| "(unknown)".to_owned(), |account| account.name);
        change.outcome = code;
        change.note(|detail| detail.text("message", &message));
        Ok(())
    };
    mcias.refuse(by, write).await.map_err(failed)?;
    Ok(refusal)
}

/// Writes down how something ended that no change wrote down, as the server does of methods.
async fn record(
    mcias: &Arc<Mcias>,
    by: &By,
    outcome: Code,
    message: &str,
) -> Result<(), ErrorPage> {
    if by.is_recorded() {
        return Ok(());
    }
    let who = by.who().map_err(failed)?;
    let resource = by.resource().unwrap_or(&who.name).to_owned();
    write_down(mcias, by, resource, outcome, message)
        .await
        .map_err(failed)
}

/// Writes down what no change has written down: what was refused, also of who is nobody any more.
async fn write_down(
    mcias: &Arc<Mcias>,
    by: &By,
    resource: String,
    outcome: Code,
    message: &str,
) -> Result<(), Error> {
    if !mcias.failures.admit(by.identity.as_ref(), by.source) {
        by.recorded();
        return Ok(());
    }
    let (who, detail) = (by.clone(), Detail::new().text("message", message));
    let now = mcias.now();
    let write = move |tx: &Transaction<'_>| {
        let entry = Entry {
            actor: Actor::from(who.identity.as_ref()),
            source: Some(who.source),
            action: who.action,
            resource: &resource,
            outcome,
            detail,
        };
        Ok::<_, Error>(audit::append(tx, &entry, now)?)
    };
    mcias.store.write(write).await?;
    by.recorded();
    Ok(())
}

/// To its end, whether the browser still waits or not: what is committed has to be in force and told.
pub(crate) fn to_the_end(mcias: &Arc<Mcias>, routes: Router) -> Router {
    let tasks = mcias.shutdown.tracker().clone();
    routes.layer(axum::middleware::from_fn(
        move |request, next: axum::middleware::Next| {
            let tasks = tasks.clone();
            async move {
                let done = db::to_the_end(&tasks, next.run(request)).await;
                // It panicked, which is in the log.
                done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
            }
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_nowhere_leads_home() {
        assert_eq!(
            then("/login", "/a?b=c&d").as_str(),
            "/login?next=%2Fa%3Fb%3Dc%26d"
        );
        for next in [
            format!("/{}", "x".repeat(3000)),
            format!("/{}", "%".repeat(1000)),
        ] {
            assert_eq!(then("/login", &next).as_str(), "/");
            assert_eq!(login_again(&next).as_str(), "/");
            assert!(!leads_on_to(&next));
        }
    }

    #[test]
    fn what_leads_on_does_so_by_every_page() {
        for character in ["x", "%"] {
            let longest = (0..3000).map(|n| format!("/a?b={}", character.repeat(n)));
            let longest = longest.take_while(|next| leads_on_to(next)).last().unwrap();
            assert!(longest.len() > 600, "{}", longest.len());
            assert_ne!(login_again(&longest).as_str(), "/");
            for page in [LOGIN, PASSWORD, FACTORS, devices::DEVICES] {
                assert_ne!(then(page, &longest).as_str(), "/", "{page}");
            }
        }
    }
}
