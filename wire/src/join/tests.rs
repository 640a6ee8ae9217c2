//! Tokens, and joining over a real socket.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::authority::Authority;
use crate::error::{NodeError, NodeErrorCode};
use crate::testing::{A, B, CLUSTER, LONG, Served, identity};
use crate::transport::{BoxFuture, Peer, Service};
use proptest::prelude::*;
use std::sync::Arc;

fn token(address: &str) -> JoinToken {
    JoinToken {
        address: address.to_owned(),
        authority_fingerprint: [1; 32],
        secret: [2; 32],
    }
}

#[test]
fn a_token_reads_back_and_a_wrong_digit_is_noticed() {
    let token = token("node-1.example:9100");
    let text = token.to_text();
    assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token.clone()));
    assert_eq!(JoinToken::parse(&text[1..]), Err(TokenError::Prefix));
    for at in PREFIX.len()..text.len() {
        let mut wrong = text.clone().into_bytes();
        wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
        let wrong = String::from_utf8(wrong).unwrap();
        assert_eq!(JoinToken::parse(&wrong), Err(TokenError::Checksum));
    }
    assert!(!format!("{token:?}").contains("0202"));
}

#[test]
fn a_secret_is_known_by_its_digest() {
    let digest = token("x:1").digest();
    assert!(digest.is_of(&[2; 32]));
    assert!(!digest.is_of(&[3; 32]));
    assert_ne!(digest.0, [2; 32]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reading_of_a_token_panic(text: String, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(JoinToken::parse(&text).is_err());
        let crc = crc32c::crc32c(&bytes).to_le_bytes();
        let sealed = format!("{PREFIX}{}{}", hex::encode(&bytes), hex::encode(crc));
        if let Ok(token) = JoinToken::parse(&sealed) {
            prop_assert_eq!(token.to_text(), sealed);
        }
    }
}

/// Signs what the right secret asks for, under the asker's id or another.
struct Door {
    authority: Authority,
    secret: SecretDigest,
    gives: NodeId,
}

impl Service for Door {
    fn handle(
        &self,
        peer: Peer,
        request: Request,
        _payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        assert_eq!(peer, Peer::Stranger);
        let Request::Join(request) = request else {
            let error = NodeError::new(NodeErrorCode::Malformed, "not a join");
            return Box::pin(std::future::ready(Err(error)));
        };
        let reply = if self.secret.is_of(&request.secret) {
            JoinReply::Joined {
                cluster: self.authority.cluster(),
                authority: self.authority.certificate().to_vec(),
                certificate: self
                    .authority
                    .issue(&request.csr, self.gives, request.role)
                    .unwrap(),
                seeds: vec!["seed:1".to_owned()],
                admin_token_hash: [4; 32],
            }
        } else {
            JoinReply::Refused("the token is not known".to_owned())
        };
        Box::pin(std::future::ready(Ok((
            Response::Join(reply),
            Payload::new(),
        ))))
    }
}

async fn door(gives: NodeId) -> (Served, JoinToken) {
    let authority = Authority::create(CLUSTER).unwrap();
    let node = identity(&authority, A, Role::Node);
    let mut token = token("");
    token.authority_fingerprint = authority.fingerprint();
    let door = Door {
        authority,
        secret: token.digest(),
        gives,
    };
    let served = Served::start(node, Arc::new(door)).await;
    token.address = served.address.to_string();
    (served, token)
}

async fn try_join(token: &JoinToken) -> Result<Joined, JoinError> {
    let applicant = Applicant {
        role: Role::Node,
        id: B,
        name: "b".to_owned(),
        address: "b:1".to_owned(),
        zone: "z".to_owned(),
        disks: vec![(DiskId([1; 16]), 1)],
    };
    join(token, applicant, NodeKey::generate().unwrap(), LONG).await
}

#[tokio::test]
async fn a_token_makes_a_stranger_a_member() {
    let (_served, token) = door(B).await;
    let joined = try_join(&token).await.unwrap();
    assert_eq!((joined.identity.name().id, joined.cluster), (B, CLUSTER));
    assert_eq!(joined.seeds, ["seed:1"]);
    assert_eq!(joined.admin_token_hash, [4; 32]);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_the_cluster() {
    let (_served, mut token) = door(B).await;
    token.secret = [9; 32];
    let outcome = try_join(&token).await;
    assert!(matches!(outcome, Err(JoinError::Refused(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_cluster_of_another_authority_than_the_tokens_never_sees_the_secret() {
    let (_served, mut token) = door(B).await;
    token.authority_fingerprint = [9; 32];
    let outcome = try_join(&token).await;
    assert!(
        matches!(
            &outcome,
            Err(JoinError::Call {
                source: CallError::Unreachable(_),
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_taken() {
    let (_served, token) = door(A).await;
    let outcome = try_join(&token).await;
    assert!(
        matches!(outcome, Err(JoinError::Identity(_))),
        "{outcome:?}"
    );
}
