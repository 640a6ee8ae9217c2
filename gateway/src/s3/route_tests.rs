//! Which request means which operation, and which means none.

#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;

fn routed(
    method: &str,
    target: &str,
    host: &str,
    headers: &[(&'static str, &str)],
) -> Result<Routed, S3Error> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(p, q)| (p, Some(q)));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let bases = [
        "s3.example.com".to_owned(),
        "example.com".to_owned(),
        "localhost".to_owned(),
    ];
    route(
        &method.parse().unwrap(),
        path,
        query,
        &map,
        Some(host),
        &bases,
    )
}

fn op(method: &str, target: &str) -> Result<Operation, ErrorCode> {
    routed(method, target, "10.0.0.1:9000", &[])
        .map(|r| r.operation)
        .map_err(|e| e.code)
}

fn at(host: &str, target: &str) -> Result<(Option<String>, Option<String>), ErrorCode> {
    routed("GET", target, host, &[])
        .map(|r| {
            (
                r.bucket.map(|b| b.to_string()),
                r.key.map(|k| k.to_string()),
            )
        })
        .map_err(|e| e.code)
}

fn is(bucket: &str, key: &str) -> Result<(Option<String>, Option<String>), ErrorCode> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok((some(bucket), some(key)))
}

#[test]
fn every_operation_has_its_request() {
    use Operation::*;
    for (method, target, operation) in [
        ("GET", "/", ListBuckets),
        ("GET", "/?x-id=ListBuckets&max-buckets=5", ListBuckets),
        ("PUT", "/bkt", CreateBucket),
        ("PUT", "/bkt/", CreateBucket),
        ("HEAD", "/bkt", HeadBucket),
        ("DELETE", "/bkt", DeleteBucket),
        ("GET", "/bkt?location", GetBucketLocation),
        ("GET", "/bkt?versioning", GetBucketVersioning),
        ("GET", "/bkt?acl", GetBucketAcl),
        ("PUT", "/bkt?acl", PutBucketAcl),
        ("PUT", "/bkt/k?acl&versionId=null", PutObjectAcl),
        ("GET", "/bkt?versions&prefix=a", ListObjectVersions),
        ("GET", "/bkt", ListObjects),
        ("GET", "/bkt/?prefix=a&delimiter=/", ListObjects),
        ("GET", "/bkt?list-type=2&prefix=acl", ListObjectsV2),
        ("POST", "/bkt?delete", DeleteObjects),
        ("POST", "/bkt/?delete=", DeleteObjects),
        ("GET", "/bkt?uploads&prefix=x", ListMultipartUploads),
        ("PUT", "/bkt/k", PutObject),
        ("PUT", "/bkt/k?x-id=PutObject", PutObject),
        ("GET", "/bkt/k", GetObject),
        ("GET", "/bkt/k?partNumber=2", GetObject),
        (
            "GET",
            "/bkt/k?versionId=null&response-content-type=a",
            GetObject,
        ),
        ("HEAD", "/bkt/k", HeadObject),
        ("HEAD", "/bkt/k?partNumber=1", HeadObject),
        ("DELETE", "/bkt/k", DeleteObject),
        ("DELETE", "/bkt/k?versionId=null", DeleteObject),
        ("GET", "/bkt/k?attributes", GetObjectAttributes),
        ("GET", "/bkt/k?acl&versionId=null", GetObjectAcl),
        ("POST", "/bkt/k?uploads", CreateMultipartUpload),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u", UploadPart),
        ("POST", "/bkt/k?uploadId=u", CompleteMultipartUpload),
        ("DELETE", "/bkt/k?uploadId=u", AbortMultipartUpload),
        ("GET", "/bkt/k?uploadId=u&max-parts=3", ListParts),
        ("GET", "/bkt/k?unknown=1", GetObject),
    ] {
        assert_eq!(op(method, target), Ok(operation), "{method} {target}");
    }
    let copy = [("x-amz-copy-source", "bkt/a")];
    assert_eq!(
        routed("PUT", "/bkt/k", "h", &copy).unwrap().operation,
        CopyObject
    );
    assert_eq!(
        routed("PUT", "/bkt/k?partNumber=1&uploadId=u", "h", &copy)
            .unwrap()
            .operation,
        UploadPartCopy
    );
}

