//! Whole bodies against whole promises. Row numbers are those of the table of bad inputs.

use super::{BodyDigests, PayloadReader, body_length};
use crate::s3::checksum::{ChecksumAlgorithm, Hasher};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::sigv4::{Client, sign_chunk, verify_for_test};
use bytes::Bytes;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use proptest::prelude::*;
use sha2::Sha256;

const BODY: &[u8] = b"hello world";
const BODY_MD5: &str = "XrY7u+Ae7tCTyyK7j1rNww==";

/// Sends `body` behind these headers, as one piece, and reads it.
fn send(
    payload: &str,
    headers: &[(&'static str, &str)],
    body: &[u8],
) -> Result<(Vec<u8>, BodyDigests), S3Error> {
    let mut client = Client::new("PUT", "/bucket/key").payload(payload);
    for (name, value) in headers {
        client = client.header(name, value);
    }
    let parts = client.sign();
    let verified = verify_for_test(&parts).unwrap();
    let mut reader =
        PayloadReader::new(&verified, &parts.headers, Some(ChecksumAlgorithm::DEFAULT))?;
    let mut data = Vec::new();
    reader.push(Bytes::copy_from_slice(body), &mut data)?;
    Ok((data.concat(), reader.finish()?))
}

fn send_plain(
    payload: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Vec<u8>, BodyDigests), S3Error> {
    send(
        payload,
        &[&[("content-length", "11")], headers].concat(),
        BODY,
    )
}

#[track_caller]
fn check_refused(result: Result<(Vec<u8>, BodyDigests), S3Error>, code: ErrorCode, status: u16) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code, error.status()),
        (code, status),
        "{}",
        error.message
    );
}

fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish().to_base64()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn a_plain_body_gives_its_digests() {
    for payload in ["UNSIGNED-PAYLOAD", &sha256_hex(BODY)] {
        let (data, digests) = send_plain(payload, &[("content-md5", BODY_MD5)]).unwrap();
        assert_eq!(data, BODY);
        assert_eq!(digests.md5, <[u8; 16]>::from(Md5::digest(BODY)));
        assert_eq!(digests.size, 11);
        let default = digests.checksum.unwrap();
        assert_eq!(
            default.to_base64(),
            checksum(ChecksumAlgorithm::Crc64Nvme, BODY)
        );
    }
}

#[test]
fn the_chosen_checksum_takes_the_defaults_place() {
    for algorithm in ChecksumAlgorithm::ALL {
        let value = checksum(algorithm, BODY);
        for payload in ["UNSIGNED-PAYLOAD", &sha256_hex(BODY)] {
            let (_, digests) = send_plain(payload, &[(algorithm.header_name(), &value)]).unwrap();
            let kept = digests.checksum.unwrap();
            assert_eq!(
                (kept.algorithm(), kept.to_base64()),
                (algorithm, value.clone())
            );
        }
    }
}

#[test]
fn no_checksum_is_computed_where_none_is_wanted() {
    let payload = sha256_hex(BODY);
    let parts = Client::new("PUT", "/b/k")
        .payload(&payload)
        .header("content-length", "11")
        .sign();
    let mut reader =
        PayloadReader::new(&verify_for_test(&parts).unwrap(), &parts.headers, None).unwrap();
    reader
        .push(Bytes::from_static(BODY), &mut Vec::new())
        .unwrap();
    assert_eq!(reader.finish().unwrap().checksum, None);
}

#[test]
fn rows_27_and_31_a_body_of_another_hash_is_refused() {
    for body in [&b""[..], b"small", &[b'a'; 65536]] {
        let length = body.len().to_string();
        let other = sha256_hex(b"other bytes");
        let sent = send(&other, &[("content-length", &length)], body);
        let error = sent.as_ref().unwrap_err();
        assert!(
            error
                .extra
                .contains(&("S3ComputedContentSHA256", sha256_hex(body)))
        );
        check_refused(sent, ErrorCode::XAmzContentSHA256Mismatch, 400);
    }
}

#[test]
fn a_body_of_another_length_is_incomplete() {
    for length in ["10", "12"] {
        let sent = send("UNSIGNED-PAYLOAD", &[("content-length", length)], BODY);
        check_refused(sent, ErrorCode::IncompleteBody, 400);
    }
}

#[test]
fn a_body_of_another_digest_is_refused() {
    let sent = send_plain(
        "UNSIGNED-PAYLOAD",
        &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
    );
    check_refused(sent, ErrorCode::BadDigest, 400);
}

#[test]
fn row_99_a_wrong_checksum_is_a_bad_digest() {
    for algorithm in ChecksumAlgorithm::ALL {
        for payload in ["UNSIGNED-PAYLOAD", &sha256_hex(BODY)] {
            let sent = send_plain(
                payload,
                &[(algorithm.header_name(), &checksum(algorithm, b"other"))],
            );
            check_refused(sent, ErrorCode::BadDigest, 400);
        }
    }
}

#[test]
fn row_40_a_body_without_a_length_is_refused() {
    let streaming = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    check_refused(
        send(streaming, &[("content-length", "20")], b""),
        ErrorCode::MissingContentLength,
        411,
    );
    let empty = send(streaming, &[("x-amz-decoded-content-length", "")], b"");
    check_refused(empty, ErrorCode::MissingContentLength, 411);
    check_refused(
        send("UNSIGNED-PAYLOAD", &[], b""),
        ErrorCode::MissingContentLength,
        411,
    );
    let coded = send("UNSIGNED-PAYLOAD", &[("transfer-encoding", "chunked")], b"");
    check_refused(coded, ErrorCode::MissingContentLength, 411);
}

