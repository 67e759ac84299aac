//! The engine's methods.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mc_proto::metacrypt::v1::{
    CreateUserKeysRequest, DeleteUserKeysRequest, DeleteUserKeysResponse, GetUserKeysRequest,
    ListUserKeysRequest, ListUserKeysResponse, OpenFromUserRequest, OpenFromUserResponse,
    RotateUserKeysRequest, SealToUsersRequest, SealToUsersResponse, TrimUserKeysRequest,
    UserAccount, UserKeyVersion, UserKeys, UserRecipient, user_to_user_server::UserToUser,
};
use mcdsl::{
    audit::Detail,
    policy::{Name, Refused, Subject},
    server::Caller,
};
use zeroize::Zeroizing;

use super::{
    KIND, NAMES, Named, account_path, action, forget_name,
    key::{Keys, Version},
    of_account, of_name, put,
    sealed::{self, MAX_RECIPIENTS, Sealed, curve_of},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{Act, EngineError, Page, Positions, limit, time},
    entered::{Entered, identity},
    policy::ids,
};

/// Where accounts are judged.
const USERS: &str = "users";

/// About how many microseconds of a processor it takes to agree on a key with one other.
const COST_US: usize = 150;

/// How long MCIAS is asked for recipients, all together.
const ASKING: Duration = Duration::from_secs(5);

fn versions(keys: &Keys) -> Vec<UserKeyVersion> {
    let version = |version: &Version| UserKeyVersion {
        version: version.number,
        created: Some(time(version.made_s).into()),
    };
    keys.versions.iter().map(version).collect()
}

/// What is told of a name and the keys of who has it.
fn message(items: &Items<'_>, name: &str) -> Result<UserKeys, EngineError> {
    let named = Named::of(items, name)?;
    let keys = match &named.account {
        Some(account) => of_account(items, account)?,
        None => None,
    };
    if keys.is_none() && named.former.is_empty() {
        return Err(EngineError::NotFound("account with keys", name.to_owned()));
    }
    Ok(UserKeys {
        name: name.to_owned(),
        versions: keys.as_ref().map(versions).unwrap_or_default(),
        account: keys.map(|keys| keys.account.into()).unwrap_or_default(),
        former: named.former.into_iter().map(String::from).collect(),
    })
}

/// The caller's id and name.
fn own(caller: &Caller) -> Result<(Name, Name), EngineError> {
    let subject = Subject::try_from(identity(caller)?).map_err(Refused::from)?;
    Ok((subject.account, subject.name))
}

/// The caller's own keys.
fn own_keys(items: &Items<'_>, account: &Name) -> Result<Keys, EngineError> {
    of_account(items, account)?.ok_or_else(|| {
        EngineError::Precondition("you have no keys here; make some (CreateKeys)".to_owned())
    })
}

impl Api {
    /// Lets a caller in to what is his own.
    fn own(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
    ) -> Result<(Arc<Entered>, Name, Name), EngineError> {
        let (account, name) = own(caller)?;
        let at = self
            .0
            .enter(caller, &KIND, action, mount, &[USERS, name.as_str()])?;
        Ok((at, account, name))
    }

    /// Changes the caller's own keys, and answers as they then are.
    async fn change_own(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
        change: impl FnOnce(&mut Keys) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<UserKeys, EngineError> {
        let (at, account, name) = self.own(caller, action, mount)?;
        let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let mut keys = own_keys(items, &account)?;
            change(&mut keys)?;
            let keys = put(items, keys, name)?;
            message(items, keys.name.as_str())
        };
        at.record(Detail::new(), change).await
    }
}

methods! {
    UserToUser:
    create_keys: CreateUserKeysRequest => UserKeys = create,
    rotate_keys: RotateUserKeysRequest => UserKeys = rotate,
    trim_keys: TrimUserKeysRequest => UserKeys = trim,
    get_keys: GetUserKeysRequest => UserKeys = get,
    list_keys: ListUserKeysRequest => ListUserKeysResponse = list,
    delete_keys: DeleteUserKeysRequest => DeleteUserKeysResponse = delete,
    seal: SealToUsersRequest => SealToUsersResponse = seal,
    open: OpenFromUserRequest => OpenFromUserResponse = open,
}

async fn create(
    api: &Api,
    caller: &Caller,
    asked: CreateUserKeysRequest,
) -> Result<UserKeys, EngineError> {
    let (at, account, name) = api.own(caller, action::CREATE, &asked.mount)?;
    let create = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let keys = match of_account(items, &account)? {
            Some(found) => found,
            None => Keys::new(account, name.clone(), at.now())?,
        };
        let keys = put(items, keys, name)?;
        message(items, keys.name.as_str())
    };
    at.record(Detail::new(), create).await
}

