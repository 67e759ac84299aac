//! `status`, `snapshot` and `key`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt, write_out};

use crate::{
    Result,
    client::{Client, call},
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Shows the public keys that tokens are verified with, as /.well-known/jwks.json has them; anybody may ask
    #[command(visible_alias = "ls")]
    List,
    /// Signs with a new key from now on; the one before verifies until the last of its tokens has expired
    Rotate {
        /// The key before verifies nothing any more: all tokens are void at once. For a key that somebody else may have
        #[arg(long)]
        drop_old: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Key {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let (drop_old, yes) = match self {
            Self::List => return keys(client, out).await,
            Self::Rotate { drop_old, yes } => (drop_old, yes),
        };
        let what = match drop_old {
            true => "all tokens of everybody will be void at once, this login among them",
            false => "tokens will be signed with a new key",
        };
        prompt::confirm(what, *yes)?;
        let request = pb::RotateKeyRequest {
            drop_old: *drop_old,
        };
        let answer = call(client.administration().await?.rotate_key(request)).await?;
        let sentence = format!("tokens are signed with the key {}", answer.kid);
        out.done(&sentence, &view::json("RotateKeyResponse", &answer)?)?;
        Ok(())
    }
}

async fn keys(client: &mut Client, out: Output) -> Result {
    let request = pb::GetKeysRequest {};
    let answer = call(client.anonymous().await?.get_keys(request)).await?;
    let row = |key: &pb::PublicKey| vec![key.kid.clone(), BASE64.encode(&key.key)];
    out.table(
        &["KEY", "ED25519"],
        answer.keys.iter().map(row).collect(),
        "there is no key",
        &view::json("GetKeysResponse", &answer)?,
    )?;
    Ok(())
}

pub(crate) async fn status(client: &mut Client, out: Output) -> Result {
    let request = pb::GetStatusRequest {};
    let status = call(client.administration().await?.get_status(request)).await?;
    if out.json {
        return Ok(out.json(&view::json("Status", &status)?)?);
    }
    Ok(write_out(&view::lines(&status_lines(&status)))?)
}

pub(crate) fn status_lines(status: &pb::Status) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("mcias", status.version.clone()),
        ("started", view::time(status.started.as_ref())),
        ("accounts", status.accounts.to_string()),
        ("sessions", status.sessions.to_string()),
        ("services watching", status.services_watching.to_string()),
        ("bans watched by", status.bans_watching.to_string()),
        ("signing key", status.signing_key.clone()),
        ("key made", view::time(status.signing_key_created.as_ref())),
        (
            "certificate until",
            view::time(status.certificate_expires.as_ref()),
        ),
    ];
    if !status.certificate_error.is_empty() {
        let error = &status.certificate_error;
        let text = format!("the certificate's file is refused, the one before stays: {error}");
        lines.push(("warning", text));
    }
    let warnings = status.warnings.iter();
    lines.extend(warnings.map(|text| ("warning", text.clone())));
    lines
}

pub(crate) async fn snapshot(client: &mut Client, out: Output) -> Result {
    let answer = call(
        client
            .administration()
            .await?
            .snapshot(pb::SnapshotRequest {}),
    )
    .await?;
    let sentence = format!("the copy is {}, where MCIAS runs", answer.path);
    out.done(&sentence, &view::json("SnapshotResponse", &answer)?)?;
    Ok(())
}
