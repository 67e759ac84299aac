//! `mciasctl account`.

use clap::{Subcommand, ValueEnum};
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{MCIAS, Output, prompt, write_out};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    Result,
    client::{Client, call},
    failures, parse,
    update::Update,
    view,
};

/// Accounts asked for at once.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the accounts, by name
    #[command(visible_alias = "ls")]
    List(List),
    /// Shows an account
    Show {
        /// The account
        #[arg(value_parser = parse::account)]
        name: String,
    },
    /// Makes an account; a person's gets a password, shown once, to be changed at the first login
    Create(Create),
    /// Changes name, address, status, roles, tags, or whether a second factor is required. Losing a role, another tag, a second factor that is
    /// required from now on, and a status other than active end the account's logins and make all its tokens void
    Update(Update),
    /// Deletes an account and makes its tokens void; not while a rule names it
    #[command(visible_alias = "rm")]
    Delete(Named),
    /// Gives a person a new password, shown once, to be changed at the next login; ends all their logins
    ResetPassword(Named),
    /// Takes all second factors of a person away, who has lost them
    ClearFactors(Named),
    /// Forgets a person's failed logins, which keep it waiting: it may try again at once. For a status of locked: reset-password
    #[command(visible_alias = "unlock")]
    ClearFailures(Named),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Those whose names begin so
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only these
    #[arg(long)]
    account_type: Option<AccountType>,
    /// At most so many
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccountType {
    Human,
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// Can log in
    Active,
    /// Cannot, and its tokens are void
    Disabled,
    /// As disabled, until a new password is set
    Locked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecondFactor {
    Required,
    Optional,
}

impl SecondFactor {
    pub(crate) fn required(self) -> bool {
        self == Self::Required
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Small letters, digits, `.`, `-` and `_`
    #[arg(value_parser = parse::account)]
    name: String,
    /// What services that ask for it call the person
    #[arg(long, value_name = "TEXT", default_value = "")]
    display_name: String,
    /// The person's address, told to services that ask for it, as not verified
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    email: String,
    /// A program's: it has tokens and no password
    #[arg(long, conflicts_with_all = ["ask_password", "second_factor", "display_name", "email"])]
    system: bool,
    /// admin, user or guest; repeatable [default: of a person user]
    #[arg(long, value_parser = parse::role)]
    role: Vec<String>,
    /// None, also of a person: what lets in users does not let it in
    #[arg(long, conflicts_with = "role")]
    no_role: bool,
    /// What policies tell it by; repeatable
    #[arg(long, value_parser = parse::tag)]
    tag: Vec<String>,
    /// Whether each login needs a second factor
    #[arg(long, value_name = "WHEN", default_value = "optional")]
    second_factor: SecondFactor,
    /// Asks for the password instead of having one made
    #[arg(long)]
    ask_password: bool,
}

impl Create {
    pub(crate) fn request(&self) -> pb::CreateAccountRequest {
        let account_type = match self.system {
            true => pb::AccountType::System,
            false => pb::AccountType::Human,
        };
        pb::CreateAccountRequest {
            name: self.name.clone(),
            account_type: account_type.into(),
            roles: if self.role.is_empty() && !self.system && !self.no_role {
                vec!["user".to_owned()]
            } else {
                self.role.clone()
            },
            tags: self.tag.clone(),
            second_factor_required: self.second_factor.required(),
            password: String::new(),
            display_name: self.display_name.clone(),
            email: self.email.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The account
    #[arg(value_parser = parse::account)]
    name: String,
    /// Does not ask
    #[arg(long)]
    yes: bool,
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::List(list) => list.run(client, out).await,
            Self::Show { name } => show(client, out, name).await,
            Self::Create(create) => create.run(client, out).await,
            Self::Update(update) => update.run(client, out).await,
            Self::Delete(Named { name, yes }) => delete(client, out, name, *yes).await,
            Self::ResetPassword(Named { name, yes }) => {
                reset_password(client, out, name, *yes).await
            }
            Self::ClearFactors(Named { name, yes }) => clear_factors(client, out, name, *yes).await,
            Self::ClearFailures(Named { name, yes }) => {
                failures::clear(client, out, name, *yes).await
            }
        }
    }
}

pub(crate) async fn get(client: &mut Client, name: &str) -> Result<pb::Account> {
    let request = pb::GetAccountRequest {
        name: name.to_owned(),
    };
    call(client.accounts().await?.get_account(request)).await
}

impl List {
    pub(crate) fn request(&self, have: u32, after: String) -> pb::ListAccountsRequest {
        let account_type = match self.account_type {
            None => pb::AccountType::Unspecified,
            Some(AccountType::Human) => pb::AccountType::Human,
            Some(AccountType::System) => pb::AccountType::System,
        };
        pb::ListAccountsRequest {
            prefix: self.prefix.clone(),
            account_type: account_type.into(),
            limit: PAGE.min(self.limit - have),
            after,
        }
    }

    async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut accounts = client.accounts().await?;
        let (mut all, mut after) = (Vec::new(), String::new());
        let more = loop {
            let have = u32::try_from(all.len()).unwrap_or(u32::MAX);
            if have >= self.limit {
                break true;
            }
            let page = call(accounts.list_accounts(self.request(have, after))).await?;
            let empty = page.accounts.is_empty();
            all.extend(page.accounts);
            after = page.next;
            // A server that has more and answers none would be asked for ever.
            if after.is_empty() || empty {
                break false;
            }
        };
        out.table(
            &[
                "NAME",
                "TYPE",
                "STATUS",
                "ROLES",
                "TAGS",
                "SECOND FACTOR",
                "LAST LOGIN",
            ],
            all.iter().map(row).collect(),
            "no accounts",
            &view::json_list("Account", &all)?,
        )?;
        if more && !out.json {
            write_out(&format!(
                "there are more; --limit {} shows so many\n",
                self.limit
            ))?;
        }
        Ok(())
    }
}

pub(crate) fn row(account: &pb::Account) -> Vec<String> {
    vec![
        account.name.clone(),
        view::account_type(account.account_type()).to_owned(),
        view::status(account.status()).to_owned(),
        view::names(&account.roles),
        view::names(&account.tags),
        factors(account),
        view::time(account.last_login.as_ref()),
    ]
}

/// Which second factors there are, and whether one has to be.
fn factors(account: &pb::Account) -> String {
    let mut factors = Vec::new();
    if account.has_totp {
        factors.push("app".to_owned());
    }
    if account.passkeys > 0 {
        factors.push(mcdsl::human::count(account.passkeys.into(), "passkey"));
    }
    match (account.second_factor_required, factors.is_empty()) {
        (true, true) => "required, none yet".to_owned(),
        (true, false) => format!("required: {}", factors.join(", ")),
        (false, true) => "-".to_owned(),
        (false, false) => factors.join(", "),
    }
}

async fn show(client: &mut Client, out: Output, name: &str) -> Result {
    let account = get(client, name).await?;
    print(&account, out)
}

pub(crate) fn print(account: &pb::Account, out: Output) -> Result {
    if out.json {
        return Ok(out.json(&view::json("Account", account)?)?);
    }
    Ok(write_out(&view::lines(&lines(account)))?)
}

pub(crate) fn lines(account: &pb::Account) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("account", account.name.clone()),
        ("display name", view::text(&account.display_name)),
        ("e-mail", view::text(&account.email)),
        ("id", account.id.clone()),
        (
            "type",
            view::account_type(account.account_type()).to_owned(),
        ),
        ("status", view::status(account.status()).to_owned()),
        ("roles", view::names(&account.roles)),
        ("tags", view::names(&account.tags)),
        ("second factor", factors(account)),
        ("recovery codes", account.recovery_codes.to_string()),
        ("created", view::time(account.created.as_ref())),
        ("last login", view::time(account.last_login.as_ref())),
    ];
    lines.extend(failures::lines(&account.failed_logins));
    lines
}

