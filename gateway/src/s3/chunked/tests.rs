//! Bodies in chunks, good and bad. Row numbers are those of the table of bad inputs.

use super::{ChunkFraming, ChunkedDecoder, Trailers, without_aws_chunked};
use crate::s3::checksum::{ChecksumAlgorithm, Hasher};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::sigv4::{sign_chunk, sign_trailer, streaming_signer};
use bytes::Bytes;
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];
const CRC32: Option<ChecksumAlgorithm> = Some(ChecksumAlgorithm::Crc32);

fn decode_in(
    framing: ChunkFraming,
    length: u64,
    pieces: &[&[u8]],
) -> Result<(Vec<u8>, Trailers), S3Error> {
    let mut decoder = ChunkedDecoder::new(framing, length);
    let mut data = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece), &mut data)?;
    }
    Ok((data.concat(), decoder.finish()?))
}

fn decode_unsigned(body: &[u8], length: u64) -> Result<(Vec<u8>, Trailers), S3Error> {
    decode_in(ChunkFraming::UnsignedWithTrailer(None), length, &[body])
}

fn decode_crc32(body: &[u8], length: u64) -> Result<(Vec<u8>, Trailers), S3Error> {
    decode_in(ChunkFraming::UnsignedWithTrailer(CRC32), length, &[body])
}

fn decode_signed(body: &[u8], length: u64) -> Result<(Vec<u8>, Trailers), S3Error> {
    decode_in(
        ChunkFraming::Signed(streaming_signer(SEED)),
        length,
        &[body],
    )
}

fn decode_signed_trailer(body: &[u8], length: u64) -> Result<(Vec<u8>, Trailers), S3Error> {
    decode_in(
        ChunkFraming::SignedWithTrailer(streaming_signer(SEED), CRC32),
        length,
        &[body],
    )
}

#[track_caller]
fn check_refused(result: Result<(Vec<u8>, Trailers), S3Error>, code: ErrorCode) -> S3Error {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{}", error.message);
    error
}

