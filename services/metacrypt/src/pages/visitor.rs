//! Who is at a page behind the seal, and the API as his.

use axum::{extract::FromRequestParts, http::request::Parts};
use mc_proto::metacrypt::v1::{
    ListMountsRequest, Mount, audit_log_client::AuditLogClient, pki_client::PkiClient,
    sealing_client::SealingClient, ssh_client::SshClient, system_client::SystemClient,
    transit_client::TransitClient,
};
use mcdsl::{
    auth::Identity,
    policy::{ResourceName, Subject},
    server::Local,
    web::{CsrfField, ErrorPage, Flash, LocalPath, Page, Person},
};

use super::{Answer, Ui};
use crate::{engine::Act, policy};

/// One who is logged in, on a page.
pub(super) struct Visitor {
    pub(super) page: Page,
    pub(super) who: Identity,
    pub(super) ui: Ui,
}

impl FromRequestParts<Ui> for Visitor {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, ui: &Ui) -> Result<Self, Self::Rejection> {
        let Person(who) = Person::from_request_parts(parts, ui).await?;
        let page = Page::from_request_parts(parts, ui).await;
        Ok(Self {
            page: page.unwrap_or_else(|never| match never {}),
            who,
            ui: ui.clone(),
        })
    }
}

impl Visitor {
    fn api(&self) -> Result<Local, ErrorPage> {
        self.ui.api.of(&self.page)
    }

    pub(super) fn sealing(&self) -> Result<SealingClient<Local>, ErrorPage> {
        Ok(SealingClient::new(self.api()?))
    }

    pub(super) fn system(&self) -> Result<SystemClient<Local>, ErrorPage> {
        Ok(SystemClient::new(self.api()?))
    }

    pub(super) fn pki(&self) -> Result<PkiClient<Local>, ErrorPage> {
        Ok(PkiClient::new(self.api()?))
    }

    pub(super) fn ssh(&self) -> Result<SshClient<Local>, ErrorPage> {
        Ok(SshClient::new(self.api()?))
    }

    pub(super) fn transit(&self) -> Result<TransitClient<Local>, ErrorPage> {
        Ok(TransitClient::new(self.api()?))
    }

    pub(super) fn audit(&self) -> Result<AuditLogClient<Local>, ErrorPage> {
        Ok(AuditLogClient::new(self.api()?))
    }

    pub(super) fn csrf(&self) -> CsrfField {
        self.page.csrf()
    }

    /// Whether the policy would let him do that now: to show or to hide a button. What the button does, the API judges.
    pub(super) fn may(&self, action: Act, on: &[&str]) -> bool {
        let judged = || {
            let open = self.ui.metacrypt.open().ok()?;
            let who = Subject::try_from(&self.who).ok()?;
            let on = ResourceName::of(on.iter().copied()).ok()?;
            let policy = policy::of(&open).ok()?;
            policy.authorize(&who, &action.typed(), &on.into()).ok()
        };
        judged().is_some()
    }

    /// The mounts of a kind that he may see; of all kinds, if none is said.
    pub(super) async fn mounts(&self, kind: &str) -> Result<Vec<Mount>, ErrorPage> {
        let listed = self.system()?.list_mounts(ListMountsRequest {}).await?;
        let mut mounts = listed.into_inner().mounts;
        mounts.retain(|mount| kind.is_empty() || mount.engine == kind);
        Ok(mounts)
    }

    /// To the page at `to`, which says that it is done.
    pub(super) async fn done(&self, to: &str, text: impl Into<String>) -> Answer {
        let to = LocalPath::or_home(Some(to));
        let message = Flash::success(text);
        self.page.redirect(&to, Some(message)).await
    }
}