#[test]
fn row_41_a_length_is_a_plain_decimal_number() {
    for length in [
        "-1",
        "18446744073709551616",
        "1e9",
        "0x10",
        "1,2",
        "+1",
        "1 2",
    ] {
        let sent = send(
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            &[("x-amz-decoded-content-length", length)],
            b"",
        );
        check_refused(sent, ErrorCode::InvalidArgument, 400);
    }
    let mut headers = HeaderMap::new();
    headers.append("x-amz-decoded-content-length", "1".parse().unwrap());
    headers.append("x-amz-decoded-content-length", "1".parse().unwrap());
    assert_eq!(
        body_length(&headers, true).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
}

#[test]
fn row_51_a_wrong_trailing_checksum_is_a_bad_digest() {
    let headers = [
        ("x-amz-decoded-content-length", "11"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let send = |value: &str| {
        let body = format!("b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:{value}\r\n\r\n");
        send(
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            &headers,
            body.as_bytes(),
        )
    };
    let (data, digests) = send(&checksum(ChecksumAlgorithm::Crc32, BODY)).unwrap();
    assert_eq!(data, BODY);
    assert_eq!(
        digests.checksum.unwrap().algorithm(),
        ChecksumAlgorithm::Crc32
    );
    check_refused(send("AAAAAA=="), ErrorCode::BadDigest, 400);
}

#[test]
fn a_trailer_is_announced_in_both_places_or_none() {
    for payload in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        &sha256_hex(BODY),
    ] {
        let headers = [
            ("x-amz-decoded-content-length", "11"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        check_refused(
            send_plain(payload, &headers),
            ErrorCode::InvalidRequest,
            400,
        );
    }
    let headers = [("x-amz-decoded-content-length", "11")];
    assert!(
        send(
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            &headers,
            b"b\r\nhello world\r\n0\r\n\r\n"
        )
        .is_ok()
    );
}

#[test]
fn a_checksum_of_the_object_is_none_of_the_document() {
    let payload = sha256_hex(BODY);
    let client = Client::new("PUT", "/b/k?uploadId=1")
        .payload(&payload)
        .header("content-length", "11");
    let parts = client
        .clone()
        .header("x-amz-checksum-crc32", "AAAAAA==-3")
        .sign();
    let verified = verify_for_test(&parts).unwrap();
    let mut reader =
        PayloadReader::for_document_about_an_object(&verified, &parts.headers).unwrap();
    reader
        .push(Bytes::from_static(BODY), &mut Vec::new())
        .unwrap();
    assert!(reader.finish().is_ok());

    let parts = client
        .header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
        .sign();
    let verified = verify_for_test(&parts).unwrap();
    let mut reader =
        PayloadReader::for_document_about_an_object(&verified, &parts.headers).unwrap();
    reader
        .push(Bytes::from_static(BODY), &mut Vec::new())
        .unwrap();
    assert_eq!(reader.finish().unwrap_err().code, ErrorCode::BadDigest);
}

/// The seed of the chain is the signature of the request itself.
#[test]
fn signed_chunks_hang_on_the_requests_signature() {
    let client = Client::new("PUT", "/bucket/key")
        .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .header("x-amz-decoded-content-length", "11");
    let parts = client.sign();
    let authorization = parts.headers["authorization"].to_str().unwrap();
    let seed = authorization.rsplit_once('=').unwrap().1;
    let first = sign_chunk(seed, BODY);
    let last = sign_chunk(&first, b"");
    let body =
        format!("b;chunk-signature={first}\r\nhello world\r\n0;chunk-signature={last}\r\n\r\n");
    let mut reader =
        PayloadReader::new(&verify_for_test(&parts).unwrap(), &parts.headers, None).unwrap();
    let mut data = Vec::new();
    reader.push(Bytes::from(body.clone()), &mut data).unwrap();
    assert_eq!(reader.finish().unwrap().size, 11);

    let mut reader =
        PayloadReader::new(&verify_for_test(&parts).unwrap(), &parts.headers, None).unwrap();
    let forged = body.replace("world", "w0rld");
    let error = reader.push(Bytes::from(forged), &mut data).unwrap_err();
    assert_eq!(error.code, ErrorCode::SignatureDoesNotMatch);
    assert_eq!(reader.push(Bytes::new(), &mut data).unwrap_err(), error);
    assert_eq!(reader.finish().unwrap_err(), error);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(body in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
        let parts = Client::new("PUT", "/b/k")
            .payload(&sha256_hex(&body))
            .header("content-length", &body.len().to_string())
            .sign();
        let verified = verify_for_test(&parts).unwrap();
        let mut reader = PayloadReader::new(&verified, &parts.headers, Some(ChecksumAlgorithm::DEFAULT)).unwrap();
        let mut data = Vec::new();
        for piece in body.chunks(piece) {
            reader.push(Bytes::copy_from_slice(piece), &mut data).unwrap();
        }
        prop_assert_eq!(data.concat(), body.clone());
        prop_assert_eq!(reader.finish().unwrap().md5, <[u8; 16]>::from(Md5::digest(&body)));
    }
}
