//! Pages for administrators: what the API's methods of the level ADMIN do, by the same functions.
//!
//! Who may see them is decided in one place ([`gate`]), which is around all of `/admin` and whatever may be added there. Nothing is changed
//! by GET. What cannot be taken back is asked again, on a page ([`ask`]). Secrets are in the answer to the form that made them and nowhere
//! else: no page that one can come back to has them.

mod account;
mod accounts;
mod ask;
mod audit;
mod bans;
mod failures;
mod gate;
mod rule;
mod rules;
mod service;
mod services;
mod tokens;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use askama::Template;
use axum::{
    Router, middleware,
    routing::{MethodRouter, any, get, post},
};
use mcdsl::{
    human,
    web::{ErrorPage, Flash, LocalPath, Page},
};
use url::form_urlencoded::Serializer;

pub(super) use self::gate::Admin;
use super::{Answer, Refusal, by};
use crate::{by::By, core::Mcias, error::Error, time::unix};

/// Where administration begins.
pub(super) const HOME: &str = "/admin";
/// The parts of it: path and name.
const TABS: [(&str, &str); 6] = [
    (accounts::LIST, "Accounts"),
    (rules::LIST, "Login policy"),
    (rules::EXPLAIN, "Explain"),
    (services::LIST, "Services"),
    (bans::LIST, "Bans"),
    (audit::LOG, "Audit log"),
];
/// Rows of a page.
const ROWS: usize = 50;

type Handlers = MethodRouter<Arc<Mcias>>;

/// Every page there is.
fn table() -> Vec<(&'static str, Handlers)> {
    vec![
        (HOME, get(home)),
        (accounts::LIST, get(accounts::list)),
        (accounts::NEW, get(accounts::new).post(accounts::make)),
        (account::PAGE, get(account::show)),
        (account::CHANGE, post(account::change)),
        (account::REMOVE.path, post(account::remove)),
        (account::RESET.path, post(account::reset_password)),
        (account::CLEAR.path, post(account::clear_second_factors)),
        (account::END.path, post(account::end_logins)),
        (failures::CLEAR_FAILURES, post(failures::clear)),
        (tokens::ISSUE, post(tokens::issue)),
        (tokens::ROTATE.path, post(tokens::rotate)),
        (tokens::REVOKE.path, post(tokens::revoke)),
        (rules::LIST, get(rules::list)),
        (rules::EXPLAIN, get(rules::explain)),
        (rule::EDIT, get(rule::edit).post(rule::save)),
        (rule::REMOVE.path, post(rule::remove)),
        (services::LIST, get(services::list)),
        (service::EDIT, get(service::edit).post(service::save)),
        (service::SECRET.path, post(service::new_secret)),
        (service::REMOVE.path, post(service::remove)),
        (bans::LIST, get(bans::list)),
        (bans::LIFT, post(bans::lift)),
        (audit::LOG, get(audit::log)),
        (audit::VERIFY, post(audit::verify)),
        (ask::ASK, get(ask::show)),
    ]
}

/// The paths of all pages for administrators.
pub fn paths() -> impl Iterator<Item = &'static str> {
    table().into_iter().map(|(path, _)| path)
}

/// All of `/admin`, behind its gate.
pub(super) fn routes(mcias: &Arc<Mcias>) -> Router<Arc<Mcias>> {
    let add = |routes: Router<_>, (path, handlers)| routes.route(path, handlers);
    let routes = table().into_iter().fold(Router::new(), add);
    let gate = middleware::from_fn_with_state(Arc::clone(mcias), gate::gate);
    // What is not there is nobody's business either.
    routes
        .route("/admin/", any(nowhere))
        .route("/admin/{*rest}", any(nowhere))
        .layer(gate)
}

async fn nowhere() -> ErrorPage {
    ErrorPage::not_found()
}

async fn home(page: Page) -> Answer {
    page.redirect(&local(accounts::LIST), None).await
}

/// Does what an administrator asks for. What is refused is written down as the API's refusals are.
async fn attempt<T>(
    mcias: &Arc<Mcias>,
    by: &By,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Refusal> {
    match doing.await {
        Ok(done) => Ok(done),
        Err(error) => {
            let code = error.code();
            let refusal = Refusal::from(error);
            gate::write_down(mcias, by, code, &refusal.text).await;
            Err(refusal)
        }
    }
}

/// A page with the form again, as it was filled in, and what is wrong with it.
fn again(page: Page, refusal: &Refusal, title: &str, form: &impl Template) -> Answer {
    let page = page.with(Flash::error(refusal.text.clone()));
    Ok(refusal.with(page.render(title, form)?))
}

/// To the page at `to`, which says that it is done.
async fn done(page: &Page, to: &str, text: impl Into<String>) -> Answer {
    let message = Flash::success(text);
    page.redirect(&local(to), Some(message)).await
}

/// What was done, and how many logins ended by it.
fn and_ended(text: String, logins: u64) -> String {
    match logins {
        0 => text,
        some => format!("{text} It ended {}.", human::count(some, "login")),
    }
}

/// A secret, shown once.
#[derive(Template)]
#[template(path = "admin/secret.html")]
struct Secret<'s> {
    here: &'static str,
    /// What it is: "Password".
    what: &'static str,
    value: &'s str,
    /// Whose it is, and what to do with it.
    text: String,
    /// The page to go on to, and what it is.
    to: String,
    then: String,
}

fn local(path: &str) -> LocalPath {
    LocalPath::or_home(Some(path))
}

/// `path` with a query.
fn link(path: &str, query: &[(&str, &str)]) -> String {
    let mut pairs = Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    let query = pairs.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// One entry a line, as people write lists.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// For people, to the second.
fn moment(time: SystemTime) -> String {
    let utc = human::utc(unix(time).saturating_mul(1000));
    utc.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

/// How far it is from now.
fn when(time: SystemTime, now: SystemTime) -> String {
    match time.duration_since(now) {
        Ok(left) => {
            let minutes = Duration::from_secs(left.as_secs() / 60 * 60);
            format!("in {}", human::duration_short(minutes))
        }
        Err(_) => super::sessions::ago(unix(time), now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_a_list() {
        for (description, typed, list) in [
            ("nothing", "", &[][..]),
            ("browsers' line ends", "a\r\nb\r\n", &["a", "b"]),
            ("blanks and empty lines", " a \n\n\t\n b", &["a", "b"]),
        ] {
            assert_eq!(lines(typed), list, "{description}");
        }
    }

    #[test]
    fn times_are_told_from_the_services_now() {
        let now = crate::time::at(1_000_000);
        for (passed, text) in [(3600, "in 1h"), (0, "in 0s"), (-120, "2m ago")] {
            let time = crate::time::at(1_000_000 + passed);
            assert_eq!(when(time, now), text);
        }
    }

    #[test]
    fn links_carry_what_is_said() {
        assert_eq!(link("/a", &[("b", ""), ("c", "")]), "/a");
        assert_eq!(link("/a", &[("b", "&="), ("c", "")]), "/a?b=%26%3D");
    }
}
