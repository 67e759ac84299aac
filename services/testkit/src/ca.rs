//! A test CA, the certificates it issues, and TLS 1.3 configurations that trust it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The certificate and its CA's, PEM.
    pub chain_pem: String,
    /// The private key, PEM (PKCS #8).
    pub key_pem: String,
}

/// The key exchanges that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519MLKEM768 first: a ClientHello of more than one segment.
    PostQuantum,
    /// X25519 only: a ClientHello of about 250 bytes.
    Classic,
}

impl Ca {
    /// A new one, valid far beyond any test.
    ///
    /// # Errors
    /// If the key cannot be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().context("cannot generate the CA's key")?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Metacircular test CA");
        let certificate = params
            .self_signed(&key)
            .context("cannot sign the CA's certificate")?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its private key, PEM (PKCS #8), for who is to sign in its place.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a server certificate for `names`: hostnames or IP addresses.
    ///
    /// # Errors
    /// If a name is not one.
    pub fn issue(&self, names: &[&str]) -> Result<Leaf> {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, None)
    }

    /// [`Self::issue`] with an end so many seconds from now, or before now.
    ///
    /// # Errors
    /// If a name is not one.
    pub fn issue_until(&self, names: &[&str], seconds: i64) -> Result<Leaf> {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, Some(seconds))
    }

    /// Issues a client certificate for `name`.
    ///
    /// # Errors
    /// If it is not a name.
    pub fn issue_client(&self, name: &str) -> Result<Leaf> {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, None)
    }

    fn sign(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        end: Option<i64>,
    ) -> Result<Leaf> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().context("cannot generate a key")?;
        let mut params = CertificateParams::new(names.clone())
            .with_context(|| format!("cannot certify {names:?}"))?;
        params.extended_key_usages = vec![purpose];
        if let Some(seconds) = end {
            let now = time::OffsetDateTime::now_utc();
            params.not_after = now + time::Duration::seconds(seconds);
            params.not_before = params.not_after.min(now) - time::Duration::days(1);
        }
        params.use_authority_key_identifier_extension = true;
        if let Some(name) = names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("cannot sign for {names:?}"))?;
        Ok(Leaf {
            chain: vec![certificate.der().clone(), self.certificate.der().clone()],
            chain_pem: certificate.pem() + self.pem().as_str(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// A TLS 1.3 client that trusts this CA alone.
    ///
    /// # Errors
    /// If rustls refuses the configuration.
    pub fn client_config(&self, key_exchange: KeyExchange) -> Result<Arc<ClientConfig>> {
        let mut provider = provider();
        if key_exchange == KeyExchange::Classic {
            provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        }
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .context("the CA's certificate is not accepted")?;
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config.into())
    }

    /// [`Self::client_config`] of a client that shows a certificate.
    ///
    /// # Errors
    /// If a configuration is refused.
    pub fn client_config_as(&self, leaf: &Leaf) -> Result<Arc<ClientConfig>> {
        let mut config = (*self.client_config(KeyExchange::PostQuantum)?).clone();
        let key = CertifiedKey::from_der(leaf.chain.clone(), leaf.key.clone_key(), &provider())?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
        Ok(config.into())
    }
}

impl Leaf {
    /// A TLS 1.3 server that shows this certificate.
    ///
    /// # Errors
    /// If rustls refuses the configuration.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(config.into())
    }

    /// Writes `<name>.crt` (the chain) and `<name>.key` (for its owner alone) into `directory`; returns both paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let paths = (
            directory.join(format!("{name}.crt")),
            directory.join(format!("{name}.key")),
        );
        for (path, text) in [(&paths.0, &self.chain_pem), (&paths.1, &self.key_pem)] {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        fs::set_permissions(&paths.1, Permissions::from_mode(0o600))
            .with_context(|| format!("cannot close {}", paths.1.display()))?;
        Ok(paths)
    }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    use rustls::{ClientConnection, NamedGroup, ServerConnection, Stream, pki_types::ServerName};

    use super::*;

    #[test]
    fn client_and_server_agree() {
        let ca = Ca::new().unwrap();
        let leaf = ca.issue(&["alpha.example.org", "127.0.0.1"]).unwrap();
        let rows = [
            (
                "post-quantum",
                KeyExchange::PostQuantum,
                NamedGroup::X25519MLKEM768,
            ),
            ("classic", KeyExchange::Classic, NamedGroup::X25519),
        ];
        for (what, key_exchange, want) in rows {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let config = leaf.server_config().unwrap();
            let server = thread::spawn(move || {
                let mut tcp = listener.accept().unwrap().0;
                let mut tls = ServerConnection::new(config).unwrap();
                Stream::new(&mut tls, &mut tcp).write_all(b"hi").unwrap();
                tls.send_close_notify();
                tls.complete_io(&mut tcp).unwrap();
            });
            let mut tcp = TcpStream::connect(address).unwrap();
            let name = ServerName::try_from("alpha.example.org").unwrap();
            let mut tls =
                ClientConnection::new(ca.client_config(key_exchange).unwrap(), name).unwrap();
            let mut got = String::new();
            Stream::new(&mut tls, &mut tcp)
                .read_to_string(&mut got)
                .unwrap();
            server.join().unwrap();
            assert_eq!(got, "hi", "{what}");
            assert_eq!(
                tls.negotiated_key_exchange_group().unwrap().name(),
                want,
                "{what}"
            );
        }
    }
}
