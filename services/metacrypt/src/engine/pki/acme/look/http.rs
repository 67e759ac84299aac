//! http-01 (RFC 8555 §8.3): a file at a path of the name, on port 80; redirections lead to the ports 80 and 443 alone.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::{
    super::{
        super::name::AltName,
        problem::{Problem, Type},
    },
    Around, Miss, tls,
};

const MAX_REDIRECTS: usize = 10;
/// Longest file; what is wanted is shorter than 200 bytes.
const MAX_FILE: usize = 4096;
const MAX_URL: usize = 2000;

/// Where to ask.
struct Target {
    tls: bool,
    host: AltName,
    path: String,
}

fn wrong(why: impl Into<String>) -> Problem {
    Problem::new(Type::IncorrectResponse, why)
}

fn failed(why: impl std::fmt::Display) -> Problem {
    Problem::new(Type::Connection, why.to_string())
}

impl Target {
    fn host(&self) -> String {
        match &self.host {
            AltName::Ip(address @ std::net::IpAddr::V6(_)) => format!("[{address}]"),
            other => other.to_string(),
        }
    }

    /// Where a redirection from here leads.
    fn follow(&self, location: &str) -> Result<Self, Problem> {
        let scheme = if self.tls { "https" } else { "http" };
        let here = format!("{scheme}://{}{}", self.host(), self.path);
        let no = |why: &str| wrong(format!("the redirection {why}"));
        if location.len() > MAX_URL {
            return Err(no("is too long"));
        }
        let here = Url::parse(&here).map_err(|_| no("is from no URL"))?;
        let to = here.join(location).map_err(|_| no("leads to no URL"))?;
        let tls = match to.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(no("leads to another protocol than HTTP")),
        };
        if to.port().is_some() {
            return Err(no("leads to another port than 80 or 443"));
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err(no("has a user"));
        }
        let host = to.host_str().unwrap_or_default();
        let host: AltName = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| no("leads to a host that is none"))?;
        if matches!(&host, AltName::Dns(name) if name.is_wildcard()) {
            return Err(no("leads to a wildcard"));
        }
        let path = match to.query() {
            Some(query) => format!("{}?{query}", to.path()),
            None => to.path().to_owned(),
        };
        Ok(Self { tls, host, path })
    }
}

async fn get<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    target: &Target,
) -> Result<Response<Incoming>, Problem> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(16 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = Request::get(&target.path)
        .header(header::HOST, target.host())
        .header(header::USER_AGENT, "metacrypt (ACME http-01)")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(failed)?;
    // It ends with the sender and the body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(failed)
}

/// Whether the file has what is wanted.
pub(super) async fn shows(
    around: &Around,
    name: &AltName,
    path: &str,
    wanted: &str,
) -> Result<(), Miss> {
    let mut target = Target {
        tls: false,
        host: name.clone(),
        path: path.to_owned(),
    };
    for followed in 0..=MAX_REDIRECTS {
        match ask(around, &target, wanted).await {
            Ok(None) => return Ok(()),
            Ok(Some(location)) => target = target.follow(&location).map_err(Miss::Ever)?,
            // Where others lead us is not asked often.
            Err(Miss::Now(problem)) if followed > 0 => return Err(Miss::Ever(problem)),
            Err(miss) => return Err(miss),
        }
    }
    let why = format!("more than {MAX_REDIRECTS} redirections");
    Err(Miss::Ever(wrong(why)))
}

/// Asks once: where it leads to, or `None` if what is wanted is there.
async fn ask(around: &Around, target: &Target, wanted: &str) -> Result<Option<String>, Miss> {
    let port = if target.tls { 443 } else { 80 };
    let stream = around.connect(&target.host, port).await?;
    let response = match target.tls {
        false => get(stream, target).await?,
        true => get(tls::any(stream, &target.host).await?, target).await?,
    };
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| wrong("a redirection without Location"))?;
        return Ok(Some(location.to_owned()));
    }
    if status != 200 {
        let why = format!("{}{} answers {status}", target.host(), target.path);
        return Err(wrong(why).into());
    }
    let body = Limited::new(response.into_body(), MAX_FILE).collect().await;
    let long = |_| {
        wrong(format!(
            "the file did not come, or is longer than {MAX_FILE} bytes"
        ))
    };
    let body = body.map_err(long)?.to_bytes();
    match body.trim_ascii_end() == wanted.as_bytes() {
        true => Ok(None),
        false => Err(wrong(format!(
            "the file at {}{} is not what was wanted",
            target.host(),
            target.path
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_lead_to_the_ports_of_the_web_alone() {
        let from = Target {
            tls: false,
            host: "a.example".parse().unwrap(),
            path: "/x/y".to_owned(),
        };
        for (location, wanted) in [
            ("https://b.example/z?q", Some("true b.example /z?q")),
            ("http://10.0.0.1/", Some("false 10.0.0.1 /")),
            ("http://[2001:db8::1]/", Some("false [2001:db8::1] /")),
            ("//c.example", Some("false c.example /")),
            ("z", Some("false a.example /x/z")),
            ("/z", Some("false a.example /z")),
            ("http://b.example:80/z", Some("false b.example /z")),
            ("https://b.example:443/z", Some("true b.example /z")),
            ("http://b.example:8080/z", None),
            ("http://b.example:443/z", None),
            ("ftp://b.example/", None),
            ("file:///etc/passwd", None),
            ("http://user@b.example/", None),
            ("http://a_b.example/", None),
            ("http:///", None),
        ] {
            let got = from.follow(location).ok();
            let got = got.map(|to| format!("{} {} {}", to.tls, to.host(), to.path));
            assert_eq!(got.as_deref(), wanted, "{location}");
        }
        assert!(from.follow(&format!("/{}", "a".repeat(MAX_URL))).is_err());
    }
}
