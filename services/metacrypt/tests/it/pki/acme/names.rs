//! A resolver by which all names are of one address, and what answers there: files on port 80, certificates of acme-tls/1 on port 443.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

#[derive(Default, Debug)]
struct Shown {
    files: HashMap<String, String>,
    /// Where who asks for a token is sent.
    redirections: HashMap<String, String>,
    texts: HashMap<String, Vec<String>>,
    /// Who asks for a file waits until this ends.
    held: Option<watch::Receiver<()>>,
    certificates: HashMap<String, Arc<CertifiedKey>>,
    /// Where programs put their files, and texts of names.
    root: Option<PathBuf>,
}

type All = Arc<Mutex<Shown>>;

/// All of it.
pub(super) struct Names {
    resolver: SocketAddr,
    pub(super) host: IpAddr,
    shown: All,
    tls: JoinHandle<()>,
}

#[derive(Debug)]
struct Certificates(All);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        self.0.lock().unwrap().certificates.get(name).cloned()
    }
}

impl Names {
    pub(super) async fn start() -> Self {
        let (shown, (host, files, tls)) = (All::default(), listen().await);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = socket.local_addr().unwrap();
        tokio::spawn(resolve(socket, host, Arc::clone(&shown)));
        tokio::spawn(serve(files, Arc::clone(&shown)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Certificates(Arc::clone(&shown))));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let tls = tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            loop {
                let (stream, _) = tls.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self {
            resolver,
            host,
            shown,
            tls,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.resolver
    }

    /// A file at the path of a token.
    pub(super) fn file(&self, token: &str, content: &str) {
        let mut shown = self.shown.lock().unwrap();
        shown.files.insert(token.to_owned(), content.to_owned());
    }

    /// Who asks for a token is sent elsewhere.
    pub(super) fn redirection(&self, token: &str, to: &str) {
        let mut shown = self.shown.lock().unwrap();
        shown.redirections.insert(token.to_owned(), to.to_owned());
    }

    /// Who asks for a file waits until what this gives is dropped; it tells how many wait.
    pub(super) fn hold(&self) -> watch::Sender<()> {
        let (hold, held) = watch::channel(());
        self.shown.lock().unwrap().held = Some(held);
        hold
    }

    /// Files in this directory.
    pub(super) fn root(&self, root: &Path) {
        self.shown.lock().unwrap().root = Some(root.to_owned());
    }

    /// Nothing is on port 443 any more: a program answers there itself.
    pub(super) async fn leave_tls(&mut self) {
        self.tls.abort();
        let _ = (&mut self.tls).await;
    }

    /// A text for a name.
    pub(super) fn text(&self, name: &str, text: &str) {
        let mut shown = self.shown.lock().unwrap();
        let place = format!("_acme-challenge.{name}");
        shown.texts.entry(place).or_default().push(text.to_owned());
    }

    /// A certificate for a name.
    pub(super) fn certificate(&self, name: &str, hash: &[u8]) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(hash)];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        let asked = match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => {
                let [a, b, c, d] = v4.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            _ => name.to_owned(),
        };
        let mut shown = self.shown.lock().unwrap();
        shown.certificates.insert(asked, Arc::new(certified));
    }
}

/// An address of this host that nobody else has, and its ports 80 and 443.
async fn listen() -> (IpAddr, TcpListener, TcpListener) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let next = NEXT.fetch_add(1, Relaxed);
        // Each process begins elsewhere, and nobody has the first of 127/8 or the last.
        let [_, a, b, c] = process::id()
            .wrapping_mul(64)
            .wrapping_add(next)
            .to_be_bytes();
        let host = IpAddr::V4(Ipv4Addr::new(127, a.clamp(1, 254), b, c));
        let free = match TcpListener::bind((host, 80)).await {
            Ok(files) => TcpListener::bind((host, 443)).await.map(|tls| (files, tls)),
            Err(error) => Err(error),
        };
        match free {
            Ok((files, tls)) => return (host, files, tls),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("{host}: {error}"),
        }
    }
    panic!("ports 80 and 443 of a thousand addresses of this host are in use");
}

async fn resolve(socket: UdpSocket, host: IpAddr, shown: All) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let asked = &buffer[..length];
        let (mut at, mut labels) = (12, Vec::new());
        while asked[at] != 0 {
            let end = at + 1 + usize::from(asked[at]);
            labels.push(String::from_utf8(asked[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        let end = at + 5;
        let kind = u16::from_be_bytes([asked[at + 1], asked[at + 2]]);
        let name = labels.join(".");
        let data: Vec<Vec<u8>> = match (kind, host) {
            (1, IpAddr::V4(v4)) => vec![v4.octets().to_vec()],
            (16, _) => {
                let shown = shown.lock().unwrap();
                let put = || fs::read_to_string(shown.root.as_ref()?.join(&name)).ok();
                let put = || put().into_iter().collect();
                let texts = shown.texts.get(&name).cloned().unwrap_or_else(put);
                let data = |text: &String| {
                    let length = u8::try_from(text.len()).unwrap();
                    [&[length][..], text.as_bytes()].concat()
                };
                texts.iter().map(data).collect()
            }
            _ => Vec::new(),
        };
        let mut answer = asked[..end].to_vec();
        (answer[2], answer[3]) = (0x81, 0x80);
        answer[6..8].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        answer[10..12].copy_from_slice(&[0, 0]);
        for one in data {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 1]);
            answer.extend(u16::try_from(one.len()).unwrap().to_be_bytes());
            answer.extend(one);
        }
        socket.send_to(&answer, from).await.unwrap();
    }
}

async fn serve(listener: TcpListener, shown: All) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let shown = Arc::clone(&shown);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else {
                    return;
                };
                head.push(byte);
            }
            let held = shown.lock().unwrap().held.clone();
            if let Some(mut held) = held {
                // Its end is an error.
                let _ = held.changed().await;
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let token = path.strip_prefix("/.well-known/acme-challenge/");
            let found = token.and_then(|token| {
                let shown = shown.lock().unwrap();
                let put = || fs::read_to_string(shown.root.as_ref()?.join(&path[1..])).ok();
                shown.files.get(token).cloned().or_else(put)
            });
            let host = head.lines().find_map(|line| line.strip_prefix("host: "));
            let elsewhere = token.and_then(|token| {
                let shown = shown.lock().unwrap();
                let to = shown.redirections.get(token)?.clone();
                // Not again from there.
                host.is_some_and(|host| !to.contains(host)).then_some(to)
            });
            if let Some(to) = elsewhere {
                let answer = format!(
                    "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            let (status, body) = match found {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", String::new()),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}
