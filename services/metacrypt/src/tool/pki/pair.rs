//! Whether the files that a key and its certificate go to may be replaced: what is lost with them is nowhere else.
//!
//! A key is replaced if it fits the certificate that is beside it, or one that was put there last. Of that there is a copy, `.<name>.kept`:
//! it is written before the key is, so that who is killed between the two files knows the key as its own the next time. The certificate of the key
//! that is to go stays in the copy, below the new one, lest it be unknown to who is killed before the new key is there. Those two are all that is
//! in it: their issuers are no one's key's.

use std::{
    io,
    path::{Path, PathBuf},
};

use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    cli::{Exit, Failure, status_failure},
    files::read_regular,
    human::hex,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use tonic::Code;
use x509_cert::{
    Certificate,
    der::{
        Decode as _,
        pem::{self, LineEnding},
    },
};
use zeroize::Zeroizing;

use super::{At, Client, MAX_PEM, Result};

pub(super) const OTHERWISE: &str =
    "name another file, or move that one away; if it is to be lost, say --replace once";

/// What is there.
pub(super) struct Pair<'a> {
    cert: &'a Path,
    key: Option<&'a Path>,
    /// The first of the chain.
    leaf: Option<CertificateDer<'static>>,
    /// The chain's file has something.
    has_chain: bool,
    /// The two of the copy: the one that was put there last, and that of the key before it.
    last: Vec<CertificateDer<'static>>,
    /// What is in the key's file; `None`: nothing.
    secret: Option<Zeroizing<Vec<u8>>>,
}

/// Certificates in the copy.
const COPIED: usize = 2;

/// Where the copy of the certificate is that was put there last.
pub(super) fn copy_of(cert: &Path) -> PathBuf {
    let name = cert.file_name().unwrap_or_default().to_string_lossy();
    cert.with_file_name(format!(".{name}.kept"))
}

/// What locks the pair, in its directory.
pub(super) fn lock_in(directory: &Path, cert: &Path) -> PathBuf {
    let name = cert.file_name().unwrap_or_default().to_string_lossy();
    directory.join(format!(".{name}.lock"))
}

/// What is in a file; nothing, if it is not there.
fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    match read_regular(path, MAX_PEM) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::default()),
        Err(e) => {
            let what = format!("{}: {e}", path.display());
            Err(Failure::usage(what).hint("name another file"))
        }
    }
}

fn first(chain: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(chain).ok()
}

/// What is in the copy; nothing, if that is not there or cannot be read.
fn copied(cert: &Path) -> Vec<CertificateDer<'static>> {
    let text = content(&copy_of(cert)).unwrap_or_default();
    let found = CertificateDer::pem_slice_iter(&text);
    let found = found.take(COPIED).filter_map(std::result::Result::ok);
    found.collect()
}

/// The copy of a chain's first that is about to be put there with its key: below it stands the certificate of the key that is there, if that is known.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn copy(cert: &Path, key: &Path, chain: &str) -> Result<String> {
    let there = Pair::read(cert, Some(key))?;
    let new = first(chain.as_bytes());
    let leaves = new.iter().chain(there.of_key());
    let text = leaves.map(|leaf| pem::encode_string("CERTIFICATE", LineEnding::LF, leaf));
    let text = text.collect::<std::result::Result<String, _>>();
    text.map_err(|e| Failure::new(Exit::Failure, e))
}

fn fits(leaf: &CertificateDer<'static>, key: &[u8]) -> bool {
    let provider = aws_lc_rs::default_provider().key_provider;
    let key = PrivateKeyDer::from_pem_slice(key).ok();
    let key = key.and_then(|der| provider.load_private_key(der).ok());
    key.is_some_and(|key| {
        CertifiedKey::new(vec![leaf.clone()], key)
            .keys_match()
            .is_ok()
    })
}

/// As the service writes it; empty of what cannot be read.
fn serial(leaf: &CertificateDer<'_>) -> String {
    let certificate = Certificate::from_der(leaf).ok();
    let bytes = certificate.map(|found| hex(found.tbs_certificate().serial_number().as_bytes()));
    bytes.unwrap_or_default()
}