async fn rotate(
    api: &Api,
    caller: &Caller,
    asked: RotateUserKeysRequest,
) -> Result<UserKeys, EngineError> {
    let now = api.0.seal.clock().now();
    let rotate = move |keys: &mut Keys| keys.rotate(now);
    api.change_own(caller, action::ROTATE, &asked.mount, rotate)
        .await
}

async fn trim(
    api: &Api,
    caller: &Caller,
    asked: TrimUserKeysRequest,
) -> Result<UserKeys, EngineError> {
    let trim = move |keys: &mut Keys| keys.forget_before(asked.min_version);
    api.change_own(caller, action::TRIM, &asked.mount, trim)
        .await
}

async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetUserKeysRequest,
) -> Result<UserKeys, EngineError> {
    let on = [USERS, &asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::READ, &asked.mount, &on)?;
    let keys = at.read(|items, at| message(items, at.name())).await?;
    at.done(Detail::new()).await?;
    Ok(keys)
}

async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListUserKeysRequest,
) -> Result<ListUserKeysResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, USERS, &[])?;
    let page = Page {
        place: NAMES,
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, USERS)?;
    let one = |items: &Items<'_>, name: &str| match message(items, name) {
        // Deleted just now.
        Err(EngineError::NotFound(..)) => Ok(None),
        found => found.map(Some),
    };
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        page.read(items, may, |name| one(items, name))
    };
    let (users, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListUserKeysResponse { users, next })
}

async fn delete(
    api: &Api,
    caller: &Caller,
    asked: DeleteUserKeysRequest,
) -> Result<DeleteUserKeysResponse, EngineError> {
    let on = [USERS, &asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::DELETE, &asked.mount, &on)?;
    let delete = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let keys = match &*asked.account {
            "" => of_name(items, at.name())?,
            id => {
                let named = Named::of(items, at.name())?;
                let all = named.account.iter().chain(&named.former);
                let found = all.clone().find(|account| account.as_str() == id);
                let keys = found.map(|account| of_account(items, account));
                let none =
                    || EngineError::NotFound("account of that name with keys", id.to_owned());
                keys.transpose()?.flatten().ok_or_else(none)?
            }
        };
        items.delete(&account_path(&keys.account))?;
        forget_name(items, &keys)?;
        let detail = Detail::new().text("account", keys.account.as_str());
        Ok((DeleteUserKeysResponse {}, detail))
    };
    at.record_with(delete).await
}

/// Whose keys are meant: those of the account that has the name now, which is the one of this id if one is said.
fn recipient(
    items: &Items<'_>,
    name: &str,
    meant: &[UserAccount],
) -> Result<(Keys, UserRecipient), EngineError> {
    let keys = of_name(items, name)?;
    let account = keys.account.as_str();
    let is_meant = |one: &&UserAccount| one.name == name;
    if let Some(one) = meant
        .iter()
        .filter(is_meant)
        .find(|one| one.account != account)
    {
        return Err(EngineError::Precondition(format!(
            "meant: {name} is the account {account} now and not {}, which was deleted or is called otherwise; make sure whom you write to, and say the id of that one",
            one.account
        )));
    }
    let told = UserRecipient {
        name: name.to_owned(),
        account: account.to_owned(),
        name_was_anothers: !Named::of(items, name)?.former.is_empty(),
    };
    Ok((keys, told))
}

/// That the accounts whose keys are here have their names in MCIAS still: who got a name since may have no keys yet, and could not read what is written to the
/// one before. Without an answer nothing is written. Who closes the seal does not wait for that.
async fn have_their_names(
    api: &Api,
    at: &Entered,
    recipients: &[UserRecipient],
) -> Result<(), EngineError> {
    let Some(mcias) = api.0.mcias.get() else {
        return Ok(());
    };
    let names: Vec<_> = recipients.iter().map(|one| &*one.name).collect();
    let ids = at.unless_closed(ids(mcias, &names, ASKING)).await?;
    for (UserRecipient { name, account, .. }, now) in recipients.iter().zip(ids) {
        let why = match now {
            Some(now) if now == *account => continue,
            Some(now) => format!(
                "{name} is the account {now} in MCIAS now, which has no keys here yet, and those of {name} here are of {account}, which is gone or called otherwise; write to {name} once there are keys (CreateUserKeys)"
            ),
            None => format!(
                "nobody is called {name} in MCIAS any more: those keys are of {account}, which is gone or called otherwise"
            ),
        };
        return Err(EngineError::Precondition(format!("recipients: {why}")));
    }
    Ok(())
}

