//! What a node answers to strangers, and what it passes on: Join goes to the authority, if this node has it; the control
//! register is answered here, to members; everything else goes to the node, and only from members.

use super::acceptor::{AcceptorError, ControlAcceptor};
use super::authority::Authority;
use super::entries;
use super::layout_store::{LayoutError, LayoutStore};
use super::plane::{ControlError, ControlPlane};
use bytes::Bytes;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::Payload;
use ringfort_wire::message::{
    ChangeLayoutReply, ControlAcceptReply, ControlPrepareReply, JoinReply, JoinRequest,
    OfferLayoutReply, OfferLayoutRequest, Request, Response,
};
use ringfort_wire::transport::{BoxFuture, Peer, Service};
use std::sync::Arc;
use std::time::Duration;

/// Carries out a ChangeLayout: from its bytes to the version that has the change in it, or why not.
pub type LayoutChanger = Arc<dyn Fn(Bytes) -> BoxFuture<Result<u64, String>> + Send + Sync>;

/// What refuses every ChangeLayout.
#[must_use]
pub fn refuse_changes() -> LayoutChanger {
    Arc::new(|_| Box::pin(async { Err("this node does not change the layout".to_owned()) }))
}

/// A node's part in the control register.
#[derive(Clone)]
pub struct ControlDoor {
    /// What it has promised and accepted.
    pub acceptor: Arc<ControlAcceptor>,
    /// Where its process keeps the layout.
    pub layouts: Arc<LayoutStore>,
    /// How its process changes the layout.
    pub plane: ControlPlane,
    /// What carries out a ChangeLayout.
    pub changer: LayoutChanger,
}

/// A stranger does not wait longer at the door, so its answer must come within less.
const JOIN_MAX: Duration = Duration::from_secs(7);

/// A node's service with the door in front.
pub struct ControlService<S> {
    inner: Arc<S>,
    authority: Option<Arc<Authority>>,
    control: Option<ControlDoor>,
}

impl<S> std::fmt::Debug for ControlService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlService").finish_non_exhaustive()
    }
}

impl<S: Service> ControlService<S> {
    /// A door; `authority` is the bootstrap node's.
    #[must_use]
    pub fn new(inner: Arc<S>, authority: Option<Arc<Authority>>) -> Self {
        Self {
            inner,
            authority,
            control: None,
        }
    }

    /// Behind which the control register is answered too.
    #[must_use]
    pub fn with_control(mut self, control: ControlDoor) -> Self {
        self.control = Some(control);
        self
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
                let (authority, control) = (self.authority.clone(), self.control.clone());
                Box::pin(async move {
                    let reply = admit(authority, control, join).await?;
                    Ok((Response::Join(reply), Payload::new()))
                })
            }
            (_, Peer::Stranger) => Box::pin(async {
                Err(NodeError::new(
                    NodeErrorCode::Unauthorised,
                    "only members may ask this: join first",
                ))
            }),
            (
                request @ (Request::ControlPrepare(_)
                | Request::ControlAccept(_)
                | Request::OfferLayout(_)
                | Request::ChangeLayout(_)),
                Peer::Member(_),
            ) if self.control.is_some() => {
                let control = self.control.clone();
                Box::pin(async move {
                    let control = control.ok_or_else(|| unavailable("no control register"))?;
                    Ok((answer(control, request).await?, Payload::new()))
                })
            }
            (request, Peer::Member(_)) => self.inner.handle(peer, request, payload),
        }
    }
}

fn unavailable(why: impl Into<String>) -> NodeError {
    NodeError::new(NodeErrorCode::Unavailable, why)
}

/// Answers for the control register. Whatever syncs does so off the async threads, and to its end when the caller goes.
async fn answer(control: ControlDoor, request: Request) -> Result<Response, NodeError> {
    let ControlDoor {
        acceptor, layouts, ..
    } = control;
    match request {
        Request::ControlPrepare(asked) => {
            let promised = off_thread(move || acceptor.prepare(asked.ballot, asked.known)).await?;
            Ok(Response::ControlPrepare(
                match promised.map_err(of_acceptor)? {
                    Ok(promise) => ControlPrepareReply::Promised(promise),
                    Err(refusal) => ControlPrepareReply::Refused(refusal),
                },
            ))
        }
        Request::ControlAccept(asked) => {
            let accepted = off_thread(move || acceptor.accept(asked.ballot, &asked.layout)).await?;
            Ok(Response::ControlAccept(
                match accepted.map_err(of_acceptor)? {
                    Ok(()) => ControlAcceptReply::Accepted,
                    Err(refusal) => ControlAcceptReply::Refused(refusal),
                },
            ))
        }
        Request::OfferLayout(offer) => {
            let reply = off_thread(move || take_offer(&layouts, offer)).await??;
            Ok(Response::OfferLayout(reply))
        }
        Request::ChangeLayout(asked) => {
            let reply = match (control.changer)(asked.change).await {
                Ok(version) => ChangeLayoutReply::Changed { version },
                Err(why) => ChangeLayoutReply::Refused(why),
            };
            Ok(Response::ChangeLayout(reply))
        }
        other => Err(unavailable(format!(
            "{} is not of the control register",
            other.name()
        ))),
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| unavailable("the request was interrupted; what it did is not known"))
}

