//! Client and server over real loopback sockets and TLS.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::authority::Authority;
use crate::error::NodeErrorCode;
use crate::frame::{Frame, FrameType, Label, PAYLOAD_MAX_BYTES};
use crate::hello::{Hello, PROTOCOLS};
use crate::link::FrameReader;
use crate::message::{self, FetchChunkReply, PingRequest};
use crate::server::{LaneLimits, ServerOptions};
use crate::testing::*;
use crate::transport::{Peer, call};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn authority() -> Authority {
    Authority::create(CLUSTER).unwrap()
}

/// A gateway's transport that knows node A.
fn transport(authority: &Authority, served: &Served) -> Arc<TcpTransport> {
    transport_with(authority, served, ClientOptions::default())
}

fn transport_with(
    authority: &Authority,
    served: &Served,
    options: ClientOptions,
) -> Arc<TcpTransport> {
    let identity = identity(authority, GATEWAY, Role::Gateway);
    let transport = client(&identity, 1, options);
    transport.set_address(A, &served.address.to_string());
    transport
}

async fn send(
    transport: &TcpTransport,
    request: Request,
    payload: Payload,
) -> Result<(Response, Payload), CallError> {
    transport
        .send(A, Lane::Chunks, request, payload, LONG)
        .await
}

fn refused_with(outcome: Result<(Response, Payload), CallError>) -> NodeErrorCode {
    match outcome {
        Err(CallError::Refused(error)) => error.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn assert_unreachable<T: std::fmt::Debug>(outcome: &Result<T, CallError>) {
    assert!(
        matches!(outcome, Err(CallError::Unreachable(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer_and_the_peer_is_who_its_certificate_says() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let transport = transport(&authority, &served);
    let calls = (0..300_u32).map(|len| {
        let lane = Lane::ALL[len as usize % 3];
        let transport = &transport;
        async move {
            let (response, payload) = transport
                .send(A, lane, fetch(len), Payload::new(), LONG)
                .await
                .unwrap();
            assert_eq!(response, Response::FetchChunk(FetchChunkReply::Found));
            assert_eq!(payload, vec![len.to_le_bytes()[0]; len as usize]);
        }
    });
    join_all(calls).await;
    assert_eq!(
        events.recv().await.unwrap(),
        Event::Started(Peer::Member(GATEWAY), "FetchChunk")
    );
    let (reply, _) = call(
        &*transport,
        A,
        Lane::Metadata,
        PingRequest {},
        Payload::new(),
        LONG,
    )
    .await
    .unwrap();
    assert_eq!(Response::Ping(reply), pong());
}

#[tokio::test]
async fn the_largest_payload_goes_both_ways_and_a_larger_one_is_refused_before_it_is_sent() {
    let authority = authority();
    let served = Served::start(identity(&authority, A, Role::Node), Echo::shared()).await;
    let transport = transport(&authority, &served);
    let bytes: Vec<u8> = (0..PAYLOAD_MAX_BYTES)
        .map(|at| at.to_le_bytes()[1])
        .collect();
    let largest = Payload::from(bytes);
    let calls = (0..4).map(|_| send(&transport, ping(), largest.clone()));
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap(), (pong(), largest.clone()));
    }
    let larger = Payload::from(vec![0; PAYLOAD_MAX_BYTES as usize + 1]);
    let outcome = send(&transport, ping(), larger).await;
    assert_eq!(refused_with(outcome), NodeErrorCode::Malformed);
    // So is an answer that is too large, and the connection lives on.
    let outcome = send(&transport, fetch(PAYLOAD_MAX_BYTES + 1), Payload::new()).await;
    assert_eq!(refused_with(outcome), NodeErrorCode::Malformed);
    assert!(send(&transport, ping(), Payload::new()).await.is_ok());
}

#[tokio::test]
async fn an_error_of_the_node_and_a_panic_in_it_are_refusals() {
    let authority = authority();
    let served = Served::start(identity(&authority, A, Role::Node), Echo::shared()).await;
    let transport = transport(&authority, &served);
    let full = Request::GetLayout(message::GetLayoutRequest { have_version: 0 });
    let outcome = send(&transport, full, Payload::new()).await;
    assert_eq!(refused_with(outcome), NodeErrorCode::Full);
    let outcome = send(&transport, fetch(PANIC), Payload::new()).await;
    assert_eq!(refused_with(outcome), NodeErrorCode::Unavailable);
    assert!(send(&transport, ping(), Payload::new()).await.is_ok());
}

#[tokio::test]
async fn a_server_killed_in_mid_call_is_unreachable_and_is_found_again_when_it_is_back() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let transport = transport(&authority, &served);
    let address = served.address;
    let hanging = tokio::spawn(transport.send(A, Lane::Chunks, fetch(HANG), Payload::new(), LONG));
    events.recv().await.unwrap();
    served.kill().await;
    assert_unreachable(&hanging.await.unwrap());
    // Nobody listens there now: no call waits for its deadline.
    let again = send(&transport, ping(), Payload::new()).await;
    assert_unreachable(&again);

    let listener = TcpListener::bind(address).await.unwrap();
    let node = identity(&authority, A, Role::Node);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let era = Arc::default();
        crate::server::serve(
            listener,
            &node,
            Echo::shared(),
            era,
            ServerOptions::default(),
            stopped,
        )
        .await
        .unwrap();
    });
    let back = async {
        while send(&transport, ping(), Payload::new()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, back).await.unwrap();
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_node_stops_working_on_it() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let transport = transport(&authority, &served);
    send(&transport, ping(), Payload::new()).await.unwrap();
    events.recv().await.unwrap();
    let short = Duration::from_secs(1);
    let outcome = transport
        .send(A, Lane::Chunks, fetch(HANG), Payload::new(), short)
        .await;
    assert_eq!(outcome, Err(CallError::TimedOut));
    assert!(matches!(events.recv().await, Some(Event::Started(..))));
    assert_eq!(events.recv().await, Some(Event::Dropped));
}

#[tokio::test]
async fn a_call_that_its_caller_drops_is_cancelled_at_the_node() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let transport = transport(&authority, &served);
    let hanging = tokio::spawn(transport.send(A, Lane::Chunks, fetch(HANG), Payload::new(), LONG));
    assert!(matches!(events.recv().await, Some(Event::Started(..))));
    hanging.abort();
    assert_eq!(events.recv().await, Some(Event::Dropped));
}

#[tokio::test]
async fn a_node_that_accepts_and_never_speaks_is_given_up_in_bounded_time() {
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let identity = identity(&authority, GATEWAY, Role::Gateway);
    let transport = client(
        &identity,
        1,
        ClientOptions {
            connect_max: Duration::from_millis(100),
            ..ClientOptions::default()
        },
    );
    transport.set_address(A, &listener.local_addr().unwrap().to_string());
    let outcome = timeout(LONG, send(&transport, ping(), Payload::new())).await;
    assert_unreachable(&outcome.unwrap());
}

#[tokio::test]
async fn a_full_lane_makes_calls_wait_in_their_callers_and_other_lanes_go_on() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let one = PoolOptions {
        connections: 1,
        in_flight_max: 1,
    };
    let options = ClientOptions {
        repair: one,
        ..ClientOptions::default()
    };
    let transport = transport_with(&authority, &served, options);
    let hanging = tokio::spawn(transport.send(A, Lane::Repair, fetch(HANG), Payload::new(), LONG));
    events.recv().await.unwrap();
    let short = Duration::from_millis(50);
    let waiting = transport.send(A, Lane::Repair, ping(), Payload::new(), short);
    assert_eq!(waiting.await, Err(CallError::TimedOut));
    send(&transport, ping(), Payload::new()).await.unwrap();
    hanging.abort();
    let freed = transport.send(A, Lane::Repair, ping(), Payload::new(), LONG);
    assert!(freed.await.is_ok());
}

