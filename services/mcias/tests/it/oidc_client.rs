//! Services that people log in to by OpenID Connect, and what they ask.

use mc_proto::mcias::v1::{PutServiceRequest, Service};
use serde_json::Value;

use crate::{
    running::{Clients, PASSWORD, Running},
    web::{Answer, Browser, Http, encoded},
};

/// RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Where answers go: with a port, a query and letters of both sizes.
pub(crate) const REDIRECT: &str = "https://wiki.example:8443/Callback?from=mcias";
/// One without a query, which some libraries cannot have.
pub(crate) const PLAIN: &str = "https://wiki.example/cb";
pub(crate) const AFTERWARDS: &str = "https://wiki.example/bye";

/// A client.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) http: Http,
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
}

/// A registered client; a public one has no secret.
pub(crate) async fn register(
    running: &Running,
    admin: &mut Clients,
    name: &str,
    public: bool,
) -> Party {
    let service = Service {
        name: name.to_owned(),
        redirect_uris: vec![REDIRECT.to_owned(), PLAIN.to_owned()],
        post_logout_redirect_uris: vec![AFTERWARDS.to_owned()],
        public_client: public,
        ..Service::default()
    };
    let request = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    let made = admin.admin.put_service(request).await.unwrap().into_inner();
    Party {
        http: Http::new(running),
        id: name.to_owned(),
        secret: (!public).then_some(made.client_secret),
    }
}

/// A service with the client `wiki`, and Ada, who is logged in.
pub(crate) async fn begun() -> (Running, Clients, Party, Browser) {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    (running, admin, wiki, browser)
}

/// A request for authorization; `change` replaces parameters, or with an empty value leaves them out.
pub(crate) fn request(client: &str, change: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("scope", "openid profile roles"),
        ("state", "a state"),
        ("nonce", "a nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in change {
        fields.retain(|(other, _)| other != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    format!("/oauth/authorize?{}", encoded(&fields))
}

impl Party {
    /// A code for who is logged in in the browser.
    pub(crate) async fn code(&self, browser: &mut Browser) -> String {
        let answer = browser.get(&request(&self.id, &[])).await;
        assert!(
            answer.location().starts_with(REDIRECT),
            "{}",
            answer.location()
        );
        answer.parameter("code").unwrap()
    }

    /// What the client asks, as who it is.
    pub(crate) async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("client_id", self.id.as_str())];
        all.extend(
            self.secret
                .as_deref()
                .map(|secret| ("client_secret", secret)),
        );
        all.extend(fields);
        self.http.post(path, &[], &all).await
    }

    /// An exchange; `change` as in [`request`].
    pub(crate) async fn exchange(&self, code: &str, change: &[(&str, &str)]) -> Answer {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in change {
            fields.retain(|(other, _)| other != name);
            if !value.is_empty() {
                fields.push((name, value));
            }
        }
        self.ask("/oauth/token", &fields).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.ask("/oauth/token", &fields).await
    }

    /// The tokens of a whole flow.
    pub(crate) async fn tokens(&self, browser: &mut Browser) -> Value {
        let code = self.code(browser).await;
        let answer = self.exchange(&code, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.json()
    }

    pub(crate) async fn introspect(&self, token: &str) -> Value {
        let answer = self.ask("/oauth/introspect", &[("token", token)]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Whether userinfo takes an access token.
    pub(crate) async fn knows(&self, token: &str) -> bool {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let answer = self.http.ask("GET", "/oauth/userinfo", &headers, "").await;
        answer.status == 200
    }
}

/// A member of an answer, as text.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The error of a refusal, whose form is RFC 6749's.
pub(crate) fn error(answer: &Answer) -> String {
    assert!(
        matches!(answer.status, 400 | 401 | 413 | 503),
        "{}: {}",
        answer.status,
        answer.body
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let value = answer.json();
    assert!(!text(&value, "error_description").is_empty());
    text(&value, "error").to_owned()
}