fn of_acceptor(error: AcceptorError) -> NodeError {
    let code = match error {
        AcceptorError::Lost => NodeErrorCode::Unavailable,
        AcceptorError::Foreign(_) => NodeErrorCode::Malformed,
        AcceptorError::File(_) => NodeErrorCode::Io,
    };
    NodeError::new(code, error.to_string())
}

/// Keeps an offered layout; an older one is answered with what is kept already.
fn take_offer(
    layouts: &LayoutStore,
    offer: OfferLayoutRequest,
) -> Result<OfferLayoutReply, NodeError> {
    let version = offer.layout.version;
    match layouts.adopt(offer.layout) {
        Ok(is_news) => {
            if is_news {
                tracing::info!(version, "a new layout was offered");
            }
            Ok(OfferLayoutReply { version })
        }
        Err(LayoutError::Older { known, .. }) => Ok(OfferLayoutReply { version: known }),
        Err(error) => {
            tracing::error!(%error, "an offered layout was refused");
            let code = match error {
                LayoutError::File(_) => NodeErrorCode::Io,
                _ => NodeErrorCode::Malformed,
            };
            Err(NodeError::new(code, error.to_string()))
        }
    }
}

/// Answers a Join. A node that comes to a formed cluster is in the layout before it hears that it has joined.
async fn admit(
    authority: Option<Arc<Authority>>,
    control: Option<ControlDoor>,
    join: JoinRequest,
) -> Result<JoinReply, NodeError> {
    let Some(authority) = authority else {
        return Ok(JoinReply::Refused(
            "this node does not admit members: join at the node that `ringfort cluster init` was run for".to_owned(),
        ));
    };
    let (id, name) = (join.id, join.name.clone());
    // It runs to its end when the caller goes; the joiner may ask again.
    let asked = Arc::clone(&authority);
    let answer = off_thread(move || asked.join(&join)).await?;
    let reply = answer.map_err(|error| {
        tracing::error!(%error, "a join could not be carried out");
        NodeError::new(NodeErrorCode::Io, error.to_string())
    })?;
    let is_joined = matches!(reply, JoinReply::Joined { .. });
    let Some(new) = authority.owed_to_layout(id).filter(|_| is_joined) else {
        return Ok(reply);
    };
    let Some(control) = control else {
        return Err(unavailable("this node cannot change the layout"));
    };
    let taking_in = control
        .plane
        .update(|layout| entries::take_in(layout, &new));
    // Stopped half-way, it may still take place: then the next try finds the node in the layout.
    let Ok(taken_in) = tokio::time::timeout(JOIN_MAX, taking_in).await else {
        return Err(unavailable(
            "the layout cannot be changed now; the join can be tried again",
        ));
    };
    match taken_in {
        Ok(layout) => {
            tracing::info!(%name, %id, version = layout.version, "a node is in the layout; it holds nothing yet");
            Ok(reply)
        }
        Err(ControlError::Refused(why)) => Ok(JoinReply::Refused(why)),
        Err(error) => {
            tracing::warn!(%name, %id, %error, "a node that joins is not in the layout yet");
            Err(unavailable(format!("{error}; the join can be tried again")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::ballot::Ballot;
    use ringfort_ring::id::{Era, NodeId};
    use ringfort_wire::message::{ControlPrepareRequest, PingReply, PingRequest, Role};

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
        let prepare = Request::ControlPrepare(ControlPrepareRequest {
            ballot: Ballot::ZERO,
            known: (Era(0), 1),
        });
        for request in [ping(), prepare] {
            let refusal = ask(Peer::Stranger, request).await.unwrap_err();
            assert_eq!(refusal.code, NodeErrorCode::Unauthorised);
        }
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