#[tokio::test]
async fn what_is_above_the_servers_limits_waits_and_is_served_later() {
    let authority = authority();
    let tight = LaneLimits {
        on_connection_max: 2,
        in_all_max: 2,
        bytes_max: 0,
    };
    let options = ServerOptions {
        chunks: tight,
        ..ServerOptions::default()
    };
    let node = identity(&authority, A, Role::Node);
    let served = Served::start_with(node, Echo::shared(), options).await;
    let transport = transport(&authority, &served);
    let payload = Payload::from(vec![7; 3 * 1024 * 1024]);
    let calls = (0..30).map(|_| send(&transport, ping(), payload.clone()));
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap().1, payload);
    }
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_under_way_and_takes_no_more() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let options = ServerOptions {
        drain_max: Duration::from_secs(2),
        ..ServerOptions::default()
    };
    let node = identity(&authority, A, Role::Node);
    let served = Served::start_with(node, service, options).await;
    let transport = transport(&authority, &served);
    let big = Payload::from(vec![1; 1024 * 1024]);
    let slow = tokio::spawn(transport.send(A, Lane::Chunks, ping(), big.clone(), LONG));
    let hanging = tokio::spawn(transport.send(A, Lane::Repair, fetch(HANG), Payload::new(), LONG));
    events.recv().await.unwrap();
    events.recv().await.unwrap();
    served.stop.send(true).unwrap();
    assert_eq!(slow.await.unwrap().unwrap().1, big);
    assert_unreachable(&hanging.await.unwrap());
    timeout(LONG, served.task).await.unwrap().unwrap();
    let outcome = send(&transport, ping(), Payload::new()).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn an_older_era_is_refused_everything_but_the_way_to_the_newer_one() {
    let authority = authority();
    let served = Served::start(identity(&authority, A, Role::Node), Echo::shared()).await;
    let transport = transport(&authority, &served);
    send(&transport, fetch(1), Payload::new()).await.unwrap();
    served.era.raise(Era(2));
    let outcome = send(&transport, fetch(1), Payload::new()).await;
    assert_eq!(refused_with(outcome), NodeErrorCode::WrongCluster);
    send(&transport, ping(), Payload::new()).await.unwrap();
    transport.era.raise(Era(2));
    send(&transport, fetch(1), Payload::new()).await.unwrap();
}

