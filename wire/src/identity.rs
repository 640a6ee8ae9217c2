//! Who a process is, as its cluster's authority attests it: name, key and certificate, and the folder they lie in.
//!
//! A certificate carries one DNS name, `<id>.<role>.<cluster>.ringfort`, which says everything: TLS itself then
//! refuses a node that is not the one meant, or that is of another cluster.
//! Left out: who may do what (the service decides), and revocation (membership decides).

use crate::message::Role;
use crate::tls::{self, TlsError};
use rcgen::{CertificateParams, KeyPair};
use ringfort_ring::id::{ClusterId, NodeId};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const DOMAIN: &str = "ringfort";
const KEY_FILE: &str = "node.key";
const CERTIFICATE_FILE: &str = "node.crt";

/// What a certificate says of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The process.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = role_label(self.role);
        write!(f, "{}.{role}.{}.{DOMAIN}", self.id, self.cluster)
    }
}

const fn role_label(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Gateway => "gateway",
    }
}

impl Name {
    /// Reads the form that `Display` writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut labels = text.split('.');
        let id = NodeId::parse(labels.next()?)?;
        let role = labels.next()?;
        let role = [Role::Node, Role::Gateway]
            .into_iter()
            .find(|known| role_label(*known) == role)?;
        let cluster = ClusterId::parse(labels.next()?)?;
        let name = Self { id, role, cluster };
        // One spelling only: upper case or a label too many is another name.
        (name.to_string() == text).then_some(name)
    }

    /// The name in a certificate: it carries exactly one. This proves nothing: the chain has to be verified too.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        Self::parse(&only_dns_name(certificate)?)
    }

    /// The name as TLS wants it.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.to_string()).expect("digits, letters and dots are a DNS name")
    }
}

/// The one DNS name of a certificate, if it has exactly one.
pub(crate) fn only_dns_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = parsed.valid_dns_names();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => None,
    }
}

/// Why an identity could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or an answer is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// Key, certificate and authority do not belong together.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A process's private key. It never leaves the process and its folder.
pub struct NodeKey(KeyPair);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(secret)")
    }
}

impl NodeKey {
    /// A new key (ECDSA, P-256).
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate()
            .map(Self)
            .map_err(|error| IdentityError::Malformed(format!("making a key: {error}")))
    }

    /// The folder's key, made and kept there if there is none: a join that is repeated after a crash shows the same.
    ///
    /// # Errors
    /// Where the folder does not serve, or holds something else.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(KEY_FILE);
        if let Some(pem) = read_if_any(&path)? {
            return Self::from_pem(&pem).map_err(|error| in_file(&path, error));
        }
        let key = Self::generate()?;
        write_private(&path, key.0.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// A request for a certificate: PKCS #10, DER, signed by this key.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        // The names are the authority's to give: the request carries the key only.
        let request = CertificateParams::default()
            .serialize_request(&self.0)
            .map_err(|error| {
                IdentityError::Malformed(format!("making a signing request: {error}"))
            })?;
        Ok(request.der().to_vec())
    }

    pub(crate) fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        KeyPair::from_pem(pem)
            .map(Self)
            .map_err(|error| IdentityError::Malformed(format!("not a private key: {error}")))
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

/// A process's key and certificate, and the authority that it trusts.
///
/// Invariants: the certificate is signed by the authority, is of the key, and carries exactly one well-formed name.
pub struct Identity {
    name: Name,
    key: NodeKey,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

impl Identity {
    /// An identity of these parts (certificates as DER).
    ///
    /// # Errors
    /// Where they do not belong together.
    pub fn new(
        key: NodeKey,
        certificate: Vec<u8>,
        authority: Vec<u8>,
    ) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(certificate);
        let name = Name::of_certificate(&certificate).ok_or_else(|| {
            IdentityError::Malformed("the certificate carries no name of a member".to_owned())
        })?;
        let identity = Self {
            name,
            key,
            certificate,
            authority: CertificateDer::from(authority),
        };
        tls::check(&identity)?;
        Ok(identity)
    }

    /// Who this is.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Keeps the identity in a folder: the key readable by its owner only.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        // The certificate last: where it lies, its key lies too.
        write_private(
            &folder.join(KEY_FILE),
            self.key.0.serialize_pem().as_bytes(),
        )?;
        let chain = pem_text(&[&self.certificate, &self.authority]);
        write_private(&folder.join(CERTIFICATE_FILE), chain.as_bytes())
    }

    /// The identity kept in a folder; `None` where no certificate lies there.
    ///
    /// # Errors
    /// Where a file cannot be read, or the files do not belong together.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(CERTIFICATE_FILE);
        let Some(pem) = read_if_any(&path)? else {
            return Ok(None);
        };
        let mut chain = certificates(&pem).map_err(|error| in_file(&path, error))?;
        let (Some(authority), Some(certificate), None) = (chain.pop(), chain.pop(), chain.pop())
        else {
            let what = IdentityError::Malformed("expected two certificates".to_owned());
            return Err(in_file(&path, what));
        };
        let key_path = folder.join(KEY_FILE);
        let key = read_if_any(&key_path)?
            .ok_or_else(|| IdentityError::Malformed("the private key is missing".to_owned()))
            .and_then(|pem| NodeKey::from_pem(&pem))
            .map_err(|error| in_file(&key_path, error))?;
        Self::new(key, certificate.to_vec(), authority.to_vec()).map(Some)
    }
}

pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::Malformed(format!("not a certificate: {error}")))
}

/// Certificates as PEM (RFC 7468): base64 in lines of 64.
pub(crate) fn pem_text(chain: &[&CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|der| pem_block(der.as_ref()))
        .collect::<String>()
}

fn pem_block(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().enumerate().fold(0_u32, |bits, (at, byte)| {
                bits | u32::from(*byte) << (16 - 8 * at)
            });
            for at in 0..4_usize {
                let index = usize::try_from(bits >> (18 - 6 * at) & 0x3f).unwrap_or(0);
                let is_there = at <= group.len();
                text.push(if is_there {
                    char::from(ALPHABET[index])
                } else {
                    '='
                });
            }
        }
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

pub(crate) fn in_file(path: &Path, error: IdentityError) -> IdentityError {
    match error {
        IdentityError::Malformed(what) => {
            IdentityError::Malformed(format!("{}: {what}", path.display()))
        }
        other => other,
    }
}

/// The file's text; `None` where there is no file.
#[allow(
    clippy::disallowed_methods,
    reason = "keys and certificates are read at a process's start, beside the simulated disks"
)]
pub(crate) fn read_if_any(path: &Path) -> Result<Option<String>, IdentityError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a file that only its owner may read, whole or not at all, and durably.
#[allow(
    clippy::disallowed_methods,
    reason = "keys and certificates are written when a process joins, beside the simulated disks"
)]
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new_path = path.with_extension("new");
    let write = || -> io::Result<()> {
        // A file left over from a crash may have been made with other rights.
        match std::fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new_path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new_path, path)?;
        match path.parent() {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn name() -> Name {
        Name {
            id: NodeId([0xa1; 16]),
            role: Role::Gateway,
            cluster: ClusterId([0xc2; 16]),
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        let text = name().to_string();
        assert_eq!(
            text,
            format!("{}.gateway.{}.ringfort", "a1".repeat(16), "c2".repeat(16))
        );
        assert_eq!(Name::parse(&text), Some(name()));
        for bad in [
            text.to_uppercase(),
            text.replace("gateway", "admin"),
            format!("{text}.evil"),
            format!("evil.{text}"),
            text[1..].to_owned(),
            String::new(),
        ] {
            assert_eq!(Name::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_identity_reads_back_from_its_folder_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Identity::load(folder.path()).unwrap().is_none());
        let authority = Authority::create(name().cluster).unwrap();
        let key = NodeKey::load_or_create(folder.path()).unwrap();
        let again = NodeKey::load_or_create(folder.path()).unwrap();
        assert_eq!(key.der(), again.der());
        let certificate = authority
            .issue(&key.signing_request().unwrap(), name().id, name().role)
            .unwrap();
        let identity = Identity::new(key, certificate, authority.certificate().to_vec()).unwrap();
        identity.save(folder.path()).unwrap();
        identity.save(folder.path()).unwrap();
        let read = Identity::load(folder.path()).unwrap().unwrap();
        assert_eq!(read.name(), &name());
        assert_eq!(read.certificate(), identity.certificate());
        assert_eq!(read.authority(), authority.certificate());
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_no_identity() {
        let authority = Authority::create(name().cluster).unwrap();
        let other = Authority::create(name().cluster).unwrap();
        let issue = |authority: &Authority, key: &NodeKey| {
            authority
                .issue(&key.signing_request().unwrap(), name().id, name().role)
                .unwrap()
        };
        let key = NodeKey::generate().unwrap();
        let certificate = issue(&authority, &key);
        let foreign = issue(&other, &key);
        let ours = authority.certificate().to_vec();
        assert!(
            Identity::new(
                NodeKey::generate().unwrap(),
                certificate.clone(),
                ours.clone()
            )
            .is_err()
        );
        assert!(Identity::new(key, foreign, ours.clone()).is_err());
        assert!(Identity::new(NodeKey::generate().unwrap(), ours.clone(), ours.clone()).is_err());
        assert!(Identity::new(NodeKey::generate().unwrap(), vec![1, 2, 3], ours).is_err());
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "the test damages the folder behind the code's back"
    )]
    fn a_damaged_folder_is_an_error_not_a_new_identity() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CERTIFICATE_FILE), "").unwrap();
        assert!(Identity::load(folder.path()).is_err());
        std::fs::write(folder.path().join(KEY_FILE), "nonsense").unwrap();
        assert!(NodeKey::load_or_create(folder.path()).is_err());
    }

    proptest! {
        #[test]
        fn pem_reads_back(der in proptest::collection::vec(any::<u8>(), 1..200)) {
            let der = CertificateDer::from(der);
            let read = certificates(&pem_text(&[&der, &der])).unwrap();
            prop_assert_eq!(read, vec![der.clone(), der]);
        }

        #[test]
        fn no_bytes_make_the_reading_of_a_name_panic(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Name::of_certificate(&CertificateDer::from(der)), None);
        }
    }
}
