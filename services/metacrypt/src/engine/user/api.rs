//! The engine's methods.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use mc_proto::metacrypt::v1::{
    CreateUserKeysRequest, DeleteUserKeysRequest, DeleteUserKeysResponse, GetUserKeysRequest,
    OpenFromUserRequest, OpenFromUserResponse, RotateUserKeysRequest, SealToUsersRequest,
    SealToUsersResponse, TrimUserKeysRequest, UserKeyVersion, UserKeys,
    user_to_user_server::UserToUser,
};
use mcdsl::{
    audit::Detail,
    policy::{Name, Refused, Subject},
    server::Caller,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    KIND, account_path, action, forget_name,
    key::{Keys, Version},
    of_account, of_name, put,
    sealed::{self, MAX_RECIPIENTS, Sealed, curve_of},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{Act, EngineError},
    entered::{Entered, identity},
};

/// Where accounts are judged.
const USERS: &str = "users";

fn message(keys: &Keys) -> UserKeys {
    let version = |version: &Version| UserKeyVersion {
        version: version.number,
        created: Some((UNIX_EPOCH + Duration::from_secs(version.made_s)).into()),
    };
    UserKeys {
        name: keys.name.to_string(),
        versions: keys.versions.iter().map(version).collect(),
    }
}

/// The caller's id and name.
fn own(caller: &Caller) -> Result<(Name, Name), EngineError> {
    let subject = Subject::try_from(identity(caller)?).map_err(Refused::from)?;
    Ok((subject.account, subject.name))
}

/// The caller's own keys.
fn own_keys(items: &Items<'_>, account: &Name) -> Result<Keys, EngineError> {
    of_account(items, account)?.ok_or_else(|| {
        EngineError::Precondition("you have no keys here; make some (CreateUserKeys)".to_owned())
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
        mount: &str,
        change: impl FnOnce(&mut Keys) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<Response<UserKeys>, Status> {
        let (at, account, _) = self.own(caller, action::OWN, mount)?;
        let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let mut keys = own_keys(items, &account)?;
            change(&mut keys)?;
            items.put(&account_path(&keys.account), &keys)?;
            Ok(message(&keys))
        };
        let answer = at.record(Detail::new(), change).await?;
        Ok(Response::new(answer))
    }
}

#[async_trait]
impl UserToUser for Api {
    async fn create_user_keys(
        &self,
        request: Request<CreateUserKeysRequest>,
    ) -> Result<Response<UserKeys>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, account, name) = self.own(&caller, action::OWN, &asked.mount)?;
        let create = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let keys = match of_account(items, &account)? {
                Some(mut found) => {
                    // He may be called otherwise now.
                    forget_name(items, &found)?;
                    found.name = name;
                    found
                }
                None => Keys::new(account, name, at.now())?,
            };
            put(items, &keys)?;
            Ok(message(&keys))
        };
        let answer = at.record(Detail::new(), create).await?;
        Ok(Response::new(answer))
    }

    async fn rotate_user_keys(
        &self,
        request: Request<RotateUserKeysRequest>,
    ) -> Result<Response<UserKeys>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let now = self.0.seal.clock().now();
        let rotate = move |keys: &mut Keys| keys.rotate(now);
        self.change_own(&caller, &asked.mount, rotate).await
    }

    async fn trim_user_keys(
        &self,
        request: Request<TrimUserKeysRequest>,
    ) -> Result<Response<UserKeys>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let trim = move |keys: &mut Keys| keys.forget_before(asked.min_version);
        self.change_own(&caller, &asked.mount, trim).await
    }

    async fn get_user_keys(
        &self,
        request: Request<GetUserKeysRequest>,
    ) -> Result<Response<UserKeys>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let on = [USERS, &asked.name];
        let at = self
            .0
            .enter(&caller, &KIND, action::READ, &asked.mount, &on)?;
        let read = |items: &Items<'_>, at: &Entered| of_name(items, at.name());
        let keys = at.read(read).await?;
        at.done(Detail::new()).await?;
        Ok(Response::new(message(&keys)))
    }

    async fn delete_user_keys(
        &self,
        request: Request<DeleteUserKeysRequest>,
    ) -> Result<Response<DeleteUserKeysResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let on = [USERS, &asked.name];
        let at = self
            .0
            .enter(&caller, &KIND, action::DELETE, &asked.mount, &on)?;
        let delete = |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
            let keys = of_name(items, at.name())?;
            items.delete(&account_path(&keys.account))?;
            forget_name(items, &keys)
        };
        at.record(Detail::new(), delete).await?;
        Ok(Response::new(DeleteUserKeysResponse {}))
    }

    async fn seal_to_users(
        &self,
        request: Request<SealToUsersRequest>,
    ) -> Result<Response<SealToUsersResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let names: BTreeSet<String> = asked.recipients.iter().cloned().collect();
        if names.is_empty() || names.len() > MAX_RECIPIENTS {
            let why = format!(
                "1 to {MAX_RECIPIENTS} names of accounts, not {}",
                names.len()
            );
            return Err(EngineError::field("recipients", why).into());
        }
        let on: Vec<[&str; 2]> = names.iter().map(|name| [USERS, name]).collect();
        let on: Vec<&[&str]> = on.iter().map(<[&str; 2]>::as_slice).collect();
        let visit = self.0.visit(&caller, &KIND, &asked.mount)?;
        let at = visit.judge(action::SEAL, &on)?;
        let curve = curve_of(asked.curve)?;
        let detail = at.noted(Detail::new(), &asked);
        let (account, _) = own(&caller)?;
        let seal = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let sender = own_keys(items, &account)?;
            let recipients = names.iter().map(|name| of_name(items, name));
            let recipients: Vec<_> = recipients.collect::<Result<_, _>>()?;
            let (plaintext, about) = (&asked.plaintext, &asked.associated_data);
            sealed::seal(&sender, &recipients, curve, plaintext, about, at.now())
        };
        let sealed = at.read(seal).await?;
        at.done(detail).await?;
        Ok(Response::new(SealToUsersResponse { sealed }))
    }

    async fn open_from_user(
        &self,
        request: Request<OpenFromUserRequest>,
    ) -> Result<Response<OpenFromUserResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, account, _) = self.own(&caller, action::OPEN, &asked.mount)?;
        let open = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let none = || EngineError::field("sealed", "nothing that SealToUsers gave");
            let sealed = Sealed::read(&asked.sealed).ok_or_else(none)?;
            let sender: Name = sealed
                .sender()
                .and_then(|s| s.parse().ok())
                .ok_or_else(none)?;
            let reader = own_keys(items, &account)?;
            // Alike whether there is such an account or not.
            let sender = of_account(items, &sender)?;
            let opened = sender.and_then(|s| sealed.open(&reader, &s, &asked.associated_data));
            opened.ok_or_else(|| {
                let why = "not written to you, not with this associated data, by keys that are gone, or changed";
                EngineError::field("sealed", why)
            })
        };
        let opened = at.read(open).await?;
        let detail = Detail::new().text("sender", &opened.sender);
        let answer = OpenFromUserResponse {
            plaintext: opened.plaintext.to_vec(),
            sender: opened.sender,
            sealed: opened.header.sealed,
        };
        at.done(at.noted(detail, &answer)).await?;
        Ok(Response::new(answer))
    }
}
