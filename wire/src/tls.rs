//! TLS between processes: rustls with aws-lc-rs, version 1.3 only, both ends certified by the cluster's authority.
//!
//! No process-wide default is read or set. No session is resumed: each handshake proves both ends anew.

use crate::authority::fingerprint;
use crate::identity::{Identity, Name};
use crate::message::Role;
use ringfort_ring::id::ClusterId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Names our protocol in the handshake, so that a connection meant for something else never gets here.
const ALPN: &[u8] = b"ringfort/1";

/// Key, certificate and authority do not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(String);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    // The authority goes along: whoever joins knows only its fingerprint.
    vec![identity.certificate().clone(), identity.authority().clone()]
}

/// Checks that an identity's parts belong together.
pub(crate) fn check(identity: &Identity) -> Result<(), TlsError> {
    // Building the configuration compares the key with the certificate; the verifier checks the signature. A
    // gateway's certificate is for clients only, so it is verified as one.
    client_config(identity)?;
    client_verifier(identity)?
        .verify_client_cert(identity.certificate(), &[], UnixTime::now())
        .map_err(TlsError::from)?;
    Ok(())
}

fn client_verifier(
    identity: &Identity,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(roots(identity.authority())?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError(error.to_string()))
}

/// How a node accepts connections: members by their certificate, and strangers without one.
pub(crate) fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(client_verifier(identity)?)
        .with_single_cert(chain(identity), identity.key().der())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a member calls a node that it knows, and how it asks at an address that may be any node's.
pub(crate) fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let inner = WebPkiServerVerifier::builder_with_provider(
        roots(identity.authority())?,
        Arc::clone(&provider),
    )
    .build()
    .map_err(|error| TlsError(error.to_string()))?;
    let verifier = MemberVerifier {
        inner,
        cluster: identity.name().cluster,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain(identity), identity.key().der())?;
    Ok(finish(config))
}

/// How a stranger calls: it shows nothing, and trusts the authority whose fingerprint its token names.
pub(crate) fn stranger_config(authority: [u8; 32]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = FingerprintVerifier {
        authority,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}

/// The name to ask for where any node of the cluster will do.
pub(crate) fn any_node() -> ServerName<'static> {
    ServerName::try_from("any.ringfort").expect("a literal DNS name")
}

/// What a handshake proved of the other end; `None`: it showed no certificate.
///
/// # Errors
/// Where a certificate of our own authority carries no well-formed name.
pub(crate) fn peer_name(
    certificates: Option<&[CertificateDer<'_>]>,
) -> Result<Option<Name>, TlsError> {
    certificates
        .and_then(|chain| chain.first())
        .map(|certificate| {
            Name::of_certificate(certificate).ok_or_else(|| {
                TlsError("the peer's certificate carries no member's name".to_owned())
            })
        })
        .transpose()
}

/// Lets in the node that was meant; or, where [`any_node`] was, every node of the cluster.
#[derive(Debug)]
struct MemberVerifier {
    inner: Arc<WebPkiServerVerifier>,
    cluster: ClusterId,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let meant = if *server_name == any_node() {
            let name = name_of_node(end_entity)?;
            if name.cluster != self.cluster {
                return Err(CertificateError::NotValidForName.into());
            }
            name.server_name()
        } else {
            server_name.to_owned()
        };
        self.inner
            .verify_server_cert(end_entity, intermediates, &meant, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Lets in every node of the cluster whose authority has this fingerprint.
#[derive(Debug)]
struct FingerprintVerifier {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl FingerprintVerifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| bool::from(fingerprint(certificate).ct_eq(&self.authority)))
            .ok_or(CertificateError::UnknownIssuer)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            roots(&authority.clone().into_owned())?,
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = name_of_node(end_entity)?;
        verifier.verify_server_cert(end_entity, &[], &name.server_name(), ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

fn name_of_node(certificate: &CertificateDer<'_>) -> Result<Name, rustls::Error> {
    Name::of_certificate(certificate)
        .filter(|name| name.role == Role::Node)
        .ok_or_else(|| CertificateError::NotValidForName.into())
}
