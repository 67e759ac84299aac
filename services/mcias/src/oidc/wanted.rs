//! What a client asks for when it sends somebody to log in.

use super::{params::Params, pkce, scope};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) scopes: String,
    /// Nobody is to be asked anything.
    pub(super) silent: bool,
    /// Somebody is to log in, even if he is logged in.
    pub(super) anew: bool,
    /// Seconds since the login, at most.
    pub(super) max_age: Option<i64>,
}

/// What is told at the redirect URI: the error (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6) and why.
pub(super) type Told = (&'static str, String);

impl Wanted {
    /// The parameters that a login which was asked for has answered, and which would ask for it again.
    pub(super) fn answered(&self) -> &'static [&'static str] {
        if self.max_age.is_none() {
            &["prompt", "max_age"]
        } else {
            &["prompt"]
        }
    }

    pub(super) fn of(params: &Params) -> Result<Self, Told> {
        let invalid = |text: &str| ("invalid_request", text.to_owned());
        if params.get("request").is_some() {
            let text = "request objects are not taken".to_owned();
            return Err(("request_not_supported", text));
        }
        if params.get("request_uri").is_some() {
            let text = "request_uri is not taken".to_owned();
            return Err(("request_uri_not_supported", text));
        }
        match params.get("response_type") {
            Some("code") => {}
            None => return Err(invalid("response_type is missing")),
            Some(_) => {
                let text = "response_type is not code".to_owned();
                return Err(("unsupported_response_type", text));
            }
        }
        if params
            .get("response_mode")
            .is_some_and(|mode| mode != "query")
        {
            return Err(invalid("response_mode is not query"));
        }
        let Some(challenge) = params.get("code_challenge") else {
            let text = "code_challenge is missing: PKCE is required (RFC 7636), with code_challenge_method=S256";
            return Err(invalid(text));
        };
        // Without a method it would be plain (RFC 7636 §4.3).
        if params.get("code_challenge_method") != Some("S256") {
            return Err(invalid(
                "code_challenge_method is not S256, the one that is taken for PKCE",
            ));
        }
        if !pkce::is_challenge(challenge) {
            return Err(invalid(
                "code_challenge is none of S256: the verifier's SHA-256 in base64url without padding",
            ));
        }
        let scopes = scope::granted(params.get("scope").unwrap_or_default());
        let scopes = scopes.ok_or(("invalid_scope", "scope has no openid".to_owned()))?;
        let prompt: Vec<&str> = params
            .get("prompt")
            .unwrap_or_default()
            .split(' ')
            .collect();
        let silent = prompt.contains(&"none");
        if silent && prompt.len() > 1 {
            return Err(invalid("prompt has none beside others"));
        }
        let max_age = params.get("max_age").map(str::parse::<u32>).transpose();
        let max_age = max_age.map_err(|_| invalid("max_age is no number of seconds"))?;
        let anew = ["login", "select_account"]
            .iter()
            .any(|p| prompt.contains(p));
        Ok(Self {
            challenge: challenge.to_owned(),
            nonce: params.get("nonce").map(str::to_owned),
            scopes,
            silent,
            anew: anew || max_age == Some(0),
            max_age: max_age.map(i64::from).filter(|age| *age > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_a_code_by_s256() {
        let fine = "response_type=code&scope=openid&code_challenge_method=S256&\
            code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let without = |name: &str| {
            let kept = fine.split('&').filter(|pair| !pair.starts_with(name));
            kept.collect::<Vec<_>>().join("&")
        };
        for (description, text, wanted) in [
            ("fine", fine.to_owned(), ""),
            ("with a nonce", format!("{fine}&nonce=x"), ""),
            ("silent", format!("{fine}&prompt=none"), ""),
            ("unknown prompts", format!("{fine}&prompt=consent+x"), ""),
            (
                "for fragments",
                format!("{fine}&response_mode=fragment"),
                "invalid_request",
            ),
            (
                "silent and not",
                format!("{fine}&prompt=none+login"),
                "invalid_request",
            ),
            (
                "an odd age",
                format!("{fine}&max_age=-1"),
                "invalid_request",
            ),
            ("no type", without("response_type"), "invalid_request"),
            (
                "implicit",
                fine.replace("=code&", "=id_token&"),
                "unsupported_response_type",
            ),
            (
                "hybrid",
                fine.replace("=code&", "=code+id_token&"),
                "unsupported_response_type",
            ),
            ("no scope", without("scope"), "invalid_scope"),
            (
                "no challenge",
                without("code_challenge="),
                "invalid_request",
            ),
            (
                "no method",
                without("code_challenge_method"),
                "invalid_request",
            ),
            ("plain", fine.replace("S256", "plain"), "invalid_request"),
            (
                "a short challenge",
                fine.replace("-cM", ""),
                "invalid_request",
            ),
            (
                "an odd challenge",
                fine.replace("-cM", "+cM"),
                "invalid_request",
            ),
            (
                "an object",
                format!("{fine}&request=x"),
                "request_not_supported",
            ),
            (
                "an object elsewhere",
                format!("{fine}&request_uri=x"),
                "request_uri_not_supported",
            ),
        ] {
            let params = Params::parse(text.as_bytes()).unwrap();
            let got = Wanted::of(&params);
            let error = got.as_ref().err().map_or("", |(error, _)| error);
            assert_eq!(error, wanted, "{description}");
        }
        let without_pkce = Params::parse(b"response_type=code&scope=openid").unwrap();
        let (_, told) = Wanted::of(&without_pkce).unwrap_err();
        assert!(told.contains("PKCE is required"), "{told}");
        let of = |more: &str| {
            let params = Params::parse(format!("{fine}&{more}").as_bytes()).unwrap();
            Wanted::of(&params).unwrap()
        };
        assert!(of("prompt=login").anew && of("max_age=0").anew && !of("max_age=1").anew);
        assert_eq!(
            (of("max_age=1").max_age, of("max_age=0").max_age),
            (Some(1), None)
        );
    }
}
