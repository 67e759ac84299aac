//! What people do about how they log in themselves: the password, an authenticator app, recovery codes, passkeys. The API and the pages are
//! two ways to it.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use mc_proto::mcias::v1::{
    BeginTotpResponse, ChangePasswordRequest, ChangePasswordResponse, GetFactorsResponse,
};
use mcdsl::auth::Identity;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    account::{self, Account, Status},
    by::By,
    core::{Change, Mcias},
    error::Error,
    login::{check_length, recovery_hash, totp_name},
    passkey, policy,
    random::{self, hex},
    session::{end_others, has_shown},
    time::unix,
    totp::Shared,
};

/// Recovery codes that are given at once.
const RECOVERY_CODES: usize = 10;
/// What apps show beside the account's name.
const ISSUER: &str = "Metacircular";
/// Why an app is not in force.
const WRONG_CODE: &str = "code: it is not the one that the app shows now; are both clocks right?";

/// Changes the password of whoever asks, and ends his other logins.
///
/// # Errors
/// What he is told.
pub(crate) async fn change_password(
    mcias: &Arc<Mcias>,
    by: &By,
    asked: ChangePasswordRequest,
) -> Result<ChangePasswordResponse, Error> {
    check_length("new_password", &asked.new_password)?;
    let who = by.who()?.clone();
    let before = mcias.confirm(by, asked.old_password.clone()).await?;
    if asked.old_password == asked.new_password {
        return Err(Error::invalid("new_password: it is the old one"));
    }
    mcias.check_strength(&asked.new_password, &who.name).await?;
    let hash = mcias.passwords.hash(asked.new_password).await?;
    let write = move |change: &mut Change<'_>| {
        let account = own(change.tx, &who.account)?;
        if account.status != Status::Active || account.password != before.password {
            return Err(Error::precondition(
                "the account or its password was changed in between; begin anew",
            ));
        }
        change.resource.clone_from(&account.name);
        account::set_password(change.tx, &account.id, &hash, false, change.now)?;
        // Whoever else is logged in may know the old one.
        end_others(change, &account.id, &who.session)
    };
    mcias.write(by, write).await?;
    Ok(ChangePasswordResponse {})
}

/// What the account of whoever asks has.
///
/// # Errors
/// If the account is gone, or the database fails.
pub(crate) async fn factors(mcias: &Arc<Mcias>, by: &By) -> Result<GetFactorsResponse, Error> {
    let id = by.who()?.account.clone();
    let read = move |db: &Connection| Ok::<_, Error>((own(db, &id)?, passkey::list(db, &id)?));
    let (account, passkeys) = mcias.store.read(read).await?;
    Ok(GetFactorsResponse {
        totp: account.totp,
        passkeys,
        recovery_codes: account.recovery_codes,
        password_changed: account.password_changed.map(Into::into),
    })
}

/// A secret for an authenticator app of whoever asks; in force once it is confirmed.
///
/// # Errors
/// What he is told.
pub(crate) async fn begin_totp(
    mcias: &Arc<Mcias>,
    by: &By,
    password: String,
) -> Result<BeginTotpResponse, Error> {
    let account = mcias.confirm(by, password).await?;
    let session = by.who()?.session.clone();
    let shared = Shared::generate()?;
    let uri = shared.uri(ISSUER, &account.name)?;
    let secret = shared.base32();
    let sealed = mcias
        .seal
        .seal(&totp_name(&account.id), shared.as_bytes())?;
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        if own(change.tx, &account.id)?.totp {
            return Err(Error::precondition(
                "there is an authenticator app already; remove it first",
            ));
        }
        change.tx.execute(
            "INSERT OR REPLACE INTO totp (account, secret, confirmed, last_step, created_s, session) VALUES (?1, ?2, 0, 0, ?3, ?4)",
            params![account.id, sealed, unix(change.now), session],
        )?;
        Ok(())
    };
    mcias.write(by, write).await?;
    Ok(BeginTotpResponse {
        secret,
        qr: qr(&uri)?,
        uri,
    })
}

