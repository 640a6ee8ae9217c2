//! Signed requests, good and bad. Row numbers are those of the table of bad inputs.

use super::test_signer::{
    ACCESS_KEY_ID, Client, REGION, SECRET, now, seconds_later, verify, verify_at,
    with_authorization, with_uri,
};
use super::{AuthRequest, PayloadMode, Verifier, admit_anonymous, parse};
use crate::s3::error::{ErrorCode, S3Error};
use http::request::Parts;
use proptest::prelude::*;

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn get() -> Client {
    Client::new("GET", "/bucket/key").payload(EMPTY_SHA256)
}

fn put() -> Client {
    Client::new("PUT", "/bucket/key").payload("UNSIGNED-PAYLOAD")
}

#[track_caller]
fn check_refused(parts: &Parts, code: ErrorCode, status: u16) -> S3Error {
    let error = verify(parts).err().expect("the request is bad");
    assert_eq!(
        (error.code, error.status()),
        (code, status),
        "{}",
        error.message
    );
    error
}

#[track_caller]
fn check_extra(error: &S3Error, name: &str, value: &str) {
    assert!(
        error.extra.iter().any(|(n, v)| *n == name && v == value),
        "{:?}",
        error.extra
    );
}

fn without_header(mut parts: Parts, name: &str) -> Parts {
    parts.headers.remove(name);
    parts
}

fn with_header(mut parts: Parts, name: &'static str, value: &str) -> Parts {
    parts.headers.append(name, value.parse().unwrap());
    parts
}

