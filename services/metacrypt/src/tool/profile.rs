//! The commands of profiles, which several engines have: `metacrypt pki profile`, `metacrypt ssh profile`.

use clap::Subcommand;
use mcdsl::cli::{CommandLine, Exit, Failure, Output, change, prompt, view, write_out};
use serde_json::json;

use super::{At, Client, Result, at, json, json_list, mount_name};

/// What is said of one to put it.
pub(crate) trait Put: clap::Args {
    type Profile: Profile;

    /// Where.
    fn at(&self) -> &At;
    /// What, with what the service would fill in.
    fn profile(&self) -> Self::Profile;
    /// That nobody is to be asked.
    fn yes(&self) -> bool;
}

/// A profile.
pub(crate) trait Profile: prost::Message {
    /// Its short name in the definition.
    const MESSAGE: &'static str;
    const HEADER: &'static [&'static str];

    fn name(&self) -> &str;
    /// In a table.
    fn row(&self) -> Vec<String>;
    /// Alone.
    fn lines(&self) -> Vec<(&'static str, String)>;
    /// What puts it as it is.
    fn command(&self, at: &str) -> CommandLine;
}

/// The calls of an engine.
pub(crate) trait Profiles<P> {
    async fn all(&mut self, mount: &str) -> Result<Vec<P>>;
    async fn get(&mut self, at: At) -> Result<P>;
    async fn put(&mut self, at: At, profile: P) -> Result<P>;
    async fn delete(&mut self, at: At) -> Result;
}

/// [`Profiles`] by a client whose methods and messages are called alike.
macro_rules! profile_calls {
    ($client:ident, $profile:ident, $list:ident, $get:ident, $put:ident, $delete:ident) => {
        impl $crate::tool::profile::Profiles<pb::$profile> for $client<Authorized> {
            async fn all(&mut self, mount: &str) -> Result<Vec<pb::$profile>> {
                let (mut profiles, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::$list {
                        mount: mount.to_owned(),
                        after,
                        limit: 0,
                    };
                    let page = call(self.list_profiles(request)).await?;
                    profiles.extend(page.profiles);
                    after = page.next;
                    if after.is_empty() {
                        return Ok(profiles);
                    }
                }
            }

            async fn get(&mut self, at: At) -> Result<pb::$profile> {
                let At { mount, name } = at;
                call(self.get_profile(pb::$get { mount, name })).await
            }

            async fn put(&mut self, at: At, profile: pb::$profile) -> Result<pb::$profile> {
                let At { mount, name } = at;
                let profile = Some(profile);
                let request = pb::$put {
                    mount,
                    name,
                    profile,
                };
                call(self.put_profile(request)).await
            }

            async fn delete(&mut self, at: At) -> Result {
                let At { mount, name } = at;
                call(self.delete_profile(pb::$delete { mount, name })).await?;
                Ok(())
            }
        }
    };
}
pub(super) use profile_calls;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand<P: clap::Args> {
    /// Shows the profiles that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Shows a profile, and the command that makes it as it is
    Show {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
    },
    /// Adds a profile, or replaces the one of that name as a whole: what is not said is as in a new one
    Put(Box<P>),
    /// Removes a profile; certificates by it stay as they are
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl<P: Put> ProfileCommand<P> {
    pub(super) async fn run(
        &self,
        client: &Client,
        kind: &str,
        mut engine: impl Profiles<P::Profile>,
        out: Output,
    ) -> Result {
        let (at, profile) = match self {
            Self::List { mount } => {
                let profiles = engine.all(mount).await?;
                let rows = profiles.iter().map(Profile::row).collect();
                let empty = format!("there is no profile in {mount} that you may read");
                let empty = match profiles.is_empty() {
                    true => client.nothing(mount, kind, &empty).await?,
                    false => empty,
                };
                let value = json_list(P::Profile::MESSAGE, &profiles)?;
                return Ok(out.table(P::Profile::HEADER, rows, &empty, &value)?);
            }
            Self::Show { profile } => (profile, engine.get(profile.clone()).await?),
            Self::Put(put) => {
                let (at, profile) = (put.at(), put.profile());
                if !put.yes() {
                    let before = engine.get(at.clone()).await;
                    if let Some(what) = replaced(at, before, &profile)? {
                        prompt::confirm(&what, false)?;
                    }
                }
                (at, engine.put(at.clone(), profile).await?)
            }
            Self::Delete { profile, yes } => {
                if !yes {
                    // Nobody is asked about what there is not; who may remove one need not be allowed to read it.
                    let found = engine.get(profile.clone()).await;
                    found.map(drop).or_else(|failure| match failure.exit {
                        Exit::Refused => Ok(()),
                        _ => Err(failure),
                    })?;
                }
                prompt::confirm(&format!("the profile {profile} will be removed"), *yes)?;
                engine.delete(profile.clone()).await?;
                let sentence = format!("{profile} is removed");
                let value = json!({ "deleted": profile.to_string() });
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json(P::Profile::MESSAGE, &profile)?)?);
        }
        let shown = view::lines(&profile.lines());
        let place = format!("{}/{}", at.mount, profile.name());
        let command = profile.command(&place).line();
        Ok(write_out(&format!("{shown}to change it:\n  {command}\n"))?)
    }
}

/// What would be lost; `None`: nothing.
fn replaced<P: Profile>(
    at: &At,
    before: Result<P>,
    profile: &P,
) -> std::result::Result<Option<String>, Failure> {
    match before {
        Ok(before) => Ok(change(&before.lines(), &profile.lines())
            .map(|change| format!("the profile {at} will be replaced: {change}"))),
        Err(missing) if missing.exit == Exit::NotFound => Ok(None),
        Err(refused) if refused.exit == Exit::Refused => Ok(Some(format!(
            "the profile {at} will be replaced if there is one; you may not read what it says"
        ))),
        Err(failure) => Err(failure),
    }
}