impl Create {
    async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut accounts = client.accounts().await?;
        let mut request = self.request();
        if self.ask_password {
            let password = prompt::new_password(&format!("Password of {}", self.name))?;
            request.password = password.expose_secret().to_owned();
        }
        let answer = call(accounts.create_account(request)).await?;
        let mut sentence = format!("{} was created", self.name);
        if !out.json {
            sentence.push_str(&self.told(client).await);
        }
        if !answer.password.is_empty() {
            sentence.push_str(&once(&self.name, &answer.password));
        }
        out.done(&sentence, &view::json("CreateAccountResponse", &answer)?)?;
        Ok(())
    }

    /// What the account can do now, and what helps it later.
    async fn told(&self, client: &mut Client) -> String {
        if self.system {
            return may_system(&self.name);
        }
        // That it was created is to be told all the same.
        let explained = self.explain(client).await;
        explained.map_or_else(|_| String::new(), |explained| may(&self.name, &explained))
    }

    async fn explain(&self, client: &mut Client) -> Result<pb::ExplainResponse> {
        let request = pb::ExplainRequest {
            account: self.name.clone(),
            service: MCIAS.to_owned(),
            tags: Vec::new(),
        };
        call(client.administration().await?.explain(request)).await
    }
}

fn may_system(name: &str) -> String {
    format!("\nit can do nothing before it has a token: `mciasctl token issue {name} --service …`")
}