impl<'a> Pair<'a> {
    /// Reads both files.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) fn read(cert: &'a Path, key: Option<&'a Path>) -> Result<Self> {
        let chain = content(cert)?;
        let secret = key.map(content).transpose()?;
        Ok(Self {
            cert,
            key,
            leaf: first(&chain),
            has_chain: !chain.trim_ascii().is_empty(),
            last: copied(cert),
            secret: secret.filter(|text| !text.trim_ascii().is_empty()),
        })
    }

    /// The certificate by which the key is known as put there by us, whatever became of the chain.
    fn put_with(&self) -> Option<&CertificateDer<'static>> {
        let secret = self.secret.as_ref()?;
        self.last.iter().find(|leaf| fits(leaf, secret))
    }

    /// The certificate of the key that is there, if that is known.
    fn of_key(&self) -> Option<&CertificateDer<'static>> {
        let secret = self.secret.as_ref()?;
        let beside = self.leaf.as_ref().filter(|leaf| fits(leaf, secret));
        beside.or_else(|| self.put_with())
    }

    /// The certificate that says whose the files are: that of the key, if it is known, for who was killed between key and certificate left that of before.
    pub(super) fn judged(&self) -> Option<&CertificateDer<'static>> {
        self.of_key().or(self.leaf.as_ref())
    }

    /// Refuses a key that is another's.
    ///
    /// # Errors
    /// That, and what to do.
    pub(super) fn key_may_go(&self) -> Result {
        let Some(key) = self.key.filter(|_| self.secret.is_some()) else {
            return Ok(());
        };
        if self.of_key().is_some() {
            return Ok(());
        }
        let (key, cert) = (key.display(), self.cert.display());
        let what = match self.has_chain {
            true => format!(
                "{key} is not the private key of the certificate in {cert}, and is not overwritten"
            ),
            false => format!(
                "{key} is there and its certificate is not in {cert}: it may be another's, and is not overwritten"
            ),
        };
        Err(Failure::new(Exit::Refused, what).hint(OTHERWISE))
    }

    /// Refuses a certificate that was neither put there by us nor issued by this CA, as far as may be known.
    ///
    /// # Errors
    /// That, and what to do; those of the service.
    pub(super) async fn chain_may_go(&self, client: &Client, profile: &At) -> Result {
        let put = |leaf| self.last.contains(leaf);
        if !self.has_chain || self.put_with().is_some() || self.leaf.as_ref().is_some_and(put) {
            return Ok(());
        }
        let Some(leaf) = &self.leaf else {
            return Err(unread(self.cert));
        };
        if is_ours(client, &profile.mount, leaf).await? {
            return Ok(());
        }
        let what = format!(
            "{} holds a certificate that {} has not issued, or that may not be read (`pki:read` on {}/profiles/{}), and is not overwritten",
            self.cert.display(),
            profile.mount,
            profile.mount,
            profile.name
        );
        Err(Failure::new(Exit::Refused, what).hint(OTHERWISE))
    }

    /// Refuses a certificate of another serial number.
    ///
    /// # Errors
    /// That, and what to do.
    pub(super) fn holds(&self, mount: &str, wanted: &str) -> Result {
        let wanted = wanted.replace(':', "").to_ascii_lowercase();
        let there = self.leaf.as_ref().map(serial).unwrap_or_default();
        if !self.has_chain || there == wanted {
            return Ok(());
        }
        if there.is_empty() {
            return Err(unread(self.cert));
        }
        let what = format!(
            "{} holds the certificate {there}, not {wanted}, and is not overwritten",
            self.cert.display()
        );
        let hint =
            format!("`metacrypt pki renew {mount} {there} …` renews that one; or {OTHERWISE}");
        Err(Failure::new(Exit::Refused, what).hint(hint))
    }
}

fn unread(cert: &Path) -> Failure {
    let cert = cert.display();
    let what = format!("{cert} holds no certificate that can be read, and is not overwritten");
    Failure::new(Exit::Refused, what).hint(OTHERWISE)
}