#[test]
fn row_179_a_sub_resource_that_is_not_served_never_means_the_base_operation() {
    for name in NOT_SERVED {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for path in ["/", "/bkt", "/bkt/", "/bkt/key"] {
                for suffix in ["", "=", "=x", "&versionId=zz"] {
                    let target = format!("{path}?{name}{suffix}");
                    let of = if path == "/bkt/key" {
                        Owner::Object
                    } else {
                        Owner::Bucket
                    };
                    if method == "GET" && path != "/" && Configuration::find(of, name).is_some() {
                        continue;
                    }
                    let operation = op(method, &target).unwrap();
                    assert!(
                        matches!(operation, Operation::Unsupported { .. }),
                        "{method} {target}"
                    );
                    assert_eq!(operation.require_supported().unwrap_err().status(), 501);
                }
            }
        }
    }
}

#[test]
fn row_179_a_served_sub_resource_with_another_method_never_means_the_base_operation() {
    let base = [
        Operation::ListBuckets,
        Operation::CreateBucket,
        Operation::HeadBucket,
        Operation::DeleteBucket,
        Operation::ListObjects,
        Operation::PutObject,
        Operation::DeleteObject,
    ];
    for name in SERVED {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "TRACE"] {
            for path in ["/", "/bkt", "/bkt/key"] {
                if let Ok(operation) = op(method, &format!("{path}?{name}")) {
                    assert!(
                        !base.contains(&operation),
                        "{method} {path}?{name} is {operation:?}"
                    );
                }
            }
        }
    }
    assert_eq!(
        op("PUT", "/bkt?versioning"),
        Ok(Operation::Unsupported {
            name: "PutBucketVersioning"
        })
    );
    assert_eq!(
        op("DELETE", "/bkt?uploads"),
        Err(ErrorCode::MethodNotAllowed)
    );
    assert_eq!(
        op("DELETE", "/bkt/k?partNumber=1"),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(
        op("PUT", "/bkt/k?partNumber=1"),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(
        op("PUT", "/bkt/k?uploadId=u"),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(
        op("PUT", "/bkt?partNumber=1&uploadId=u"),
        Err(ErrorCode::InvalidRequest)
    );
    assert_eq!(
        op("POST", "/bkt"),
        Ok(Operation::Unsupported { name: "PostObject" })
    );
    assert_eq!(op("POST", "/bkt/k"), Err(ErrorCode::MethodNotAllowed));
}

#[test]
fn a_setting_that_nothing_has_is_read_as_absent_and_never_set() {
    for (target, name) in [
        ("/bkt?tagging", "GetBucketTagging"),
        ("/bkt?policy", "GetBucketPolicy"),
        ("/bkt?requestPayment", "GetBucketRequestPayment"),
        ("/bkt/k?tagging&versionId=null", "GetObjectTagging"),
        ("/bkt/k?retention", "GetObjectRetention"),
    ] {
        assert_eq!(op("GET", target).unwrap().name(), name);
        for method in ["HEAD", "PUT", "POST", "DELETE"] {
            let operation = op(method, target).unwrap();
            assert_eq!(
                operation.require_supported().unwrap_err().status(),
                501,
                "{method} {target}"
            );
        }
    }
    // A bucket's setting asked of an object, or of the service, is nothing that S3 knows.
    for target in ["/bkt/k?policy", "/?policy", "/bkt?retention"] {
        assert!(
            matches!(op("GET", target), Ok(Operation::Unsupported { .. })),
            "{target}"
        );
    }
    assert_eq!(
        op("GET", "/bkt?tagging&versionId=null"),
        Err(ErrorCode::InvalidArgument)
    );
    for method in ["PUT", "POST", "DELETE", "HEAD"] {
        assert_eq!(
            op(method, "/bkt?versions"),
            Err(ErrorCode::MethodNotAllowed)
        );
        assert_eq!(
            op(method, "/bkt/k?versions"),
            Err(ErrorCode::MethodNotAllowed)
        );
    }
}

#[test]
fn row_180_two_sub_resources_are_refused() {
    for target in [
        "/bkt?acl&policy",
        "/bkt?tagging&website",
        "/bkt/k?uploads&uploadId=x",
        "/bkt?delete&versions",
        "/bkt/k?acl&torrent",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let error = routed(method, target, "h", &[]).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{method} {target}");
            assert!(
                error
                    .message
                    .starts_with("Conflicting query string parameters")
            );
        }
    }
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(
            op(method, "/bkt/k?uploadId=u&partNumber=1"),
            Err(ErrorCode::InvalidArgument)
        );
    }
    let error = routed("GET", "/bkt?versioning&policy&acl", "h", &[]).unwrap_err();
    assert_eq!(
        error.message,
        "Conflicting query string parameters: acl, policy, versioning"
    );
    assert_eq!(
        op("GET", "/bkt?prefix=a&prefix=b"),
        Err(ErrorCode::InvalidArgument)
    );
}

