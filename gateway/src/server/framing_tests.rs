//! The framing's table of good and hostile requests, whole and byte by byte.

use super::*;
use proptest::prelude::*;

fn run(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Broken>, Framing) {
    let mut framing = Framing::default();
    let mut out = BytesMut::new();
    for piece in pieces {
        if let Err(broken) = framing.push(Bytes::copy_from_slice(piece), &mut out) {
            return (out.to_vec(), Err(broken), framing);
        }
    }
    (out.to_vec(), Ok(()), framing)
}

/// The code with which the request is refused, the same whole and byte by byte.
fn refused(request: &[u8]) -> Option<ErrorCode> {
    let code = |result| match result {
        Err(Broken::Head { error, .. }) => Some(error.code),
        Err(Broken::Body(_)) => panic!("the head passed"),
        Ok(()) => None,
    };
    let whole = code(run(&[request]).1);
    let bytes: Vec<&[u8]> = request.chunks(1).collect();
    let (out, one_by_one, _) = run(&bytes);
    assert_eq!(code(one_by_one), whole);
    if whole.is_some() {
        assert!(out.is_empty(), "nothing of a refused head is passed on");
    }
    whole
}

fn head(lines: &str) -> Vec<u8> {
    format!("PUT /b/k HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

#[test]
fn good_requests_pass_unchanged_and_end_where_they_end() {
    for request in [
        head(""),
        head("X-Amz-Meta-A: \u{e9}\t x\r\n"),
        [head("Content-Length: 5\r\n"), b"hello".to_vec()].concat(),
        [
            head("Transfer-Encoding: Chunked\r\n"),
            b"5\r\nhello\r\n00a\r\n0123456789\r\n0\r\n\r\n".to_vec(),
        ]
        .concat(),
        [
            head("Transfer-Encoding: chunked\r\n"),
            b"0\r\nx-a: b\r\n\r\n".to_vec(),
        ]
        .concat(),
        b"GET /health/ready HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let twice = [request.clone(), request.clone()].concat();
        let bytes: Vec<&[u8]> = twice.chunks(1).collect();
        for pieces in [vec![&twice[..]], bytes] {
            let (out, result, framing) = run(&pieces);
            result.unwrap();
            assert_eq!(out, twice);
            assert!(framing.is_idle());
        }
    }
}

#[test]
fn an_empty_line_before_a_request_is_dropped() {
    let (out, result, framing) = run(&[b"\r\n\r\n", &head("")]);
    result.unwrap();
    assert_eq!(out, head(""));
    assert!(framing.is_idle());
}

#[test]
fn row_164_a_length_beside_chunks_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert_eq!(
            refused(&head(lines)),
            Some(ErrorCode::BadRequest),
            "{lines}"
        );
    }
}

#[test]
fn row_165_odd_lengths_are_refused() {
    for value in [
        "1, 2",
        "+1",
        "-1",
        "18446744073709551617",
        "0x5",
        "",
        "1 2",
        "1;2",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        assert_eq!(
            refused(&head(&lines)),
            Some(ErrorCode::BadRequest),
            "{value}"
        );
    }
    let two = head("Content-Length: 1\r\nContent-Length: 2\r\n");
    assert_eq!(refused(&two), Some(ErrorCode::BadRequest));
}

#[test]
fn row_167_malformed_header_lines_are_refused() {
    for lines in [
        "A: b\r\n c\r\n",
        "A : b\r\n",
        "A: b\0c\r\n",
        "A: b\rc\r\n",
        "Ab\r\n",
        ": b\r\n",
        " A: b\r\n",
        "A\u{e9}: b\r\n",
    ] {
        assert_eq!(
            refused(&head(lines)),
            Some(ErrorCode::BadRequest),
            "{lines:?}"
        );
    }
}

#[test]
fn row_168_bare_line_feeds_and_other_than_one_host_are_refused() {
    for request in [
        &b"GET / HTTP/1.1\nHost: h\n\n"[..],
        b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: b\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    ] {
        assert_eq!(refused(request), Some(ErrorCode::BadRequest));
    }
}