#[test]
fn a_signed_request_tells_who_and_what() {
    let verified = verify(&get().sign()).unwrap();
    assert_eq!(verified.access_key_id(), Some(ACCESS_KEY_ID));
    assert!(!verified.is_presigned());
    assert!(
        matches!(verified.payload(), PayloadMode::Hash(hash) if hex::encode(hash) == EMPTY_SHA256)
    );
    let signed: Vec<_> = verified
        .signed_headers()
        .iter()
        .map(|n| n.as_str())
        .collect();
    assert_eq!(signed, ["host", "x-amz-content-sha256", "x-amz-date"]);
    let verified = verify(&get().presign()).unwrap();
    assert!(verified.is_presigned());
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, "GET Object".
#[test]
fn the_documented_get_is_accepted() {
    let parts = http::Request::get("/test.txt")
        .header("host", "examplebucket.s3.amazonaws.com")
        .header("range", "bytes=0-9")
        .header("x-amz-content-sha256", EMPTY_SHA256)
        .header("x-amz-date", "20130524T000000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        )
        .body(())
        .unwrap()
        .into_parts()
        .0;
    assert!(verify(&parts).is_ok());
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
#[test]
fn the_documented_presigned_url_is_accepted() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
               %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&\
               X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = http::Request::get(uri).header("host", "examplebucket.s3.amazonaws.com");
    assert!(verify(&request.body(()).unwrap().into_parts().0).is_ok());
}

#[test]
fn row_1_a_request_without_credentials_is_anonymous() {
    let parts = Client::new("GET", "/bucket/key?list-type=2").unsigned();
    let auth = parse(&parts).unwrap();
    assert!(matches!(auth, AuthRequest::Anonymous) && auth.access_key_id().is_none());
    check_refused(&parts, ErrorCode::AccessDenied, 403);
    assert_eq!(admit_anonymous(&parts).unwrap().access_key_id(), None);
}

#[test]
fn row_3_a_wrong_secret_is_refused() {
    let mut client = get();
    client.secret = "another";
    let error = check_refused(
        &client.clone().sign(),
        ErrorCode::SignatureDoesNotMatch,
        403,
    );
    check_extra(&error, "AWSAccessKeyId", ACCESS_KEY_ID);
    assert!(error.extra.iter().all(|(_, value)| !value.contains(SECRET)));
    check_refused(&client.presign(), ErrorCode::SignatureDoesNotMatch, 403);
}

#[test]
fn row_4_sixteen_minutes_off_is_too_skewed() {
    for time in ["20130524T001600Z", "20130523T234400Z"] {
        let error = check_refused(&get().at(time).sign(), ErrorCode::RequestTimeTooSkewed, 403);
        check_extra(&error, "RequestTime", time);
        check_extra(&error, "ServerTime", "2013-05-24T00:00:00Z");
        check_extra(&error, "MaxAllowedSkewMilliseconds", "900000");
    }
    for time in ["20130524T001500Z", "20130523T234500Z"] {
        assert!(verify(&get().at(time).sign()).is_ok());
    }
}

#[test]
fn row_5_a_request_without_a_date_is_denied() {
    check_refused(
        &without_header(get().sign(), "x-amz-date"),
        ErrorCode::AccessDenied,
        403,
    );
    check_refused(
        &get().header("x-amz-date", "yesterday").sign(),
        ErrorCode::AccessDenied,
        403,
    );
}

#[test]
fn the_date_header_will_do() {
    assert!(verify(&get().header("date", "Fri, 24 May 2013 00:00:00 GMT").sign()).is_ok());
}

#[test]
fn row_7_the_scopes_day_is_that_of_the_request() {
    let mut client = get();
    client.credential = format!("{ACCESS_KEY_ID}/20130523/{REGION}/s3/aws4_request");
    check_refused(
        &client.clone().sign(),
        ErrorCode::AuthorizationHeaderMalformed,
        400,
    );
    check_refused(
        &client.presign(),
        ErrorCode::AuthorizationQueryParametersError,
        400,
    );
}

#[test]
fn row_8_a_wrong_region_names_the_right_one() {
    let mut client = get();
    client.credential = format!("{ACCESS_KEY_ID}/20130524/eu-west-9/s3/aws4_request");
    let error = check_refused(
        &client.clone().sign(),
        ErrorCode::AuthorizationHeaderMalformed,
        400,
    );
    check_extra(&error, "Region", REGION);
    let error = check_refused(
        &client.presign(),
        ErrorCode::AuthorizationQueryParametersError,
        400,
    );
    check_extra(&error, "Region", REGION);
}

#[test]
fn row_9_a_wrong_service_is_malformed() {
    let mut client = get();
    client.credential = format!("{ACCESS_KEY_ID}/20130524/{REGION}/ec2/aws4_request");
    check_refused(
        &client.clone().sign(),
        ErrorCode::AuthorizationHeaderMalformed,
        400,
    );
    check_refused(
        &client.presign(),
        ErrorCode::AuthorizationQueryParametersError,
        400,
    );
}

#[test]
fn row_11_an_authorization_that_is_no_scheme_is_an_invalid_argument() {
    for value in [
        "",
        "AWS4-HMAC-SHA256",
        "word",
        "Basic dXNlcjpwYXNz",
        "Bearer x",
        "aws4-hmac-sha256 a=b",
    ] {
        let parts = with_authorization(get().sign(), |_| value.to_owned());
        check_refused(&parts, ErrorCode::InvalidArgument, 400);
    }
    let mut parts = get().sign();
    parts.headers.insert(
        "authorization",
        http::HeaderValue::from_bytes(b"\xff x").unwrap(),
    );
    check_refused(&parts, ErrorCode::InvalidArgument, 400);
}

#[test]
fn row_12_version_2_is_refused() {
    let parts = with_authorization(get().sign(), |_| "AWS key:c2lnbmF0dXJl".to_owned());
    check_refused(&parts, ErrorCode::InvalidRequest, 400);
    let parts = Client::new("GET", "/b/k?AWSAccessKeyId=key&Signature=a&Expires=1").unsigned();
    check_refused(&parts, ErrorCode::InvalidRequest, 400);
}

#[test]
fn row_13_each_field_of_the_header_is_required_once() {
    for field in ["Credential", "SignedHeaders", "Signature"] {
        let remove = |value: String| {
            let (scheme, fields) = value.split_once(' ').unwrap();
            let kept: Vec<_> = fields
                .split(", ")
                .filter(|f| !f.starts_with(&format!("{field}=")))
                .collect();
            format!("{scheme} {}", kept.join(", "))
        };
        check_refused(
            &with_authorization(get().sign(), remove),
            ErrorCode::AuthorizationHeaderMalformed,
            400,
        );
        let twice = |value: String| format!("{value}, {field}=x");
        check_refused(
            &with_authorization(get().sign(), twice),
            ErrorCode::AuthorizationHeaderMalformed,
            400,
        );
    }
    let odd = with_authorization(get().sign(), |value| format!("{value}, Other=x"));
    check_refused(&odd, ErrorCode::AuthorizationHeaderMalformed, 400);
}

#[test]
fn fields_may_stand_in_any_order_and_without_blanks() {
    let reorder = |value: String| {
        let (scheme, fields) = value.split_once(' ').unwrap();
        let mut fields: Vec<_> = fields.split(", ").collect();
        fields.reverse();
        format!("{scheme} {}", fields.join(","))
    };
    assert!(verify(&with_authorization(get().sign(), reorder)).is_ok());
}

#[test]
fn row_15_two_mechanisms_are_one_too_many() {
    let header = get().sign();
    let mut both = get().presign();
    both.headers = header.headers.clone();
    check_refused(&both, ErrorCode::InvalidArgument, 400);
    let v2 = with_uri(header.clone(), |uri| format!("{uri}?AWSAccessKeyId=a"));
    check_refused(&v2, ErrorCode::InvalidArgument, 400);
    let twice = with_header(
        header.clone(),
        "authorization",
        header.headers["authorization"].to_str().unwrap(),
    );
    check_refused(&twice, ErrorCode::InvalidArgument, 400);
}

#[test]
fn row_16_the_host_has_to_be_signed() {
    let mut client = get();
    client.signed_headers = Some("x-amz-content-sha256;x-amz-date".to_owned());
    let error = check_refused(&client.sign(), ErrorCode::AccessDenied, 403);
    check_extra(&error, "HeadersNotSigned", "host");
}

#[test]
fn row_17_an_unsigned_amz_header_is_denied_by_name() {
    for name in [
        "x-amz-meta-a",
        "x-amz-acl",
        "x-amz-tagging",
        "x-amz-storage-class",
        "x-amz-server-side-encryption",
        "x-amz-object-lock-mode",
        "x-amz-website-redirect-location",
        "x-amz-copy-source",
    ] {
        let error = check_refused(
            &with_header(put().sign(), name, "v"),
            ErrorCode::AccessDenied,
            403,
        );
        check_extra(&error, "HeadersNotSigned", name);
        assert!(verify(&put().header(name, "v").sign()).is_ok());
    }
    let two = with_header(
        with_header(put().sign(), "x-amz-meta-b", "v"),
        "x-amz-acl",
        "v",
    );
    check_extra(
        &check_refused(&two, ErrorCode::AccessDenied, 403),
        "HeadersNotSigned",
        "x-amz-acl, x-amz-meta-b",
    );
}

/// Its value stands in the canonical request, signed header or not.
#[test]
fn an_unsigned_payload_header_is_covered_all_the_same() {
    let mut client = put();
    client.signed_headers = Some("host;x-amz-date".to_owned());
    let mut parts = client.sign();
    assert!(verify(&parts).is_ok());
    parts
        .headers
        .insert("x-amz-content-sha256", EMPTY_SHA256.parse().unwrap());
    check_refused(&parts, ErrorCode::SignatureDoesNotMatch, 403);
}

#[test]
fn row_19_unsigned_ordinary_headers_are_accepted() {
    for name in ["range", "if-match", "content-type", "x-amzn-trace-id"] {
        assert!(
            verify(&with_header(get().sign(), name, "v")).is_ok(),
            "{name}"
        );
        assert!(
            verify(&with_header(get().presign(), name, "v")).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn row_20_a_signed_header_that_is_absent_does_not_match() {
    let mut client = get();
    client.signed_headers = Some("host;range;x-amz-content-sha256;x-amz-date".to_owned());
    check_refused(&client.sign(), ErrorCode::SignatureDoesNotMatch, 403);
}

#[test]
fn row_21_a_list_of_signed_headers_has_one_spelling() {
    let thousand: Vec<_> = (1000..2000).map(|i| format!("h{i}")).collect();
    for list in [
        "x-amz-date;x-amz-content-sha256;host",
        "host;host;x-amz-content-sha256;x-amz-date",
        "Host;x-amz-content-sha256;x-amz-date",
        "",
        ";",
        "host;;x-amz-date",
        "h\u{f6}st",
        &thousand.join(";"),
    ] {
        let swap = |value: String| {
            value.replace(
                "SignedHeaders=host;x-amz-content-sha256;x-amz-date",
                &format!("SignedHeaders={list}"),
            )
        };
        let mut parts = get().sign();
        let value = swap(parts.headers["authorization"].to_str().unwrap().to_owned());
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let expected = if value.to_str().is_ok() {
            ErrorCode::AuthorizationHeaderMalformed
        } else {
            ErrorCode::InvalidArgument
        };
        parts.headers.insert("authorization", value);
        check_refused(&parts, expected, 400);
    }
}

#[test]
fn row_23_the_host_is_signed_as_sent() {
    let mut client = get();
    client.headers[0].1 = "s3.example.com".to_owned();
    let mut parts = client.sign();
    assert!(verify(&parts).is_ok());
    parts
        .headers
        .insert("host", "other.example.com".parse().unwrap());
    check_refused(&parts, ErrorCode::SignatureDoesNotMatch, 403);
}

#[test]
fn row_25_a_wrong_secret_outranks_headers_that_claim_trust() {
    let mut client = get();
    client.secret = "another";
    let mut parts = client.sign();
    for name in [
        "x-amz-security-token",
        "x-amz-user",
        "x-internal-token",
        "aws-principalarn",
    ] {
        parts = with_header(parts, name, "root");
    }
    check_refused(&parts, ErrorCode::SignatureDoesNotMatch, 403);
}

#[test]
fn row_28_a_signature_is_64_hex_digits() {
    let long = "a".repeat(10_240);
    for make in [
        |s: &str| s[1..].to_owned(),
        |s: &str| format!("{s}ab"),
        |_: &str| String::new(),
        |_: &str| "z".repeat(64),
    ] {
        let change = |value: String| {
            let (head, signature) = value.split_once("Signature=").unwrap();
            format!("{head}Signature={}", make(signature))
        };
        check_refused(
            &with_authorization(get().sign(), change),
            ErrorCode::SignatureDoesNotMatch,
            403,
        );
    }
    let change = |value: String| {
        format!(
            "{}Signature={long}",
            value.split_once("Signature=").unwrap().0
        )
    };
    check_refused(
        &with_authorization(get().sign(), change),
        ErrorCode::SignatureDoesNotMatch,
        403,
    );
    let upper = |value: String| {
        let (head, signature) = value.split_once("Signature=").unwrap();
        format!("{head}Signature={}", signature.to_ascii_uppercase())
    };
    assert!(verify(&with_authorization(get().sign(), upper)).is_ok());
}

#[test]
fn row_29_the_payload_header_is_required() {
    let parts = Client::new("GET", "/bucket/key").sign();
    let error = check_refused(&parts, ErrorCode::InvalidRequest, 400);
    assert_eq!(
        error.message,
        "Missing required header for this request: x-amz-content-sha256"
    );
}

#[test]
fn rows_32_and_33_an_unsigned_payload_is_a_signed_request() {
    for payload in ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        let mut client = Client::new("PUT", "/bucket/key").payload(payload);
        assert!(verify(&client.clone().sign()).is_ok());
        client.secret = "another";
        check_refused(&client.sign(), ErrorCode::SignatureDoesNotMatch, 403);
    }
}

#[test]
fn row_35_streaming_is_for_uploads_only() {
    for payload in [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ] {
        for method in ["GET", "DELETE", "POST", "HEAD"] {
            let parts = Client::new(method, "/bucket/key").payload(payload).sign();
            check_refused(&parts, ErrorCode::InvalidRequest, 400);
        }
        let verified = verify(&Client::new("PUT", "/bucket").payload(payload).sign()).unwrap();
        assert_eq!(
            verified.refuse_streaming().unwrap_err().code,
            ErrorCode::InvalidRequest
        );
    }
    assert!(verify(&put().sign()).unwrap().refuse_streaming().is_ok());
}

#[test]
fn row_36_signed_chunks_need_a_seed() {
    for payload in [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ] {
        let client = Client::new("PUT", "/bucket/key").payload(payload);
        let error = admit_anonymous(&client.unsigned()).err().unwrap();
        assert_eq!(
            (error.code, error.status()),
            (ErrorCode::InvalidRequest, 400)
        );
        check_refused(&client.presign(), ErrorCode::InvalidRequest, 400);
    }
}

#[test]
fn row_37_version_4a_is_not_implemented() {
    for payload in [
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
    ] {
        check_refused(
            &Client::new("PUT", "/b/k").payload(payload).sign(),
            ErrorCode::NotImplemented,
            501,
        );
    }
    let parts = with_authorization(get().sign(), |v| {
        v.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
    });
    check_refused(&parts, ErrorCode::NotImplemented, 501);
}

#[test]
fn other_payload_words_are_invalid() {
    for payload in [
        "",
        "unsigned-payload",
        "STREAMING-OTHER",
        &EMPTY_SHA256[1..],
    ] {
        check_refused(
            &Client::new("PUT", "/b/k").payload(payload).sign(),
            ErrorCode::InvalidArgument,
            400,
        );
    }
}

#[test]
fn row_57_a_url_lives_a_week_at_most() {
    for expires in ["604801", "0", "-1", "+5", "1e3", "", "99999999999999999999"] {
        let mut client = get();
        client.expires = expires.to_owned();
        check_refused(
            &client.presign(),
            ErrorCode::AuthorizationQueryParametersError,
            400,
        );
    }
    let mut client = get();
    client.expires = "604800".to_owned();
    assert!(verify(&client.presign()).is_ok());
}

#[test]
fn row_59_an_expired_url_is_denied() {
    for method in ["GET", "PUT"] {
        let parts = Client::new(method, "/bucket/key").presign();
        assert!(verify_at(&parts, seconds_later(3600)).is_ok());
        let error = verify_at(&parts, seconds_later(3601)).err().unwrap();
        assert_eq!((error.code, error.status()), (ErrorCode::AccessDenied, 403));
        assert_eq!(error.message, "Request has expired");
        check_extra(&error, "Expires", "2013-05-24T01:00:00Z");
        check_extra(&error, "ServerTime", "2013-05-24T01:00:01Z");
    }
}

#[test]
fn row_60_a_url_from_the_future_is_denied() {
    check_refused(
        &get().at("20130524T010000Z").presign(),
        ErrorCode::AccessDenied,
        403,
    );
    assert!(verify(&get().at("20130524T001400Z").presign()).is_ok());
}

#[test]
fn row_61_all_six_parameters_are_required() {
    for name in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ] {
        let remove = |uri: String| {
            let (path, query) = uri.split_once('?').unwrap();
            let kept: Vec<_> = query
                .split('&')
                .filter(|p| !p.starts_with(&format!("{name}=")))
                .collect();
            format!("{path}?{}", kept.join("&"))
        };
        let parts = with_uri(get().presign(), remove);
        check_refused(&parts, ErrorCode::AuthorizationQueryParametersError, 400);
    }
    let other = with_uri(get().presign(), |uri| {
        uri.replace("AWS4-HMAC-SHA256", "MD5")
    });
    check_refused(&other, ErrorCode::AuthorizationQueryParametersError, 400);
}

#[test]
fn row_63_a_second_parameter_does_not_revive_a_url() {
    for extra in [
        "X-Amz-Expires=604800",
        "X-Amz-Signature=00",
        "X-Amz-Credential=a",
        "x-amz-expires=604800",
    ] {
        let behind = with_uri(get().presign(), |uri| format!("{uri}&{extra}"));
        check_refused(&behind, ErrorCode::SignatureDoesNotMatch, 403);
        let before = with_uri(get().presign(), |uri| {
            uri.replacen('?', &format!("?{extra}&"), 1)
        });
        check_refused(&before, ErrorCode::SignatureDoesNotMatch, 403);
    }
}

#[test]
fn row_64_a_url_is_good_for_its_method_key_and_query_only() {
    let mut deleting = get().presign();
    deleting.method = http::Method::DELETE;
    check_refused(&deleting, ErrorCode::SignatureDoesNotMatch, 403);
    let other_key = with_uri(get().presign(), |uri| uri.replace("/key", "/other"));
    check_refused(&other_key, ErrorCode::SignatureDoesNotMatch, 403);
    for extra in [
        "versionId=1",
        "response-content-type=text%2Fhtml",
        "unknown",
        "uploads=",
    ] {
        let more = with_uri(get().presign(), |uri| format!("{uri}&{extra}"));
        check_refused(&more, ErrorCode::SignatureDoesNotMatch, 403);
    }
}

#[test]
fn row_65_a_url_gains_no_meaning_by_unsigned_headers() {
    for name in ["x-amz-copy-source", "x-amz-acl", "x-amz-meta-a"] {
        let parts = with_header(Client::new("PUT", "/bucket/key").presign(), name, "v");
        let error = check_refused(&parts, ErrorCode::AccessDenied, 403);
        check_extra(&error, "HeadersNotSigned", name);
    }
}

#[test]
fn a_presigned_body_is_unsigned_unless_it_says_otherwise() {
    let verified = verify(&Client::new("PUT", "/bucket/key").presign()).unwrap();
    assert!(matches!(verified.payload(), PayloadMode::Unsigned));
    let verified = verify(&get().presign()).unwrap();
    assert!(matches!(verified.payload(), PayloadMode::Hash(_)));
    let hoisted = Client::new("PUT", "/bucket/key?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD").presign();
    assert!(matches!(
        verify(&hoisted).unwrap().payload(),
        PayloadMode::Unsigned
    ));
}

#[test]
fn row_67_the_key_id_is_known_before_anything_is_proven() {
    assert_eq!(
        parse(&get().presign()).unwrap().access_key_id(),
        Some(ACCESS_KEY_ID)
    );
}

#[test]
fn session_tokens_are_never_valid() {
    check_refused(
        &get().header("x-amz-security-token", "t").sign(),
        ErrorCode::InvalidToken,
        400,
    );
    let parts = Client::new("GET", "/b/k?X-Amz-Security-Token=t").presign();
    check_refused(&parts, ErrorCode::InvalidToken, 400);
}

#[test]
fn row_88_broken_percent_encoding_is_an_invalid_uri() {
    let broken = |parts| with_uri(parts, |_| "/bucket/a%ZZ".to_owned());
    check_refused(&broken(get().sign()), ErrorCode::InvalidURI, 400);
}

#[test]
fn a_signing_key_is_remembered_per_secret_day_and_region() {
    let verifier = Verifier::new(REGION);
    let parts = get().sign();
    let auth = parse(&parts).unwrap();
    for _ in 0..2 {
        assert!(verifier.verify(&auth, &parts, SECRET, now()).is_ok());
        assert!(verifier.verify(&auth, &parts, "another", now()).is_err());
    }
    let later = get().at("20130525T000000Z").sign();
    let auth = parse(&later).unwrap();
    assert!(
        verifier
            .verify(&auth, &later, SECRET, seconds_later(86_400))
            .is_ok()
    );
}

mod oracle {
    //! Whatever the SDKs' signer signs, we accept.

    use super::*;
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
        SigningSettings, UriPathNormalizationMode, sign,
    };
    use aws_sigv4::sign::v4::SigningParams;
    use std::time::Duration;

    fn signed(
        method: &str,
        uri: &str,
        headers: &[(String, String)],
        location: SignatureLocation,
    ) -> Parts {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = match location {
            SignatureLocation::QueryParams => PayloadChecksumKind::NoHeader,
            _ => PayloadChecksumKind::XAmzSha256,
        };
        settings.expires_in =
            matches!(location, SignatureLocation::QueryParams).then_some(Duration::from_secs(600));
        settings.signature_location = location;
        let identity = Credentials::new(ACCESS_KEY_ID, SECRET, None, None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("s3")
            .time(now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mut builder = http::Request::builder()
            .method(method)
            .uri(format!("http://s3.example.com{uri}"));
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let mut request = builder.body(()).unwrap();
        let lines = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(
            method,
            request.uri().to_string(),
            lines,
            SignableBody::UnsignedPayload,
        )
        .unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.apply_to_request_http1x(&mut request);
        // On the wire the target has origin form, and the host is a header.
        let mut parts = request.into_parts().0;
        parts
            .headers
            .insert("host", "s3.example.com".parse().unwrap());
        with_uri(parts, |uri| {
            uri.trim_start_matches("http://s3.example.com").to_owned()
        })
    }

    fn encoded(bytes: &[u8], keep_slash: bool) -> String {
        let mut out = String::new();
        super::super::canonical::encode(&mut out, bytes, keep_slash);
        out
    }

    fn requests() -> impl Strategy<Value = (String, String, Vec<(String, String)>)> {
        let text = proptest::collection::vec(any::<u8>(), 0..12);
        let queries = proptest::collection::vec(("[a-z][a-zA-Z0-9.\u{e9} -]{0,8}", ".{0,8}"), 0..4);
        let headers = proptest::collection::btree_map(
            "x-amz-meta-[a-z]{1,4}",
            "[!-~]([ -~]{0,12}[!-~])?",
            0..4,
        );
        ("GET|PUT|DELETE|HEAD|POST", text, queries, headers).prop_map(
            |(method, key, query, headers)| {
                let query: Vec<String> = query
                    .iter()
                    .map(|(n, v)| {
                        format!(
                            "{}={}",
                            encoded(n.as_bytes(), false),
                            encoded(v.as_bytes(), false)
                        )
                    })
                    .collect();
                let mut uri = format!("/bucket/k{}", encoded(&key, true));
                if !query.is_empty() {
                    uri = format!("{uri}?{}", query.join("&"));
                }
                (method, uri, headers.into_iter().collect())
            },
        )
    }

    proptest! {
        #[test]
        fn header_signatures_are_accepted((method, uri, headers) in requests()) {
            let parts = signed(&method, &uri, &headers, SignatureLocation::Headers);
            let verified = verify(&parts);
            prop_assert!(verified.is_ok(), "{:?}\n{:?}", parts, verified.err());
        }

        #[test]
        fn presigned_urls_are_accepted((method, uri, headers) in requests()) {
            let parts = signed(&method, &uri, &headers, SignatureLocation::QueryParams);
            let verified = verify(&parts);
            prop_assert!(verified.is_ok(), "{:?}\n{:?}", parts, verified.err());
        }
    }
}

proptest! {
    #[test]
    fn any_authorization_is_judged(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = http::HeaderValue::from_bytes(&value) {
            let mut parts = get().sign();
            parts.headers.insert("authorization", value);
            prop_assert!(verify(&parts).is_err());
        }
    }

    #[test]
    fn any_fields_are_judged(credential in ".{0,40}", signed in ".{0,40}", signature in ".{0,70}") {
        let value = format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={signed},Signature={signature}");
        if let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) {
            let mut parts = get().sign();
            parts.headers.insert("authorization", value);
            prop_assert!(verify(&parts).is_err());
        }
    }

    #[test]
    fn any_query_is_judged(query in "(X-Amz-(Algorithm|Credential|Date|Expires|Signature|SignedHeaders)=[a-zA-Z0-9%/;-]{0,30}&){0,7}") {
        if let Ok(uri) = format!("/b/k?{query}").parse() {
            let mut parts = Client::new("GET", "/").unsigned();
            parts.uri = uri;
            prop_assert!(verify(&parts).is_err());
        }
    }
}