/// What shows that somebody was told a secret, and tells nobody of it.
pub(crate) fn totp_proof(secret: &str) -> String {
    hex(&random::hash(&["totp shown", secret]))
}

/// The secret that whoever asks has begun with by this login, told again to who shows that he was told it: a stolen cookie does not.
///
/// # Errors
/// If the database fails, or the secret cannot be opened.
pub(crate) async fn begun_totp(
    mcias: &Arc<Mcias>,
    by: &By,
    proof: String,
) -> Result<Option<BeginTotpResponse>, Error> {
    let who = by.who()?.clone();
    let (account, session) = (who.account.clone(), who.session);
    let read = move |db: &Connection| Ok::<_, Error>(pending(db, &account, &session)?);
    let Some((sealed, _)) = mcias.store.read(read).await? else {
        return Ok(None);
    };
    let shared = Shared::from_bytes(mcias.seal.open(&totp_name(&who.account), &sealed)?);
    let secret = shared.base32();
    let right = totp_proof(&secret);
    if verify_slices_are_equal(right.as_bytes(), proof.as_bytes()).is_err() {
        return Ok(None);
    }
    let uri = shared.uri(ISSUER, &who.name)?;
    Ok(Some(BeginTotpResponse {
        secret,
        qr: qr(&uri)?,
        uri,
    }))
}

/// What a login has begun with and not confirmed: the sealed secret, and the last step.
fn pending(
    db: &Connection,
    account: &str,
    session: &str,
) -> rusqlite::Result<Option<(Vec<u8>, i64)>> {
    let sql =
        "SELECT secret, last_step FROM totp WHERE account = ?1 AND session = ?2 AND NOT confirmed";
    let found = db.query_row(sql, [account, session], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    found.optional()
}

/// Puts the secret in force by a code of the app, and ends all other logins. Only the login that gave the password for it may, and codes
/// are guessed no faster than passwords: whoever has a stolen token alone would make a login of it that has shown both factors.
///
/// # Errors
/// What he is told.
pub(crate) async fn confirm_totp(mcias: &Arc<Mcias>, by: &By, code: String) -> Result<(), Error> {
    let who = by.who()?.clone();
    let gate = Arc::new(mcias.enter(by, &who.name).await?);
    let (this, attempt) = (Arc::clone(mcias), Arc::clone(&gate));
    let write = move |change: &mut Change<'_>| {
        let gate = attempt;
        change.resource.clone_from(&who.name);
        let Some(step) = pending_step(&this, change, &who, &code)? else {
            gate.failed(&this, change)?;
            change.outcome = tonic::Code::InvalidArgument;
            change.note(|detail| detail.text("message", WRONG_CODE));
            return Ok(Err(Error::invalid(WRONG_CODE)));
        };
        let sql =
            "UPDATE totp SET confirmed = 1, last_step = ?2 WHERE account = ?1 AND NOT confirmed";
        change.tx.execute(sql, params![who.account, step])?;
        gate.succeeded(change.tx)?;
        // Who else is logged in has shown less.
        end_others(change, &who.account, &who.session)?;
        has_shown(change, &who.account, &who.session, "otp")?;
        Ok(Ok(()))
    };
    // Ours is kept until it is committed: the next attempt is to see what this one counted.
    let done = mcias.write(by, write).await;
    drop(gate);
    done?
}

/// The step that a code is of, by the secret that the same login has begun with.
fn pending_step(
    mcias: &Mcias,
    change: &Change<'_>,
    who: &Identity,
    code: &str,
) -> Result<Option<i64>, Error> {
    let found = pending(change.tx, &who.account, &who.session)?;
    let (sealed, last) = found.ok_or_else(|| {
        Error::precondition("this login has begun nothing that could be confirmed; begin first")
    })?;
    let secret = mcias.seal.open(&totp_name(&who.account), &sealed)?;
    let last = u64::try_from(last).unwrap_or(0);
    let step = Shared::from_bytes(secret).check(code, last, change.now)?;
    let step = step.map(i64::try_from).transpose();
    step.map_err(|_| Error::Internal("a step beyond all"))
}

