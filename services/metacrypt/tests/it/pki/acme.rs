//! ACME, as its clients meet it.

mod attacked;
mod names;
mod nonces;
mod orders;
mod peers;
mod requests;
mod unwritten;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use mc_proto::metacrypt::v1::{
    AcmeRules, CreateAcmeKeyRequest, CreateAcmeKeyResponse, CreateRuleRequest, PkiProfile, Rule,
    SetAcmeRequest, acme_client::AcmeClient,
};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use self::{names::Names, nonces::Spent};
use super::{Ca, MOUNT, profile};
use crate::running::Bearer;

type Keys = AcmeClient<InterceptedService<Channel, Bearer>>;

/// A CA with ACME, and names of its own.
struct Acme {
    ca: Ca,
    names: Names,
    directory: String,
    /// Between clients and the CA, if asked for.
    spent: Option<Spent>,
    /// Ada's.
    token: String,
}

/// How clients come to the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    Nothing,
    /// See [`nonces`].
    SpentNonces,
}

/// The type of the error that was answered.
fn kind<T>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(_) => "none".to_owned(),
        Err(Error::Api(problem)) => {
            let text = problem.r#type.clone().unwrap_or_default();
            text.rsplit(':').next().unwrap_or_default().to_owned()
        }
        Err(other) => format!("{other:?}"),
    }
}

impl Acme {
    /// The profile `web` is for ACME, and Ada may issue by it.
    async fn new() -> Self {
        Self::reached(Through::Nothing).await
    }

    async fn reached(through: Through) -> Self {
        let mut ca = Ca::new().await;
        let names = Names::start().await;
        ca.put(PkiProfile {
            ip_networks: vec!["127.0.0.0/8".to_owned()],
            wildcards: true,
            acme: Some(AcmeRules {
                description: "for servers".to_owned(),
                networks: vec!["127.0.0.0/8".to_owned()],
            }),
            ..profile("services")
        })
        .await;
        let token = ca.world.token("admin", &ca.world.mcias.password).await;
        let mut keys = keys(&ca, &token).await;
        let spent = match through {
            Through::Nothing => None,
            Through::SpentNonces => Some(Spent::start(&ca.world).await),
        };
        let direct = || format!("https://localhost:{}", ca.world.https.port());
        let base = spent
            .as_ref()
            .map_or_else(direct, |spent| spent.base.clone());
        let request = SetAcmeRequest {
            mount: MOUNT.to_owned(),
            base,
            resolvers: vec![names.address().to_string()],
        };
        let directory = keys.set_acme(request).await.unwrap().into_inner().directory;
        let token = ca.world.user().await;
        let mut acme = Self {
            ca,
            names,
            directory,
            spent,
            token,
        };
        acme.allow(&["pki:issue"], "ca/profiles/web").await;
        acme.allow(&["pki:create-acme-key"], "ca/acme").await;
        acme
    }

    async fn allow(&mut self, actions: &[&str], on: &str) {
        let rule = Rule {
            name: on.replace('/', "-"),
            accounts: vec!["ada".to_owned()],
            actions: actions.iter().map(ToString::to_string).collect(),
            resources: vec![on.to_owned()],
            ..Rule::default()
        };
        let request = CreateRuleRequest {
            rule: Some(rule),
            replace: true,
        };
        self.ca.admin.system.create_rule(request).await.unwrap();
    }

    /// Another key of Ada's.
    async fn key(&self) -> CreateAcmeKeyResponse {
        let request = CreateAcmeKeyRequest {
            mount: MOUNT.to_owned(),
            ..CreateAcmeKeyRequest::default()
        };
        let made = keys(&self.ca, &self.token)
            .await
            .create_acme_key(request)
            .await;
        made.unwrap().into_inner()
    }

    async fn create(&self, id: &str, secret: &str) -> Result<(Account, AccountCredentials), Error> {
        let secret = data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes());
        let key = ExternalAccountKey::new(id.to_owned(), &secret.unwrap());
        self.bind(Some(&key)).await
    }

    async fn bind(
        &self,
        key: Option<&ExternalAccountKey>,
    ) -> Result<(Account, AccountCredentials), Error> {
        let new = NewAccount {
            contact: &["mailto:ada@example.org"],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_root(self.ca.file("ca.pem"))?;
        builder.create(&new, self.directory.clone(), key).await
    }

    /// Another account of Ada's.
    async fn account(&self) -> Account {
        let made = self.key().await;
        let id = made.key.unwrap().id;
        self.create(&id, &made.hmac_key).await.unwrap().0
    }

    /// Shows all names of an order in one way.
    async fn show(&self, order: &mut Order, how: ChallengeType) -> Result<(), Error> {
        let mut all = order.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one?;
            if one.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = one.challenge(how.clone()).unwrap();
            let shown = challenge.key_authorization();
            match how {
                ChallengeType::Http01 => self.names.file(&challenge.token, shown.as_str()),
                ChallengeType::Dns01 => {
                    let name = challenge.identifier().to_string();
                    let name = name.trim_start_matches("*.").to_owned();
                    self.names.text(&name, &shown.dns_value());
                }
                _ => {
                    let name = challenge.identifier().to_string();
                    self.names.certificate(&name, shown.digest().as_ref());
                }
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// An order from its beginning to its certificates.
    async fn obtain(
        &self,
        account: &Account,
        names: &[Identifier],
        how: ChallengeType,
    ) -> Result<String, Error> {
        let mut order = account.new_order(&NewOrder::new(names)).await?;
        self.show(&mut order, how).await?;
        self.finish(&mut order).await
    }

    async fn finish(&self, order: &mut Order) -> Result<String, Error> {
        let status = order.poll_ready(&RetryPolicy::default()).await?;
        assert_eq!(status, OrderStatus::Ready);
        order.finalize().await?;
        order.poll_certificate(&RetryPolicy::default()).await
    }
}

async fn keys(ca: &Ca, token: &str) -> Keys {
    AcmeClient::with_interceptor(ca.world.channel().await, Bearer::of(token))
}

fn dns(name: &str) -> Identifier {
    Identifier::Dns(name.to_owned())
}
