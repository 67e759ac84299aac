//! What of `[server]` only shows when its files are read and its addresses looked at: for the start, and for who asks before it.

use std::net::{SocketAddr, TcpListener};

use super::{
    Config,
    tls::{Files, Tls, TlsError},
};
use crate::{
    certificate::CertificateError, cli::chain, config::SettingError, telemetry::TelemetryError,
};

impl Config {
    /// Whether it can be used: its files, and that its addresses are this machine's and differ. Not whether somebody listens there already.
    ///
    /// # Errors
    /// The first setting that cannot be used, why, and what would be right.
    pub fn check(&self) -> Result<(), SettingError> {
        self.tls()?;
        let listen = ("server.listen", self.listen);
        let grpc = ("server.grpc_listen", self.grpc_listen);
        for (key, address) in [listen, grpc] {
            is_here(address).map_err(|why| SettingError::new(key, why))?;
        }
        if self.listen == self.grpc_listen && self.listen.port() != 0 {
            let address = self.listen;
            let why = format!("{address} is server.listen's; write another port");
            return Err(SettingError::new("server.grpc_listen", why));
        }
        if let Some(address) = self.metrics_listen {
            let key = "server.metrics_listen";
            if !address.ip().to_canonical().is_loopback() {
                let why = TelemetryError::NotLoopback(address).to_string();
                return Err(SettingError::new(key, why));
            }
            is_here(address).map_err(|why| SettingError::new(key, why))?;
        }
        Ok(())
    }

    /// The certificate, read and verified.
    pub(super) fn tls(&self) -> Result<Tls, SettingError> {
        let files = Files {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            ca: self.tls_ca.clone(),
        };
        Tls::load(files).map_err(|error| {
            let (key, advice) = self.wrong(&error);
            SettingError::new(key, format!("{}; {advice}", chain(&error)))
        })
    }

    /// Which setting it is, and what would be right.
    fn wrong(&self, error: &TlsError) -> (&'static str, &'static str) {
        let cert = (
            "server.tls_cert",
            "name a file with the certificate, then its chain, PEM",
        );
        let key = (
            "server.tls_key",
            "name the file of that certificate's private key, PEM",
        );
        let ca = (
            "server.tls_ca",
            "name the file of the CA that issued the certificate, PEM, or leave it out",
        );
        match error {
            TlsError::Certificate(
                CertificateError::Key { .. } | CertificateError::Mismatch { .. },
            ) => key,
            TlsError::Certificate(CertificateError::Issuer { .. }) => ca,
            TlsError::Certificate(
                CertificateError::Read { path, .. }
                | CertificateError::Count(path)
                | CertificateError::Parse { path, .. }
                | CertificateError::Anchors { path, .. },
            ) if *path != self.tls_cert => match *path == self.tls_key {
                true => key,
                false => ca,
            },
            _ => cert,
        }
    }
}

/// Whether an address can be this machine's: at any port, since somebody may listen at its own.
fn is_here(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind((address.ip(), 0)) {
        Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => Err(format!(
            "{} is no address of this machine; write one, or 0.0.0.0 or [::] for all, and a port",
            address.ip()
        )),
        _ => Ok(()),
    }
}
