//! The cluster's certificate authority: made once with the cluster, it attests who is a member.
//!
//! It signs a key under the name that its caller gives; what else a signing request asks for is ignored. Whether
//! the asker may have that name is the caller's matter (a one-time token).
//!
//! Certificates do not run out: a store that stops at a date nobody remembers would break its promises, and who is a
//! member no more is known from the layout, not from a date.

use crate::identity::{
    self, IdentityError, Name, in_file, only_dns_name, pem_text, read_if_any, write_private,
};
use crate::message::Role;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ringfort_ring::id::{ClusterId, NodeId};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

const KEY_FILE: &str = "authority.key";
const CERTIFICATE_FILE: &str = "authority.crt";
/// RFC 5280, 4.1.2.5: the date for "no date".
const NEVER: (i32, u8, u8) = (9999, 12, 31);

/// The authority: its key, its certificate, its cluster.
pub struct Authority {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.cluster)
    }
}

impl Authority {
    /// A new authority for a cluster.
    ///
    /// # Errors
    /// Where making or signing with the key fails.
    pub fn create(cluster: ClusterId) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(&format!("{cluster}.ringfort"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(refused)?.der().clone();
        Self::of(key, certificate)
    }

    fn of(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, IdentityError> {
        let cluster = only_dns_name(&certificate)
            .as_deref()
            .and_then(|name| name.strip_suffix(".ringfort"))
            .and_then(ClusterId::parse)
            .ok_or_else(|| {
                IdentityError::Malformed("not the certificate of a cluster's authority".to_owned())
            })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(refused)?;
        Ok(Self {
            cluster,
            certificate,
            issuer,
        })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a join token names the authority by: SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// Signs the key of a request (PKCS #10, DER) under a name. DER.
    ///
    /// # Errors
    /// Where the request is not one, or is not signed by its own key.
    pub fn issue(&self, request: &[u8], id: NodeId, role: Role) -> Result<Vec<u8>, IdentityError> {
        let request = read_request(request)?;
        let name = Name {
            id,
            role,
            cluster: self.cluster,
        };
        let mut params = params(&name.to_string())?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Node => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            // Nobody calls a gateway between processes: it cannot pose as a node.
            Role::Gateway => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(refused)?;
        Ok(certificate.der().to_vec())
    }

    /// Keeps the authority in a folder, readable by its owner only.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        let key = self.issuer.key().serialize_pem();
        write_private(&folder.join(KEY_FILE), key.as_bytes())?;
        let certificate = pem_text(&[&self.certificate]);
        write_private(&folder.join(CERTIFICATE_FILE), certificate.as_bytes())
    }

    /// The authority kept in a folder; `None` where none lies there.
    ///
    /// # Errors
    /// Where a file cannot be read, or is not what it should be.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(CERTIFICATE_FILE);
        let Some(pem) = read_if_any(&path)? else {
            return Ok(None);
        };
        let malformed = |path: &Path, what: String| in_file(path, IdentityError::Malformed(what));
        let mut chain = identity::certificates(&pem).map_err(|error| in_file(&path, error))?;
        let (Some(certificate), None) = (chain.pop(), chain.pop()) else {
            return Err(malformed(&path, "expected one certificate".to_owned()));
        };
        let key_path = folder.join(KEY_FILE);
        let key = read_if_any(&key_path)?
            .ok_or_else(|| malformed(&key_path, "the private key is missing".to_owned()))?;
        let key = KeyPair::from_pem(&key)
            .map_err(|error| malformed(&key_path, format!("not a private key: {error}")))?;
        Self::of(key, certificate).map(Some)
    }
}

/// SHA-256 of a certificate.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// SHA-256 of the key in a signing request (PKCS #10, DER): the same for every request of one key, so that a repeated
/// join is known for what it is.
///
/// # Errors
/// Where the request is not one, or is not signed by its own key.
pub fn request_key_digest(request: &[u8]) -> Result<[u8; 32], IdentityError> {
    use rcgen::PublicKeyData as _;
    let request = read_request(request)?;
    Ok(Sha256::digest(request.public_key.der_bytes()).into())
}

fn read_request(request: &[u8]) -> Result<CertificateSigningRequestParams, IdentityError> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|error| IdentityError::Malformed(format!("not a signing request: {error}")))
}

fn params(dns_name: &str) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(vec![dns_name.to_owned()]).map_err(refused)?;
    let (year, month, day) = NEVER;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Ringfort");
    subject.push(DnType::OrganizationName, dns_name);
    params.distinguished_name = subject;
    Ok(params)
}

fn refused(error: rcgen::Error) -> IdentityError {
    IdentityError::Malformed(format!("making a certificate: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::identity::NodeKey;

    const CLUSTER: ClusterId = ClusterId([3; 16]);

    #[test]
    fn an_authority_reads_back_from_its_folder_and_still_issues() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Authority::load(folder.path()).unwrap().is_none());
        let authority = Authority::create(CLUSTER).unwrap();
        authority.save(folder.path()).unwrap();
        let read = Authority::load(folder.path()).unwrap().unwrap();
        assert_eq!(read.cluster(), CLUSTER);
        assert_eq!(read.fingerprint(), authority.fingerprint());
        let key = NodeKey::generate().unwrap();
        let id = NodeId([4; 16]);
        let certificate = read
            .issue(&key.signing_request().unwrap(), id, Role::Node)
            .unwrap();
        // Signed by the key that was read, trusted under the certificate that was first made.
        let identity =
            crate::identity::Identity::new(key, certificate, authority.certificate().to_vec());
        assert_eq!(identity.unwrap().name().id, id);
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let authority = Authority::create(CLUSTER).unwrap();
        let good = NodeKey::generate().unwrap().signing_request().unwrap();
        for at in [10, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(
                authority.issue(&bad, NodeId([4; 16]), Role::Node).is_err(),
                "byte {at}"
            );
        }
        assert!(authority.issue(&[], NodeId([4; 16]), Role::Node).is_err());
    }

    #[test]
    fn requests_of_one_key_have_one_digest() {
        let key = NodeKey::generate().unwrap();
        let digest = |key: &NodeKey| request_key_digest(&key.signing_request().unwrap()).unwrap();
        assert_eq!(digest(&key), digest(&key));
        assert_ne!(digest(&key), digest(&NodeKey::generate().unwrap()));
    }
}
