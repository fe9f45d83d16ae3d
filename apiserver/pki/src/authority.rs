//! The certificate authority and the leaves it signs (ECDSA P-256 throughout).
//!
//! Inputs: a folder with `ca.crt` and `ca.key`, or an empty one. Outputs: [`Identity`]s.
//! Invariant: a folder holds both files or none; one alone is refused instead of being replaced,
//! because a new authority would lock out everybody who trusts the old one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use thiserror::Error;

const CERT_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
const LEAF_LIFE: Duration = DAY.saturating_mul(365);
/// How far a reader's clock may lag behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// What can go wrong with certificates.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The folder of the authority cannot be made.
    #[error("make the folder {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// A file of the authority cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file of the authority cannot be written.
    #[error("write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// Only one of the two files is there.
    #[error("{} is there but {} is not: restore it, or remove both for a new authority", .present.display(), .missing.display())]
    Incomplete {
        /// The file that was found.
        present: PathBuf,
        /// The file that was not.
        missing: PathBuf,
    },
    /// A file does not hold what its name says.
    #[error("understand {}", .0.display())]
    Malformed(PathBuf, #[source] rcgen::Error),
    /// A private key cannot be made.
    #[error("make a private key for {0:?}")]
    Key(String, #[source] rcgen::Error),
    /// A name cannot stand in a certificate.
    #[error("put {0:?} into a certificate")]
    Name(String, #[source] rcgen::Error),
    /// An identity names several organizations; certificates here carry at most one.
    #[error("{0:?} names {1} organizations, a certificate carries at most one")]
    Organizations(String, usize),
    /// A certificate cannot be signed.
    #[error("sign the certificate of {0:?}")]
    Sign(String, #[source] rcgen::Error),
}

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    /// Leaves the private key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// What a TLS server needs: its own certificate and key, and the authority whose clients it trusts.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// The server's certificate, PEM.
    pub cert_pem: String,
    /// The server's private key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for ServerIdentity {
    /// Leaves the private key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A certificate authority that can sign.
pub struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority from `dir`, or makes a new one there (valid 10 years).
    ///
    /// # Errors
    /// The folder or its files cannot be read or written, or only one file is there.
    pub fn load_or_create(dir: &Path) -> Result<Authority, PkiError> {
        let (cert, key) = (dir.join(CERT_FILE), dir.join(KEY_FILE));
        match (cert.exists(), key.exists()) {
            (true, true) => Self::load(&cert, &key),
            (false, false) => Self::create(dir, &cert, &key),
            (true, false) => Err(PkiError::Incomplete { present: cert, missing: key }),
            (false, true) => Err(PkiError::Incomplete { present: key, missing: cert }),
        }
    }

    fn load(cert: &Path, key: &Path) -> Result<Authority, PkiError> {
        let ca_pem = read(cert)?;
        let pair = KeyPair::from_pem(&read(key)?)
            .map_err(|source| PkiError::Malformed(key.to_owned(), source))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, pair)
            .map_err(|source| PkiError::Malformed(cert.to_owned(), source))?;
        Ok(Authority { ca_pem, issuer })
    }

    fn create(dir: &Path, cert: &Path, key: &Path) -> Result<Authority, PkiError> {
        const NAME: &str = "minictl";
        fs::create_dir_all(dir).map_err(|source| PkiError::Folder(dir.to_owned(), source))?;
        let pair = KeyPair::generate().map_err(|source| PkiError::Key(NAME.into(), source))?;
        let mut params = params_for(NAME, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let ca_pem =
            params.self_signed(&pair).map_err(|source| PkiError::Sign(NAME.into(), source))?.pem();
        // The key goes first: a crash in between leaves a key without a certificate, which the
        // next start names, and never a certificate that somebody trusts without its key.
        write_private(key, &pair.serialize_pem())?;
        write_private(cert, &ca_pem)?;
        Ok(Authority { ca_pem, issuer: Issuer::new(params, pair) })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A server certificate for `names`, each a DNS name or an IP address (valid 1 year). The
    /// first name is the common name.
    ///
    /// # Errors
    /// A name is neither, or the key or the signature cannot be made.
    pub fn server(&self, names: &[String]) -> Result<Identity, PkiError> {
        let common_name = names.first().map_or("minictl", String::as_str);
        let mut params = params_for(common_name, LEAF_LIFE);
        params.subject_alt_names = names.iter().map(|n| san(n)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(common_name, params)
    }

    /// [`Authority::server`] with the authority's certificate beside it.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn server_identity(&self, names: &[String]) -> Result<ServerIdentity, PkiError> {
        let Identity { cert_pem, key_pem } = self.server(names)?;
        Ok(ServerIdentity { ca_pem: self.ca_pem.clone(), cert_pem, key_pem })
    }

    /// A client certificate (valid 1 year): the common name is the user, the organization its
    /// group. At most one organization.
    ///
    /// # Errors
    /// More than one organization, or the key or the signature cannot be made.
    pub fn client(&self, common_name: &str, organizations: &[&str]) -> Result<Identity, PkiError> {
        let mut params = params_for(common_name, LEAF_LIFE);
        match organizations {
            [] => {}
            [one] => params.distinguished_name.push(DnType::OrganizationName, *one),
            several => {
                return Err(PkiError::Organizations(common_name.to_owned(), several.len()));
            }
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(common_name, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Identity, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|source| PkiError::Key(name.to_owned(), source))?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| PkiError::Sign(name.to_owned(), source))?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

fn params_for(common_name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn san(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let dns = name.try_into().map_err(|source| PkiError::Name(name.to_owned(), source))?;
    Ok(SanType::DnsName(dns))
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Read(path.to_owned(), source))
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| PkiError::Write(path.to_owned(), source))
}

#[cfg(test)]
mod tests;