/// Takes the authenticator app away, and ends all other logins.
///
/// # Errors
/// What he is told.
pub(crate) async fn remove_totp(
    mcias: &Arc<Mcias>,
    by: &By,
    password: String,
) -> Result<(), Error> {
    let account = mcias.confirm(by, password).await?;
    let own = by.who()?.session.clone();
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        // Who was logged in by what is taken away is not any more.
        end_others(change, &account.id, &own)?;
        let sql = "DELETE FROM totp WHERE account = ?1 AND confirmed";
        match change.tx.execute(sql, [&account.id])? {
            0 => Err(Error::precondition(
                "there is no authenticator app to remove",
            )),
            _ => forget_recovery_codes(change, &account.id),
        }
    };
    mcias.write(by, write).await
}

/// Takes one of his passkeys away, and ends all other logins.
///
/// # Errors
/// What he is told.
pub(crate) async fn remove_passkey(
    mcias: &Arc<Mcias>,
    by: &By,
    id: String,
    password: String,
) -> Result<(), Error> {
    let account = mcias.confirm(by, password).await?;
    let own = by.who()?.session.clone();
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        // Who was logged in by what is taken away is not any more.
        end_others(change, &account.id, &own)?;
        let sql = "DELETE FROM passkey WHERE account = ?1 AND id = ?2";
        match change.tx.execute(sql, [&account.id, &id])? {
            0 => Err(Error::not_found("passkey", &id)),
            _ => {
                forget_recovery_codes(change, &account.id)?;
                policy::check_admin_left(change.tx)
            }
        }
    };
    mcias.write(by, write).await
}

/// Ten new recovery codes, which are told this once; those before are void.
///
/// # Errors
/// What he is told.
pub(crate) async fn new_recovery_codes(
    mcias: &Arc<Mcias>,
    by: &By,
    password: String,
) -> Result<Vec<String>, Error> {
    let account = mcias.confirm(by, password).await?;
    let codes = (0..RECOVERY_CODES).map(|_| random::readable::<20>());
    let codes: Vec<String> = codes.collect::<Result<_, _>>()?;
    let kept: Vec<_> = codes
        .iter()
        .map(|code| recovery_hash(&account.id, code))
        .collect();
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        if !own(change.tx, &account.id)?.has_second_factor() {
            return Err(Error::precondition(
                "recovery codes replace a second factor: enrol an authenticator app or a passkey first",
            ));
        }
        let sql = "DELETE FROM recovery_code WHERE account = ?1";
        change.tx.execute(sql, [&account.id])?;
        for hash in kept {
            let sql = "INSERT INTO recovery_code VALUES (?1, ?2)";
            change.tx.execute(sql, params![account.id, hash])?;
        }
        Ok(())
    };
    mcias.write(by, write).await?;
    Ok(codes)
}

/// Those of an account that has no second factor any more, which they could replace.
fn forget_recovery_codes(change: &Change<'_>, account: &str) -> Result<(), Error> {
    if !own(change.tx, account)?.has_second_factor() {
        let sql = "DELETE FROM recovery_code WHERE account = ?1";
        change.tx.execute(sql, [account])?;
    }
    Ok(())
}

/// Of whoever asks.
fn own(db: &Connection, id: &str) -> Result<Account, Error> {
    account::by_id(db, id)?.ok_or_else(|| Error::unauthenticated("the account is gone"))
}

/// A QR code, as SVG.
fn qr(text: &str) -> Result<String, Error> {
    let code = qrcode::QrCode::new(text).map_err(|_| Error::Internal("no QR code can hold it"))?;
    let svg = code.render::<qrcode::render::svg::Color<'_>>();
    Ok({ svg }.min_dimensions(200, 200).build())
}
