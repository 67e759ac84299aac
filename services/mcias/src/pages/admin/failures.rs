//! Failed logins of an account: how they are told on its page, and forgetting them.

use std::{sync::Arc, time::SystemTime};

use axum::extract::State;
use mcdsl::web::{Form, Page};

use super::{
    Admin, Answer,
    account::{Filled, Named, PAGE, refused},
    attempt, done, link, moment, when,
};
use crate::{core::Mcias, gate::Failures};

/// Where they are forgotten.
pub(super) const CLEAR_FAILURES: &str = "/admin/account/clear-failures";

/// Those from one place.
pub(super) fn line(failed: &Failures, now: SystemTime) -> String {
    let place = match &failed.network {
        Some(network) => network,
        None => "networks that it is not used from",
    };
    let (count, last) = (failed.failures, when(failed.last, now));
    let then = match failed.closed_until {
        Some(until) => format!("closed from there until {}", moment(until)),
        None => "open again".to_owned(),
    };
    format!("{count} from {place}, the last {last}; {then}")
}

pub(super) async fn clear(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(Named { name }): Form<Named>,
) -> Answer {
    let by = admin.by(&page, CLEAR_FAILURES)?;
    match attempt(&mcias, &by, mcias.clear_failed_logins(&by, name.clone())).await {
        Ok(_) => {
            let to = link(PAGE, &[("name", &name)]);
            done(&page, &to, "The failed logins are forgotten.").await
        }
        Err(refusal) => refused(&mcias, page, &admin, name, Filled::default(), &refusal).await,
    }
}