/// By what the policy says of a login at MCIAS.
pub(crate) fn may(name: &str, explained: &pb::ExplainResponse) -> String {
    let reason = &explained.reason;
    let mut text = match explained.allowed {
        true => format!("\nit may log in to {MCIAS}: {reason}"),
        false => format!(
            "\nit cannot log in to {MCIAS}: {reason}\n`mciasctl account update {name} --add-role user` makes it a user, `mciasctl policy put` a rule for it"
        ),
    };
    text.push_str(&format!(
        "\nother services: `mciasctl policy explain --account {name} --service …`\nif the password is lost: `mciasctl account reset-password {name}`; if second factors are: `mciasctl account clear-factors {name}`"
    ));
    text
}

/// A password that is shown once.
fn once(name: &str, password: &str) -> String {
    format!(
        "\nthe password of {name}, shown only now, to be changed at the next login:\n{password}"
    )
}

/// Nobody is asked about what there is not.
async fn exists(client: &mut Client, name: &str, yes: bool) -> Result {
    if !yes {
        get(client, name).await?;
    }
    Ok(())
}

async fn delete(client: &mut Client, out: Output, name: &str, yes: bool) -> Result {
    exists(client, name, yes).await?;
    prompt::confirm(&format!("{name} will be deleted for good"), yes)?;
    let request = pb::DeleteAccountRequest {
        name: name.to_owned(),
    };
    call(client.accounts().await?.delete_account(request)).await?;
    out.done(&format!("{name} was deleted"), &json!({ "deleted": name }))?;
    Ok(())
}

async fn reset_password(client: &mut Client, out: Output, name: &str, yes: bool) -> Result {
    exists(client, name, yes).await?;
    let what = format!("{name} will have a new password, and all its logins end");
    prompt::confirm(&what, yes)?;
    let request = pb::ResetPasswordRequest {
        name: name.to_owned(),
    };
    let answer = call(client.accounts().await?.reset_password(request)).await?;
    let sentence = once(name, &answer.password);
    let value = json!({ "account": name, "password": answer.password });
    out.done(sentence.trim_start(), &value)?;
    Ok(())
}

async fn clear_factors(client: &mut Client, out: Output, name: &str, yes: bool) -> Result {
    exists(client, name, yes).await?;
    let what =
        format!("{name} will have no second factor: neither app, nor passkeys, nor recovery codes");
    prompt::confirm(&what, yes)?;
    let request = pb::ClearSecondFactorsRequest {
        name: name.to_owned(),
    };
    call(client.accounts().await?.clear_second_factors(request)).await?;
    out.done(
        &format!("{name} has no second factor any more"),
        &json!({ "cleared": name }),
    )?;
    Ok(())
}
