//! What a browser does with a router, without one: it keeps cookies and reads tokens out of pages.

use std::collections::BTreeMap;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use tower::ServiceExt as _;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |v| v.to_str().expect("text"))
    }

    pub(crate) fn cookies(&self) -> Vec<&str> {
        let all = self.headers.get_all("set-cookie").iter();
        all.map(|v| v.to_str().expect("text")).collect()
    }

    /// The token of the page's first form.
    pub(crate) fn token(&self) -> String {
        let rest = self.body.split(r#"name="csrf_token" value=""#).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no token in {}", self.body));
        rest.split('"').next().expect("some").to_owned()
    }
}

/// A browser, as far as the router sees it.
#[derive(Clone)]
pub(crate) struct Client {
    router: Router,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Client {
    pub(crate) fn new(router: &Router) -> Self {
        let (router, cookies) = (router.clone(), BTreeMap::new());
        Self { router, cookies }
    }

    /// With its cookies, at the service that runs now.
    pub(crate) fn moved(self, router: &Router) -> Self {
        let router = router.clone();
        Self { router, ..self }
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !headers.iter().any(|(name, _)| *name == "accept") {
            request = request.header("accept", "text/html,*/*;q=0.8");
        }
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let request = request.body(body.into()).expect("a request");
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        };
        for cookie in answer.cookies() {
            let (pair, rest) = cookie.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a name");
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        self.send("POST", path, &form, encoded(fields)).await
    }

    /// As the page's form would.
    pub(crate) async fn submit(
        &mut self,
        page: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let token = self.get(page).await.token();
        let mut all = vec![("csrf_token", token.as_str())];
        all.extend(fields);
        self.post(path, &all).await
    }

    pub(crate) async fn log_in(&mut self, name: &str) -> Answer {
        self.submit("/login", "/login", &[("name", name)]).await
    }
}

pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}