/// Signed chunks and the last, empty one; and the last signature.
fn signed_chunks(chunks: &[&[u8]]) -> (Vec<u8>, String) {
    let mut previous = hex::encode(SEED);
    let mut body = Vec::new();
    for chunk in chunks.iter().chain([&&b""[..]]) {
        previous = sign_chunk(&previous, chunk);
        body.extend_from_slice(
            format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes(),
        );
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    (body, previous)
}

fn signed(chunks: &[&[u8]]) -> Vec<u8> {
    let (mut body, _) = signed_chunks(chunks);
    body.extend_from_slice(b"\r\n");
    body
}

fn crc32(data: &[u8]) -> String {
    let mut hasher = Hasher::new(ChecksumAlgorithm::Crc32);
    hasher.update(data);
    hasher.finish().to_base64()
}

fn signed_with_trailer(chunks: &[&[u8]], separator: &str) -> Vec<u8> {
    let (mut body, previous) = signed_chunks(chunks);
    let value = crc32(&chunks.concat());
    let signature = sign_trailer(&previous, &format!("x-amz-checksum-crc32:{value}\n"));
    let trailer = format!(
        "x-amz-checksum-crc32:{value}{separator}x-amz-trailer-signature:{signature}\r\n\r\n"
    );
    body.extend_from_slice(trailer.as_bytes());
    body
}

fn unsigned_with_trailer(chunks: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(
        format!(
            "0\r\nx-amz-checksum-crc32:{}\r\n\r\n",
            crc32(&chunks.concat())
        )
        .as_bytes(),
    );
    body
}

#[test]
fn boto3s_form_is_read() {
    let (data, trailers) = decode_crc32(
        b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
        5,
    )
    .unwrap();
    assert_eq!(data, b"hello");
    assert_eq!(trailers.checksum.unwrap().to_base64(), "NhCmhg==");
    assert_eq!(decode_unsigned(b"0\r\n\r\n", 0).unwrap().0, b"");
}

/// The Java SDK signs chunks of 128 KiB; some others set the trailer's signature off with an empty line.
#[test]
fn signed_forms_are_read() {
    let chunk = vec![b'a'; 128 * 1024];
    let chunks: [&[u8]; 3] = [&chunk, &chunk, b"rest"];
    let length = 2 * 128 * 1024 + 4;
    assert_eq!(
        decode_signed(&signed(&chunks), length).unwrap().0,
        chunks.concat()
    );
    assert_eq!(decode_signed(&signed(&[]), 0).unwrap().0, b"");
    for separator in ["\r\n", "\n\r\n", "\n"] {
        let (data, trailers) =
            decode_signed_trailer(&signed_with_trailer(&chunks, separator), length).unwrap();
        assert_eq!(data, chunks.concat());
        assert_eq!(trailers.checksum.unwrap().to_base64(), crc32(&data));
    }
}

/// The signatures of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>.
#[test]
fn the_documented_chunks_are_accepted() {
    let mut seed = [0; 32];
    hex::decode_to_slice(
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        &mut seed,
    )
    .unwrap();
    let body = [
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n".to_vec(),
        vec![b'a'; 65536],
        b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n".to_vec(),
        vec![b'a'; 1024],
        b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n".to_vec(),
    ]
    .concat();
    assert_eq!(body.len(), 66_824);
    let framing = ChunkFraming::Signed(streaming_signer(seed));
    assert_eq!(
        decode_in(framing, 66_560, &[&body]).unwrap().0,
        vec![b'a'; 66_560]
    );
}

/// The signatures of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>.
#[test]
fn the_documented_trailer_is_accepted() {
    let mut seed = [0; 32];
    hex::decode_to_slice(
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        &mut seed,
    )
    .unwrap();
    let body = [
        b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n".to_vec(),
        vec![b'a'; 65536],
        b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n".to_vec(),
        vec![b'a'; 1024],
        b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n".to_vec(),
        b"x-amz-checksum-crc32c:sOO8/Q==\r\n".to_vec(),
        b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n".to_vec(),
    ]
    .concat();
    let framing =
        ChunkFraming::SignedWithTrailer(streaming_signer(seed), Some(ChecksumAlgorithm::Crc32c));
    assert_eq!(
        decode_in(framing, 66_560, &[&body]).unwrap().0,
        vec![b'a'; 66_560]
    );
}

#[test]
fn row_39_the_decoded_length_is_exact() {
    let chunk = vec![b'a'; 9000];
    for length in [8999, 9001] {
        check_refused(
            decode_signed(&signed(&[&chunk]), length),
            ErrorCode::IncompleteBody,
        );
        check_refused(
            decode_crc32(&unsigned_with_trailer(&[&chunk]), length),
            ErrorCode::IncompleteBody,
        );
    }
}

#[test]
fn row_43_only_the_last_signed_chunk_may_be_small() {
    let (small, enough) = (vec![b'a'; 8191], vec![b'b'; 8192]);
    let error = check_refused(
        decode_signed(&signed(&[&enough, &small, b"rest"]), 8192 + 8191 + 4),
        ErrorCode::InvalidChunkSizeError,
    );
    assert_eq!(error.status(), 400);
    assert_eq!(
        error.extra,
        [
            ("Chunk", "2".to_owned()),
            ("BadChunkSize", "8191".to_owned())
        ]
    );
    assert!(decode_signed(&signed(&[&enough, &small]), 8192 + 8191).is_ok());
    assert!(decode_crc32(&unsigned_with_trailer(&[b"a", b"b"]), 2).is_ok());
}

#[test]
fn row_44_a_chunk_without_its_signature_is_refused() {
    check_refused(
        decode_signed(b"5\r\nhello\r\n0\r\n\r\n", 5),
        ErrorCode::IncompleteBody,
    );
    let (body, previous) = signed_chunks(&[b"hello"]);
    let body = String::from_utf8(body)
        .unwrap()
        .replace(&format!("0;chunk-signature={previous}"), "0");
    check_refused(
        decode_signed(format!("{body}\r\n").as_bytes(), 5),
        ErrorCode::IncompleteBody,
    );
}

#[test]
fn a_wrong_chunk_signature_does_not_match() {
    let chunk = vec![b'a'; 9000];
    let good = signed(&[&chunk, b"rest"]);
    for at in [100, 5000, 9120] {
        let mut body = good.clone();
        body[at] ^= 1;
        let error = decode_signed(&body, 9004).unwrap_err();
        assert!(
            matches!(
                error.code,
                ErrorCode::SignatureDoesNotMatch | ErrorCode::IncompleteBody
            ),
            "{at}"
        );
    }
    let mut body = good.clone();
    body[5000] ^= 1;
    check_refused(decode_signed(&body, 9004), ErrorCode::SignatureDoesNotMatch);
    // Chunks of one body in another order do not chain.
    let (first, second) = (vec![b'a'; 9000], vec![b'b'; 9000]);
    let body = signed(&[&first, &second]);
    let line = 4 + 17 + 64 + 2;
    let (one, rest) = body.split_at(line + 9000 + 2);
    let (two, last) = rest.split_at(line + 9000 + 2);
    check_refused(
        decode_signed(&[two, one, last].concat(), 18_000),
        ErrorCode::SignatureDoesNotMatch,
    );
}

#[test]
fn row_45_odd_sizes_are_refused() {
    for size in [
        "00000000000000005",
        "FFFFFFFFFFFFFFFF",
        "FFFFFFFFFFFFFFFB",
        "-5",
        "g",
        "0x5",
        "+5",
        "",
        " 5",
        "5 ",
        "5\0",
        "5;a=b",
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        check_refused(
            decode_unsigned(body.as_bytes(), 5),
            ErrorCode::IncompleteBody,
        );
    }
    check_refused(
        decode_unsigned(&[b'0'; 100_000], 5),
        ErrorCode::IncompleteBody,
    );
}

#[test]
fn sizes_do_not_overflow() {
    let body = b"5\r\nhello\r\nFFFFFFFFFFFFFFFF\r\n";
    check_refused(decode_unsigned(body, u64::MAX), ErrorCode::IncompleteBody);
}

#[test]
fn row_47_a_bare_line_feed_ends_no_line() {
    for body in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
    ] {
        check_refused(decode_unsigned(body, 5), ErrorCode::IncompleteBody);
    }
    let good = String::from_utf8(signed(&[b"hello"])).unwrap();
    for (from, to) in [("\r\nhello", "\nhello"), ("hello\r\n", "hello\n")] {
        check_refused(
            decode_signed(good.replace(from, to).as_bytes(), 5),
            ErrorCode::IncompleteBody,
        );
    }
}

