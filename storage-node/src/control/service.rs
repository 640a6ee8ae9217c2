//! What a node answers to strangers, and what it passes on: Join goes to the authority, if this node has it; everything
//! else only to members.

use super::authority::Authority;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::Payload;
use ringfort_wire::message::{JoinReply, JoinRequest, Request, Response};
use ringfort_wire::transport::{BoxFuture, Peer, Service};
use std::sync::Arc;

/// A node's service with the door in front.
#[derive(Debug)]
pub struct ControlService<S> {
    inner: Arc<S>,
    authority: Option<Arc<Authority>>,
}

impl<S: Service> ControlService<S> {
    /// A door; `authority` is the bootstrap node's.
    #[must_use]
    pub fn new(inner: Arc<S>, authority: Option<Arc<Authority>>) -> Self {
        Self { inner, authority }
    }
}

impl<S: Service> Service for ControlService<S> {
    fn handle(
        &self,
        peer: Peer,
        request: Request,
        payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        match (request, &peer) {
            (Request::Join(join), _) => {
                let authority = self.authority.clone();
                Box::pin(async move {
                    let reply = admit(authority, join).await?;
                    Ok((Response::Join(reply), Payload::new()))
                })
            }
            (_, Peer::Stranger) => Box::pin(async {
                Err(NodeError::new(
                    NodeErrorCode::Unauthorised,
                    "only members may ask this: join first",
                ))
            }),
            (request, Peer::Member(_)) => self.inner.handle(peer, request, payload),
        }
    }
}

async fn admit(
    authority: Option<Arc<Authority>>,
    join: JoinRequest,
) -> Result<JoinReply, NodeError> {
    let Some(authority) = authority else {
        return Ok(JoinReply::Refused(
            "this node does not admit members: join at the node that `ringfort cluster init` was run for".to_owned(),
        ));
    };
    // Off the async threads: it syncs. It runs to its end when the caller goes; the joiner may ask again.
    let answer = tokio::task::spawn_blocking(move || authority.join(&join)).await;
    match answer {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => {
            tracing::error!(%error, "a join could not be carried out");
            Err(NodeError::new(NodeErrorCode::Io, error.to_string()))
        }
        Err(_) => Err(NodeError::new(
            NodeErrorCode::Unavailable,
            "the join was interrupted",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::id::NodeId;
    use ringfort_wire::message::{PingReply, PingRequest, Role};

    struct Inner;

    impl Service for Inner {
        fn handle(
            &self,
            _: Peer,
            _: Request,
            payload: Payload,
        ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
            let reply = PingReply {
                clock_ms: 1,
                layout_version: 0,
                horizon_wait_ms: 0,
                serving: Vec::new(),
            };
            Box::pin(async { Ok((Response::Ping(reply), payload)) })
        }
    }

    #[tokio::test]
    async fn a_stranger_may_only_join_and_is_told_where() {
        let service = ControlService::new(Arc::new(Inner), None);
        let ping = || Request::Ping(PingRequest {});
        let member = Peer::Member(NodeId::from_u128(1));
        let ask = |peer, request| service.handle(peer, request, Payload::new());
        assert!(ask(member, ping()).await.is_ok());
        let refusal = ask(Peer::Stranger, ping()).await.unwrap_err();
        assert_eq!(refusal.code, NodeErrorCode::Unauthorised);
        let join = Request::Join(JoinRequest {
            secret: [0; 32],
            role: Role::Node,
            id: NodeId::from_u128(2),
            name: "n2".into(),
            address: "a:1".into(),
            zone: String::new(),
            disks: Vec::new(),
            csr: Vec::new(),
        });
        let (answer, _) = ask(Peer::Stranger, join).await.unwrap();
        let Response::Join(JoinReply::Refused(why)) = answer else {
            panic!("{answer:?}");
        };
        assert!(why.contains("cluster init"), "{why}");
    }
}