#[test]
fn row_169_other_targets_than_paths_are_refused() {
    let with = |line: &str| format!("{line}\r\nHost: h\r\n\r\n").into_bytes();
    for (line, code) in [
        (
            "GET http://169.254.169.254/latest HTTP/1.1",
            ErrorCode::InvalidURI,
        ),
        ("OPTIONS * HTTP/1.1", ErrorCode::InvalidURI),
        ("GET /a#b HTTP/1.1", ErrorCode::InvalidURI),
        ("GET /a b HTTP/1.1", ErrorCode::InvalidURI),
        ("GET /\u{e9} HTTP/1.1", ErrorCode::InvalidURI),
        ("CONNECT h:1 HTTP/1.1", ErrorCode::MethodNotAllowed),
        ("TRACE / HTTP/1.1", ErrorCode::MethodNotAllowed),
        ("GET / HTTP/2.0", ErrorCode::BadRequest),
        ("GET /", ErrorCode::BadRequest),
        ("G(T / HTTP/1.1", ErrorCode::BadRequest),
        ("PRI * HTTP/2.0", ErrorCode::BadRequest),
    ] {
        assert_eq!(refused(&with(line)), Some(code), "{line}");
    }
}

#[test]
fn rows_103_104_and_171_long_heads_are_refused_with_bounded_memory() {
    let long = |n| head(&format!("A: {}\r\n", "x".repeat(n)));
    for n in [16 * 1024, 100 * 1024, 1 << 20] {
        assert_eq!(
            refused(&long(n)),
            Some(ErrorCode::RequestHeaderSectionTooLarge),
            "{n}"
        );
    }
    assert_eq!(refused(&long(8 * 1024)), None);
    assert_eq!(refused(&head(&"A: b\r\n".repeat(200))), None);
    assert_eq!(
        refused(&head(&"A: b\r\n".repeat(300))),
        Some(ErrorCode::RequestHeaderSectionTooLarge)
    );
    let path = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(64 * 1024));
    assert_eq!(refused(path.as_bytes()), Some(ErrorCode::URITooLong));
    let mut framing = Framing::default();
    let _ = framing.push(Bytes::from(long(1 << 20)), &mut BytesMut::new());
    assert!(framing.pending.capacity() <= 64 * 1024);
}

#[test]
fn a_malformed_chunked_body_is_not_followed() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n",
        "0x5\r\n",
        "+5\r\n",
        "\r\n",
        "5;a=b\r\n",
        "-1\r\n",
        "ffffffffffffffff\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n\n",
    ] {
        let request = [
            head("Transfer-Encoding: chunked\r\n"),
            body.as_bytes().to_vec(),
        ]
        .concat();
        let (_, result, _) = run(&[&request]);
        assert!(matches!(result, Err(Broken::Body(_))), "{body:?}");
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert!(matches!(run(&bytes).1, Err(Broken::Body(_))), "{body:?}");
    }
}

#[test]
fn row_176_a_body_is_never_read_as_a_request() {
    let hidden = b"GET /secret HTTP/1.1\r\nHost: h\r\n\r\n";
    let lines = format!("Content-Length: {}\r\n", hidden.len());
    let (out, result, framing) = run(&[&head(&lines), hidden]);
    result.unwrap();
    assert_eq!(out, [head(&lines), hidden.to_vec()].concat());
    assert!(framing.is_idle());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<proptest::sample::Index>()) {
        let cut = cut.index(bytes.len() + 1);
        let (whole, first, _) = run(&[&bytes]);
        let (pieces, second, _) = run(&[&bytes[..cut], &bytes[cut..]]);
        if first.is_ok() && second.is_ok() {
            prop_assert_eq!(whole, pieces);
        } else {
            prop_assert_eq!(first.is_err(), second.is_err());
        }
    }

    #[test]
    fn lines_in_pieces_are_read_alike(index in 0..6_usize, cut in any::<proptest::sample::Index>()) {
        let bodies = ["", "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "1\r\na\r\n1\r\nb\r\n0\r\nt: u\r\n\r\n", "5\r\nhel", "z"];
        let request = [head("Transfer-Encoding: chunked\r\n"), bodies[index].as_bytes().to_vec()].concat();
        let cut = cut.index(request.len() + 1);
        let (whole, first, _) = run(&[&request]);
        let (pieces, second, _) = run(&[&request[..cut], &request[cut..]]);
        prop_assert_eq!(first.is_err(), second.is_err());
        if first.is_ok() {
            prop_assert_eq!(whole, pieces);
        }
    }
}