async fn seal(
    api: &Api,
    caller: &Caller,
    asked: SealToUsersRequest,
) -> Result<SealToUsersResponse, EngineError> {
    let names: BTreeSet<String> = asked.recipients.iter().cloned().collect();
    if names.is_empty() || names.len() > MAX_RECIPIENTS {
        let why = format!(
            "1 to {MAX_RECIPIENTS} names of accounts, not {}",
            names.len()
        );
        return Err(EngineError::field("recipients", why));
    }
    if asked.meant.len() > MAX_RECIPIENTS {
        let why = format!("at most {MAX_RECIPIENTS} accounts");
        return Err(EngineError::field("meant", why));
    }
    let stranger = asked
        .meant
        .iter()
        .position(|one| !names.contains(&one.name));
    if let Some(at) = stranger {
        let why = "it is none of `recipients`; add it there";
        return Err(EngineError::field(&format!("meant[{at}].name"), why));
    }
    let on: Vec<[&str; 2]> = names.iter().map(|name| [USERS, name]).collect();
    let on: Vec<&[&str]> = on.iter().map(<[&str; 2]>::as_slice).collect();
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let at = visit.judge(action::SEAL, &on)?;
    let curve = curve_of(asked.curve)?;
    let detail = at.noted(Detail::new(), &asked)?;
    let (account, name) = own(caller)?;
    let SealToUsersRequest {
        meant,
        plaintext,
        associated_data: about,
        ..
    } = asked;
    let plaintext = Zeroizing::new(plaintext);
    let find = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let mut sender = own_keys(items, &account)?;
        // As he is called now, whatever he was when he made them.
        sender.name = name;
        let all = names.iter().map(|name| recipient(items, name, &meant));
        let all: (Vec<_>, Vec<_>) = all.collect::<Result<_, _>>()?;
        Ok((sender, all))
    };
    let (sender, (keys, recipients)) = at.read(find).await?;
    have_their_names(api, &at, &recipients).await?;
    let accounts = recipients.iter().map(|one| one.account.as_str());
    let detail = detail.list("accounts", accounts);
    let (cost_us, now) = (COST_US * keys.len(), at.now());
    let work = move || sealed::seal(&sender, &keys, curve, &plaintext, &about, now);
    let sealed = at.beside(cost_us, work).await?;
    at.done(detail).await?;
    Ok(SealToUsersResponse { sealed, recipients })
}

async fn open(
    api: &Api,
    caller: &Caller,
    asked: OpenFromUserRequest,
) -> Result<OpenFromUserResponse, EngineError> {
    let (at, account, _) = api.own(caller, action::OPEN, &asked.mount)?;
    let none = || EngineError::field("sealed", "this is nothing that was sealed (Seal)");
    let sealed = Sealed::read(&asked.sealed).ok_or_else(none)?;
    let sender: Option<Name> = sealed.sender().and_then(|sender| sender.parse().ok());
    let sender = sender.ok_or_else(none)?;
    let find = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let reader = own_keys(items, &account)?;
        let sender = of_account(items, &sender)?;
        Ok((reader, sender))
    };
    let (reader, sender) = at.read(find).await?;
    let about = asked.associated_data;
    let work = move || {
        // Alike whether there is such an account or not.
        let sender = sender.as_ref();
        let opened = sender.and_then(|sender| sealed.open(&reader, sender, &about));
        opened.ok_or_else(|| {
            let why = "not written to you, not with this associated data, by keys that are gone, or changed";
            EngineError::field("sealed", why)
        })
    };
    let opened = at.beside(COST_US, work).await?;
    let (name, account) = (opened.sender.clone(), opened.account.clone());
    let renamed = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let now = Named::of(items, &name)?.account;
        Ok(now.is_none_or(|now| now.as_str() != account))
    };
    let sender_renamed = at.read(renamed).await?;
    let detail = Detail::new()
        .text("sender", &opened.sender)
        .text("sender_account", &opened.account);
    let answer = OpenFromUserResponse {
        plaintext: opened.plaintext.to_vec(),
        sender: opened.sender,
        sealed: opened.header.sealed,
        sender_account: opened.account,
        sender_renamed,
    };
    at.done(at.noted(detail, &answer)?).await?;
    Ok(answer)
}