#[test]
fn rows_48_and_49_a_body_cut_anywhere_is_incomplete() {
    let chunk = vec![b'a'; 9000];
    let body = signed_with_trailer(&[&chunk, b"rest"], "\r\n");
    for end in (0..200).chain(9000..body.len()) {
        check_refused(
            decode_signed_trailer(&body[..end], 9004),
            ErrorCode::IncompleteBody,
        );
    }
    let body = unsigned_with_trailer(&[b"hello", b"world"]);
    for end in 0..body.len() {
        check_refused(decode_crc32(&body[..end], 10), ErrorCode::IncompleteBody);
    }
    check_refused(
        decode_unsigned(b"5\r\nhello\r\n", 5),
        ErrorCode::IncompleteBody,
    );
}

#[test]
fn bytes_behind_the_end_are_refused() {
    check_refused(
        decode_unsigned(b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0),
        ErrorCode::IncompleteBody,
    );
    let body = [signed(&[b"hello"]), b"x".to_vec()].concat();
    check_refused(decode_signed(&body, 5), ErrorCode::IncompleteBody);
}

#[test]
fn row_52_a_malformed_trailing_checksum_is_an_invalid_request() {
    for value in ["", "?", "AAAA", "NhCmhg", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        let body = format!("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{value}\r\n\r\n");
        check_refused(decode_crc32(body.as_bytes(), 5), ErrorCode::InvalidRequest);
    }
}

#[test]
fn row_53_the_trailer_is_the_announced_one() {
    for trailer in [
        "",
        "x-amz-checksum-crc32c:mnG7TA==\r\n",
        "x-amz-checksum-crc32:NhCmhg==\r\nx-amz-meta-a:b\r\n",
        "x-amz-meta-a:b\r\nx-amz-checksum-crc32:NhCmhg==\r\n",
        "x-amz-checksum-crc32:NhCmhg==\r\nx-amz-checksum-crc32:NhCmhg==\r\n",
        "x-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:00\r\n",
        "x-amz-checksum-crc32\r\n",
        "x-amz-checksum-crc32 :NhCmhg==\r\n",
        "\u{e9}:a\r\n",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n");
        check_refused(
            decode_crc32(body.as_bytes(), 5),
            ErrorCode::MalformedTrailerError,
        );
    }
    let undeclared = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    check_refused(
        decode_unsigned(undeclared, 5),
        ErrorCode::MalformedTrailerError,
    );
}