#[test]
fn row_181_a_copy_source_is_only_for_copies() {
    let copy = [("x-amz-copy-source", "bkt/a")];
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        for target in ["/", "/bkt", "/bkt/k", "/bkt/k?uploads", "/bkt?delete"] {
            assert_eq!(
                routed(method, target, "h", &copy).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{method} {target}"
            );
        }
    }
    assert_eq!(
        routed("PUT", "/bkt", "h", &copy).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
}

#[test]
fn row_119_an_empty_copy_source_is_no_plain_put() {
    let empty = [("x-amz-copy-source", "")];
    assert_eq!(
        routed("PUT", "/bkt/k", "h", &empty).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    assert_eq!(
        routed("PUT", "/bkt/k?partNumber=1&uploadId=u", "h", &empty)
            .unwrap_err()
            .code,
        ErrorCode::InvalidArgument
    );
}

#[test]
fn row_76_any_host_is_served_by_path() {
    for host in [
        "",
        "evil.test",
        "a.b.c.d.e.f",
        "..",
        ":",
        "127.0.0.1",
        "127.0.0.1:99999",
        "[::1]:9000",
        "[::1",
        "2130706433",
        "bucket.s3.amazonaws.com",
        "notexample.com",
        "bkt.example.com:port",
        "\u{e9}",
    ] {
        assert_eq!(at(host, "/path/key"), is("path", "key"), "{host}");
    }
    assert_eq!(
        at(".example.com", "/path/key"),
        Err(ErrorCode::InvalidBucketName)
    );
    assert_eq!(
        at("a_b.example.com", "/path/key"),
        Err(ErrorCode::InvalidBucketName)
    );
}

#[test]
fn a_bucket_may_stand_in_the_host() {
    assert_eq!(at("bkt.s3.example.com", "/a/b"), is("bkt", "a/b"));
    assert_eq!(at("bkt.s3.example.com:9000", "/"), is("bkt", ""));
    assert_eq!(at("BKT.S3.Example.com.", "/a"), is("bkt", "a"));
    assert_eq!(at("my.bkt.s3.example.com", "//a"), is("my.bkt", "/a"));
    assert_eq!(at("bkt.localhost:9000", "/a%2Fb"), is("bkt", "a/b"));
    assert_eq!(at("s3.example.com", "/path/key"), is("path", "key"));
    assert_eq!(at("s3.example.com", "/"), is("", ""));
}

#[test]
fn row_80_the_path_is_split_once_and_never_normalised() {
    for (path, key) in [
        ("/bkt/a", "a"),
        ("/bkt/a/", "a/"),
        ("/bkt/a//b", "a//b"),
        ("/bkt//a", "/a"),
        ("/bkt/./a", "./a"),
        ("/bkt///", "//"),
        ("/bkt/../other/k", "../other/k"),
        ("/bkt/%2e%2e/k", "../k"),
        ("/bkt/%2F", "/"),
    ] {
        assert_eq!(at("h", path), is("bkt", key), "{path}");
    }
    assert_eq!(at("h", "/b%6Bt/k"), is("bkt", "k"));
    assert_eq!(at("h", "//bkt/k"), Err(ErrorCode::InvalidBucketName));
    assert_eq!(at("h", "/bkt%2Fk"), Err(ErrorCode::InvalidBucketName));
}

#[test]
fn bad_targets_are_refused() {
    assert_eq!(at("h", "*"), Err(ErrorCode::InvalidURI));
    assert_eq!(at("h", ""), Err(ErrorCode::InvalidURI));
    assert_eq!(at("h", "/bkt/a%ZZ"), Err(ErrorCode::InvalidURI));
    assert_eq!(at("h", "/bkt/%ff"), Err(ErrorCode::InvalidURI));
    assert_eq!(
        at("h", &format!("/bkt/{}", "a".repeat(1025))),
        Err(ErrorCode::KeyTooLongError)
    );
    assert_eq!(
        at("h", &format!("/bkt/{}", "a".repeat(64 * 1024))),
        Err(ErrorCode::URITooLong)
    );
    assert!(at("h", &format!("/bkt/{}", "%E2%82%AC".repeat(341))).is_ok());
}

#[test]
fn row_153_no_preflight_is_allowed() {
    let full = [
        ("origin", "https://a.test"),
        ("access-control-request-method", "GET"),
    ];
    assert_eq!(
        routed("OPTIONS", "/bkt/k", "h", &full).unwrap_err().code,
        ErrorCode::AccessForbidden
    );
    assert_eq!(
        routed("OPTIONS", "/bkt/k", "h", &full[1..])
            .unwrap_err()
            .code,
        ErrorCode::BadRequest
    );
    assert_eq!(
        routed("OPTIONS", "*", "h", &[]).unwrap_err().code,
        ErrorCode::BadRequest
    );
}

#[test]
fn other_methods_are_not_allowed() {
    for method in ["PATCH", "TRACE", "CONNECT", "PROPFIND", "get"] {
        for target in ["/", "/bkt", "/bkt/k", "/bkt?policy"] {
            assert_eq!(
                op(method, target),
                Err(ErrorCode::MethodNotAllowed),
                "{method} {target}"
            );
        }
    }
    assert_eq!(op("HEAD", "/"), Err(ErrorCode::MethodNotAllowed));
    assert_eq!(op("POST", "/"), Err(ErrorCode::MethodNotAllowed));
}

#[test]
fn a_version_is_taken_only_where_it_means_something() {
    assert_eq!(
        routed("GET", "/bkt/k?versionId=null", "h", &[])
            .unwrap()
            .version,
        Some(VersionId::Null)
    );
    for target in ["/bkt/k?versionId=zz", "/bkt/k?versionId="] {
        assert_eq!(op("GET", target), Err(ErrorCode::InvalidArgument));
        assert_eq!(op("DELETE", target), Err(ErrorCode::InvalidArgument));
    }
    assert_eq!(
        op("PUT", "/bkt/k?versionId=null"),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(
        op("DELETE", "/bkt?versionId=null"),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(
        op("PUT", "/bkt/k?uploadId=u&partNumber=1&versionId=null"),
        Err(ErrorCode::InvalidArgument)
    );
}

#[test]
fn an_unknown_list_type_is_refused() {
    for value in ["1", "3", "", "two"] {
        assert_eq!(
            op("GET", &format!("/bkt?list-type={value}")),
            Err(ErrorCode::InvalidArgument)
        );
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(method in "[A-Z]{1,8}", path in "/?.{0,40}", query in ".{0,40}", host in ".{0,20}") {
        let bases = ["a".to_owned(), String::new()];
        let method: Method = method.parse().unwrap();
        let _ = route(&method, &path, Some(&query), &HeaderMap::new(), Some(&host), &bases);
    }
}