#[tokio::test]
async fn the_certificate_of_another_node_or_of_a_gateway_or_another_authority_is_not_taken_for_the_node()
 {
    let authority = authority();
    let foreign = Authority::create(CLUSTER).unwrap();
    for wrong in [
        identity(&authority, B, Role::Node),
        identity(&authority, A, Role::Gateway),
        identity(&foreign, A, Role::Node),
    ] {
        let (service, mut events) = Echo::watched();
        let served = Served::start(wrong, service).await;
        let transport = transport(&authority, &served);
        let outcome = send(&transport, ping(), Payload::new()).await;
        assert_unreachable(&outcome);
        assert!(events.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_member_of_another_authority_is_refused_by_the_node() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    // It trusts the node, by knowing its authority; but its own certificate is another's.
    let foreign = identity(&Authority::create(CLUSTER).unwrap(), GATEWAY, Role::Gateway);
    let hello = hello_of(Some(CLUSTER));
    let tls = tls::stranger_config(authority.fingerprint()).unwrap();
    let mut with_certificate = ClientConfig::clone(&tls);
    let theirs = tls::client_config(&foreign).unwrap();
    with_certificate.client_auth_cert_resolver = Arc::clone(&theirs.client_auth_cert_resolver);
    let outcome = converse(&served, Arc::new(with_certificate), &hello, ping()).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn any_node_of_the_cluster_answers_at_an_address_and_says_who_it_is() {
    let authority = authority();
    let served = Served::start(identity(&authority, B, Role::Node), Echo::shared()).await;
    let member = client(
        &identity(&authority, GATEWAY, Role::Gateway),
        1,
        ClientOptions::default(),
    );
    let answer = member.ask(&served.address.to_string(), ping(), LONG).await;
    assert_eq!(answer, Ok((B, pong())));
    let other = Authority::create(CLUSTER).unwrap();
    let outsider = client(
        &identity(&other, GATEWAY, Role::Gateway),
        1,
        ClientOptions::default(),
    );
    let answer = outsider
        .ask(&served.address.to_string(), ping(), LONG)
        .await;
    assert_unreachable(&answer);
}

fn hello_of(cluster: Option<ClusterId>) -> Hello {
    Hello {
        protocol_min: PROTOCOLS.0,
        protocol_max: PROTOCOLS.1,
        cluster,
        sender: GATEWAY,
        role: Role::Gateway,
        lane: Lane::Metadata.number(),
        extensions: Vec::new(),
    }
}

/// A conversation by hand: hello, one request, its answer.
async fn converse(
    served: &Served,
    tls: Arc<ClientConfig>,
    hello: &Hello,
    request: Request,
) -> Result<FrameType, CallError> {
    let address = served.address.to_string();
    let mut stream = connect(&address, tls::any_node(), tls).await?;
    let era = CurrentEra::new(Era(1));
    say_hello(&mut stream, hello, &era, LONG).await?;
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, LONG);
    read_welcome(&mut reader).await?;
    let label = Label {
        frame_type: FrameType::Request,
        kind: request.kind(),
        id: 1,
        deadline_ms: 60_000,
        era: Era(1),
    };
    let frame = Frame::new(label, &request.encode(), Payload::new()).unwrap();
    crate::link::write_one(&mut write, frame, LONG)
        .await
        .map_err(unreachable)?;
    loop {
        let header = reader.header().await.map_err(unreachable)?;
        let (body, _) = reader.data(&header).await.map_err(unreachable)?;
        match header.frame_type {
            FrameType::Heartbeat => {}
            FrameType::Error => return Err(CallError::Refused(message::decode(&body).unwrap())),
            other => return Ok(other),
        }
    }
}

#[tokio::test]
async fn a_stranger_may_join_and_nothing_else() {
    let authority = authority();
    let (service, mut events) = Echo::watched();
    let served = Served::start(identity(&authority, A, Role::Node), service).await;
    let tls = tls::stranger_config(authority.fingerprint()).unwrap();
    for request in [ping(), fetch(1)] {
        for cluster in [None, Some(CLUSTER)] {
            let hello = hello_of(cluster);
            let outcome = converse(&served, Arc::clone(&tls), &hello, request.clone()).await;
            assert!(
                matches!(&outcome, Err(CallError::Refused(error)) if error.code == NodeErrorCode::Unauthorised),
                "{outcome:?}"
            );
        }
    }
    assert!(events.try_recv().is_err());
    let join = Request::Join(join_request());
    let outcome = converse(&served, tls, &hello_of(None), join).await;
    assert_eq!(outcome, Ok(FrameType::Response));
    assert_eq!(
        events.recv().await,
        Some(Event::Started(Peer::Stranger, "Join"))
    );
}

#[tokio::test]
async fn a_hello_that_the_certificate_does_not_bear_out_is_refused_with_the_reason() {
    let authority = authority();
    let served = Served::start(identity(&authority, A, Role::Node), Echo::shared()).await;
    let tls = tls::client_config(&identity(&authority, GATEWAY, Role::Gateway)).unwrap();
    let other_cluster = hello_of(Some(ClusterId([1; 16])));
    let other_sender = Hello {
        sender: B,
        ..hello_of(Some(CLUSTER))
    };
    for (hello, code) in [
        (other_cluster, NodeErrorCode::WrongCluster),
        (other_sender, NodeErrorCode::Unauthorised),
    ] {
        let outcome = converse(&served, Arc::clone(&tls), &hello, ping()).await;
        assert!(
            matches!(&outcome, Err(CallError::Refused(error)) if error.code == code),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn garbage_at_the_port_does_no_harm_and_silence_is_cut() {
    let authority = authority();
    let options = ServerOptions {
        handshake_max: Duration::from_secs(2),
        unproved_max: 4,
        ..ServerOptions::default()
    };
    let node = identity(&authority, A, Role::Node);
    let served = Served::start_with(node, Echo::shared(), options).await;
    let transport = transport(&authority, &served);
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
        &[0x16, 3, 1, 0xff, 0xff],
        &[],
    ];
    join_all(garbage.map(async |garbage| {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        // The server closes by itself; how much it says before does not matter.
        let mut rest = Vec::new();
        let _ = timeout(LONG, socket.read_to_end(&mut rest)).await.unwrap();
    }))
    .await;
    send(&transport, ping(), Payload::new()).await.unwrap();
    // Behind TLS too, before the hello and after it.
    let tls = tls::client_config(&identity(&authority, GATEWAY, Role::Gateway)).unwrap();
    for says_hello in [false, true] {
        let address = served.address.to_string();
        let mut stream = connect(&address, tls::any_node(), Arc::clone(&tls))
            .await
            .unwrap();
        if says_hello {
            let era = CurrentEra::new(Era(1));
            say_hello(&mut stream, &hello_of(Some(CLUSTER)), &era, LONG)
                .await
                .unwrap();
        }
        stream.write_all(&[0x5a; 5000]).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
    }
    send(&transport, ping(), Payload::new()).await.unwrap();
}

#[tokio::test]
async fn a_member_or_stranger_that_falls_silent_after_its_hello_is_cut_by_the_node() {
    let authority = authority();
    let options = ServerOptions {
        liveness: Liveness {
            silence_max: Duration::from_millis(500),
            ..Liveness::default()
        },
        ..ServerOptions::default()
    };
    let node = identity(&authority, A, Role::Node);
    let served = Served::start_with(node, Echo::shared(), options).await;
    let member = tls::client_config(&identity(&authority, GATEWAY, Role::Gateway)).unwrap();
    let stranger = tls::stranger_config(authority.fingerprint()).unwrap();
    for (tls, cluster) in [(member, Some(CLUSTER)), (stranger, None)] {
        let address = served.address.to_string();
        let mut stream = connect(&address, tls::any_node(), tls).await.unwrap();
        let era = CurrentEra::new(Era(1));
        say_hello(&mut stream, &hello_of(cluster), &era, LONG)
            .await
            .unwrap();
        // Welcome and heartbeats, and then the end.
        let mut heard = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut heard)).await.unwrap();
        assert!(!heard.is_empty());
    }
}

/// The client's end of a connection over memory, with a node's end that has said welcome.
async fn over_memory() -> (Connection, tokio::io::DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
    let sender = Name {
        id: GATEWAY,
        role: Role::Gateway,
        cluster: CLUSTER,
    };
    let welcome = crate::hello::Welcome {
        protocol: 1,
        cluster: CLUSTER,
        node: A,
        extensions: Vec::new(),
    };
    let label = Label::plain(FrameType::Welcome, Era(1));
    let frame = Frame::new(label, &message::encode(&welcome), Payload::new()).unwrap();
    crate::link::write_one(&mut theirs, frame, LONG)
        .await
        .unwrap();
    let options = ConnectionOptions {
        lane: Lane::Metadata,
        in_flight_max: 8,
        liveness: Liveness::default(),
        era: Arc::default(),
    };
    let connection = Connection::open(ours, None, &sender, options)
        .await
        .unwrap();
    (connection, theirs)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_noticed_within_two_seconds() {
    let (connection, _theirs) = over_memory().await;
    let started = Instant::now();
    let outcome = connection
        .call(ping(), Payload::new(), started + LONG)
        .await;
    assert_unreachable(&outcome);
    assert!(
        started.elapsed() <= Duration::from_millis(2100),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_sends_heartbeats_may_take_as_long_as_the_deadline() {
    let (connection, theirs) = over_memory().await;
    let (mut read, mut write) = tokio::io::split(theirs);
    let beats = tokio::spawn(async move {
        loop {
            let beat = Frame::bare(Label::plain(FrameType::Heartbeat, Era(1)));
            if crate::link::write_one(&mut write, beat, LONG)
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(Liveness::default().heartbeat).await;
        }
    });
    let swallowed = tokio::spawn(async move {
        let mut sink = [0; 4096];
        while read.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    });
    let started = Instant::now();
    let outcome = connection
        .call(ping(), Payload::new(), started + LONG)
        .await;
    assert_eq!(outcome, Err(CallError::TimedOut));
    assert!(started.elapsed() >= LONG);
    beats.abort();
    swallowed.abort();
}