#[test]
fn row_55_the_trailer_signature_has_to_be_there_and_right() {
    let good = String::from_utf8(signed_with_trailer(&[b"hello"], "\r\n")).unwrap();
    let (head, signature) = good.split_once("x-amz-trailer-signature:").unwrap();
    let wrong = format!("{head}x-amz-trailer-signature:{}\r\n\r\n", "0".repeat(64));
    check_refused(
        decode_signed_trailer(wrong.as_bytes(), 5),
        ErrorCode::SignatureDoesNotMatch,
    );
    let short = format!("{head}x-amz-trailer-signature:{}", &signature[1..]);
    check_refused(
        decode_signed_trailer(short.as_bytes(), 5),
        ErrorCode::SignatureDoesNotMatch,
    );
    let absent = format!("{head}\r\n\r\n");
    check_refused(
        decode_signed_trailer(absent.as_bytes(), 5),
        ErrorCode::SignatureDoesNotMatch,
    );
    let swapped = good.replace("NhCmhg==", "AAAAAA==");
    check_refused(
        decode_signed_trailer(swapped.as_bytes(), 5),
        ErrorCode::SignatureDoesNotMatch,
    );
}

#[test]
fn row_56_a_trailer_section_is_bounded() {
    let long = format!(
        "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{}\r\n\r\n",
        "A".repeat(10_000_000)
    );
    check_refused(
        decode_crc32(long.as_bytes(), 5),
        ErrorCode::MalformedTrailerError,
    );
    let many = format!("5\r\nhello\r\n0\r\n{}\r\n", "a:b\r\n".repeat(100_000));
    check_refused(
        decode_crc32(many.as_bytes(), 5),
        ErrorCode::MalformedTrailerError,
    );
}

#[test]
fn a_refused_decoder_refuses_for_ever() {
    let mut decoder = ChunkedDecoder::new(ChunkFraming::UnsignedWithTrailer(None), 0);
    let mut data = Vec::new();
    let first = decoder
        .push(Bytes::from_static(b"z\r\n"), &mut data)
        .unwrap_err();
    let second = decoder
        .push(Bytes::from_static(b"0\r\n\r\n"), &mut data)
        .unwrap_err();
    assert_eq!(first, second);
    assert_eq!(decoder.finish().unwrap_err(), first);
}

#[test]
fn aws_chunked_is_no_encoding_of_the_object() {
    assert_eq!(without_aws_chunked("aws-chunked"), None);
    assert_eq!(
        without_aws_chunked("gzip, aws-chunked,").as_deref(),
        Some("gzip")
    );
    assert_eq!(without_aws_chunked("gzip,br").as_deref(), Some("gzip,br"));
}

/// The body cut at these points, in order.
fn cut<'a>(body: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut points: Vec<usize> = cuts
        .iter()
        .map(|c| c.index(body.len() + 1))
        .chain([0, body.len()])
        .collect();
    points.sort_unstable();
    points.windows(2).map(|w| &body[w[0]..w[1]]).collect()
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        flip in proptest::option::of((any::<proptest::sample::Index>(), 1..=255u8)),
    ) {
        let refs: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let length = chunks.concat().len() as u64;
        let mut body = unsigned_with_trailer(&refs);
        if let Some((at, bits)) = flip {
            let at = at.index(body.len());
            body[at] ^= bits;
        }
        let framing = ChunkFraming::UnsignedWithTrailer(CRC32);
        let whole = decode_in(framing.clone(), length, &[&body]);
        if flip.is_none() {
            prop_assert_eq!(&whole.as_ref().unwrap().0, &chunks.concat());
        }
        prop_assert_eq!(decode_in(framing, length, &cut(&body, &cuts)), whole);
    }

    #[test]
    fn no_changed_byte_of_a_signed_body_gets_through(
        last in proptest::collection::vec(any::<u8>(), 1..40),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        flip in proptest::option::of((any::<proptest::sample::Index>(), 1..=255u8)),
    ) {
        let first = vec![b'a'; 8192];
        let length = 8192 + last.len() as u64;
        let good = signed_with_trailer(&[&first, &last], "\r\n");
        let mut body = good.clone();
        if let Some((at, bits)) = flip {
            let at = at.index(body.len());
            body[at] ^= bits;
        }
        let framing = ChunkFraming::SignedWithTrailer(streaming_signer(SEED), CRC32);
        let decoded = decode_in(framing, length, &cut(&body, &cuts));
        match decoded {
            // Hex digits and trailer names are read in either case: the meaning is the same.
            Ok((data, trailers)) => {
                prop_assert!(body.eq_ignore_ascii_case(&good));
                prop_assert_eq!(data, [first, last].concat());
                prop_assert!(trailers.checksum.is_some());
            }
            Err(_) => prop_assert!(flip.is_some()),
        }
    }

    #[test]
    fn any_bytes_are_judged(body in proptest::collection::vec(any::<u8>(), 0..300), length in any::<u64>()) {
        let _ = decode_unsigned(&body, length);
        let _ = decode_signed_trailer(&body, length);
    }
}