/// Whether a mount has issued it by a profile, as far as one may read.
async fn is_ours(client: &Client, mount: &str, leaf: &CertificateDer<'_>) -> Result<bool> {
    let request = pb::GetCertificateRequest {
        mount: mount.to_owned(),
        serial: serial(leaf),
    };
    match client.pki().await?.get_certificate(request).await {
        Ok(found) => {
            let found = found.into_inner();
            // An issuer's own has none.
            let leafs = !found.profile.is_empty();
            Ok(leafs && first(found.certificate.as_bytes()).as_ref() == Some(leaf))
        }
        Err(status) => match status.code() {
            Code::NotFound | Code::PermissionDenied | Code::InvalidArgument => Ok(false),
            _ => Err(status_failure(&status)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_goes_if_it_is_known() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((ours, key), (theirs, other)) = (made("a.example"), made("b.example"));
        let (none, hostkey) = ("", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for (description, chain, secret, copy, fine) in [
            ("nothing is there", none, none, none, true),
            ("both fit", &*ours, &*key, none, true),
            ("no key", &ours, none, none, true),
            ("an empty key", &ours, "\n", none, true),
            ("a key alone", none, &key, none, false),
            ("a key of SSH alone", none, hostkey, none, false),
            ("a key of SSH", &ours, hostkey, none, false),
            ("another's key", &ours, &other, none, false),
            (
                "another's key, whatever was put",
                &ours,
                &other,
                &ours,
                false,
            ),
            ("killed before the chain", &ours, &other, &theirs, true),
            ("the chain was removed", none, &key, &ours, true),
            ("a chain that is none", "none", &key, none, false),
            (
                "a chain that is none, of a key that was put",
                "none",
                &key,
                &ours,
                true,
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            for (name, text) in [("c", chain), ("k", secret), (".c.kept", copy)] {
                if !text.is_empty() {
                    fs::write(at(name), text).unwrap();
                }
            }
            let (cert, key) = (at("c"), at("k"));
            let pair = Pair::read(&cert, Some(&key)).unwrap();
            let may = pair.key_may_go();
            assert_eq!(may.is_ok(), fine, "{description}: {may:?}");
        }
    }

    /// What is killed again and again between the files of a pair knows the key that it left, and counts no CA's certificate as its own.
    #[test]
    fn a_key_stays_known_however_often_it_is_killed() {
        let made = || rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (cert, key, kept) = (at("c"), at("k"), at(".c.kept"));
        let (first, issuer) = (made(), made());
        fs::write(&cert, first.cert.pem()).unwrap();
        fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        // The copy first, then the key; the certificate never.
        for (n, placed) in [2, 1, 1, 2, 1, 0, 2, 2, 1].into_iter().enumerate() {
            Pair::read(&cert, Some(&key)).unwrap().key_may_go().unwrap();
            let next = made();
            let chain = next.cert.pem() + issuer.cert.pem().trim_end();
            let text = copy(&cert, &key, &chain).unwrap();
            let files = [(&kept, text), (&key, next.signing_key.serialize_pem())];
            for (path, text) in &files[..placed] {
                fs::write(path, text).unwrap();
            }
            let pair = Pair::read(&cert, Some(&key)).unwrap();
            assert!(pair.key_may_go().is_ok(), "killed for the {n}th time");
            if placed == 2 {
                let judged = pair.judged().unwrap();
                assert_eq!(judged, next.cert.der(), "its names may be others");
            }
            assert!(pair.last.len() <= COPIED, "{}", pair.last.len());
            let is_leaf = !pair.last.contains(issuer.cert.der());
            assert!(is_leaf, "no one's key is the issuer's");
        }
    }

    #[test]
    fn a_certificate_is_renewed_where_it_is() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let number = serial(made.cert.der());
        let colons = format!("{}:{}", &number[..2], number[2..].to_uppercase());
        for (description, text, wanted, fine) in [
            ("nothing is there", String::new(), "01", true),
            ("it", made.cert.pem(), &*number, true),
            (
                "it, with colons and capitals",
                made.cert.pem(),
                &colons,
                true,
            ),
            ("another", made.cert.pem(), "01", false),
            ("none", "none".to_owned(), "01", false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let cert = directory.path().join("c");
            fs::write(&cert, text).unwrap();
            let pair = Pair::read(&cert, None).unwrap();
            let held = pair.holds("pki", wanted);
            assert_eq!(held.is_ok(), fine, "{description}: {held:?}");
        }
    }
}
