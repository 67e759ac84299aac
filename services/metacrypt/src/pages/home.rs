//! The start page: whether Metacrypt is sealed, how it is opened, and what there is in it.

use askama::Template;
use axum::{
    extract::State,
    routing::{get, post},
};
use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, SealRequest, SealStatus, UnsealRequest, sealing_client::SealingClient,
};
use mcdsl::web::{CsrfField, ErrorPage, Flash, Form, LocalPath, Page};
use serde::Deserialize;

use super::{
    Answer, Table as Routes, Ui, Visitor,
    ask::Ask,
    mounts, refusal,
    shown::{Cell, Facts, Table},
};

const HOME: &str = "/";
const UNSEAL: &str = "/unseal";
const SEAL: &str = "/seal";

pub(super) fn table() -> Routes {
    vec![
        (HOME, get(show)),
        (UNSEAL, post(unseal)),
        (SEAL, get(ask).post(seal)),
    ]
}

/// Before anybody is logged in, or while it is sealed.
#[derive(Template)]
#[template(path = "sealed.html")]
struct Door {
    csrf: CsrfField,
    status: SealStatus,
    /// Somebody is logged in.
    known: bool,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Overview {
    status: SealStatus,
    facts: Facts,
    mounts: Table,
    admin: bool,
}

impl Ui {
    /// The methods of the seal, for whoever asks.
    fn sealing(&self, page: &Page) -> Result<SealingClient<mcdsl::server::Local>, ErrorPage> {
        Ok(SealingClient::new(self.api.anybody(page)?))
    }

    async fn door(&self, page: &Page) -> Result<Door, ErrorPage> {
        let status = self
            .sealing(page)?
            .get_seal_status(GetSealStatusRequest {})
            .await?;
        Ok(Door {
            csrf: page.csrf(),
            status: status.into_inner(),
            known: page.session().is_some(),
        })
    }
}

impl Door {
    fn title(&self) -> &'static str {
        match (self.status.initialized, self.status.sealed) {
            (false, _) => "Metacrypt has no seal yet",
            (true, true) => "Metacrypt is sealed",
            (true, false) => "Metacrypt",
        }
    }

    /// The numbers of the shares that it takes.
    fn shares(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.status.shares_needed
    }
}

fn facts(status: &SealStatus) -> Facts {
    let shares = match status.shares {
        0 => "none".to_owned(),
        all => format!("{} of {all} open the seal", status.shares_needed),
    };
    let recovery = match status.recovery_key {
        true => "there is one",
        false => "none",
    };
    Facts(vec![
        ("Seal", Cell::new().badge("success", "open")),
        ("Version", Cell::text(&*status.version)),
        (
            "Master key",
            Cell::text(format!("number {}", status.generation)),
        ),
        ("Recovery key", Cell::text(recovery)),
        ("Shares", Cell::text(shares)),
    ])
}

async fn show(State(ui): State<Ui>, page: Page) -> Answer {
    // Who comes by a link of another site may be somebody.
    if let Some(again) = page.once_more() {
        return Ok(again);
    }
    let door = ui.door(&page).await?;
    let who = page.session().and_then(|session| session.identity.clone());
    let Some(who) = who.filter(|_| !door.status.sealed) else {
        return page.render(door.title(), &door);
    };
    let visitor = Visitor { page, who, ui };
    let mounts = visitor.mounts("").await?;
    let overview = Overview {
        facts: facts(&door.status),
        mounts: mounts::table_of(&visitor, &mounts, false),
        admin: visitor.who.is_admin(),
        status: door.status,
    };
    visitor.page.render("Overview", &overview)
}

/// What opens it, as it was typed; the allocator overwrites it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Typed {
    password: String,
    recovery_key: String,
    share: Vec<String>,
}

async fn unseal(State(ui): State<Ui>, page: Page, Form(typed): Form<Typed>) -> Answer {
    let request = UnsealRequest {
        password: typed.password,
        recovery_key: typed.recovery_key,
        shares: typed.share,
    };
    match ui.sealing(&page)?.unseal(request).await {
        Ok(_) => {
            let open = Some(Flash::success("The seal is open."));
            page.redirect(&LocalPath::home(), open).await
        }
        Err(refused) => {
            let door = ui.door(&page).await?;
            refusal::again(page, refused, door.title(), &door)
        }
    }
}

fn question(visitor: &Visitor) -> Ask {
    let text = "Nothing can be read, issued, signed or decrypted until somebody opens it again by its password, its recovery key or its shares. What is under way ends first.";
    Ask::new(visitor, text, SEAL.to_owned(), "Seal it", HOME.to_owned())
}

/// Over the question.
const TITLE: &str = "Seal Metacrypt?";

async fn ask(visitor: Visitor) -> Answer {
    question(&visitor).show(&visitor, TITLE)
}

async fn seal(visitor: Visitor) -> Answer {
    match visitor.sealing()?.seal(SealRequest {}).await {
        Ok(_) => visitor.done(HOME, "It is sealed.").await,
        Err(refused) => question(&visitor).again(&visitor, TITLE, refused),
    }
}
