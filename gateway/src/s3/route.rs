//! From method, target and Host to the operation: pure, before any authentication.
//!
//! Promises: a sub-resource that Ringfort does not know how to serve never falls through to the base operation
//! (`DELETE /bucket?website` deletes no bucket); a request that means two things is refused. Leaves out whether the
//! caller may do it and whether the names exist.

use super::configuration::{Configuration, Owner};
use super::copy_source::COPY_SOURCE;
use super::error::{ErrorCode, S3Error};
use super::names::{self, BucketName, VersionId};
use super::operation::Operation;
use super::query::{Query, TARGET_BYTES_MAX};
use http::{HeaderMap, Method};
use ringfort_wire::id::ObjectKey;

/// A request whose meaning is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// What is asked for.
    pub operation: Operation,
    /// The bucket; `None` only for operations on the service.
    pub bucket: Option<BucketName>,
    /// The key; `Some` for operations on objects.
    pub key: Option<ObjectKey>,
    /// The version asked for; `Some` only where the operation takes one.
    pub version: Option<VersionId>,
    /// All parameters, decoded.
    pub query: Query,
}

/// Sub-resources that Ringfort serves, at least for some methods.
const SERVED: [&str; 9] = [
    "acl",
    "attributes",
    "delete",
    "location",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "partNumber",
];

/// Sub-resources of S3 that Ringfort does not serve; some can be read as absent ([`Configuration`]).
const NOT_SERVED: [&str; 32] = [
    "abac",
    "accelerate",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "website",
];

/// Finds the operation.
///
/// `raw_path` and `raw_query` are the target as sent; `host` is the Host header (or the target's authority);
/// `base_domains` are the names under which buckets appear as host labels.
pub fn route(
    method: &Method,
    raw_path: &str,
    raw_query: Option<&str>,
    headers: &HeaderMap,
    host: Option<&str>,
    base_domains: &[String],
) -> Result<Routed, S3Error> {
    let raw_query = raw_query.unwrap_or("");
    if raw_path.len() + raw_query.len() > TARGET_BYTES_MAX {
        return Err(ErrorCode::URITooLong.into());
    }
    if method == Method::OPTIONS {
        return Err(preflight(headers));
    }
    let query = Query::parse(raw_query)?;
    let (bucket, key) = place(raw_path, host, base_domains)?;
    check_copy_header(method, key.is_some(), headers)?;
    let operation = match (&bucket, &key) {
        (None, _) => service_operation(method, &query)?,
        (Some(_), None) => bucket_operation(method, &query)?,
        (Some(_), Some(_)) => object_operation(method, &query, headers.contains_key(COPY_SOURCE))?,
    };
    let version = version_of(operation, &query)?;
    Ok(Routed {
        operation,
        bucket,
        key,
        version,
        query,
    })
}

/// No bucket has a CORS rule, so no preflight is allowed
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>).
fn preflight(headers: &HeaderMap) -> S3Error {
    if headers.contains_key("origin") && headers.contains_key("access-control-request-method") {
        S3Error::with_message(
            ErrorCode::AccessForbidden,
            "CORSResponse: CORS is not enabled for this bucket.",
        )
    } else {
        S3Error::with_message(
            ErrorCode::BadRequest,
            "Insufficient information. Origin request header needed.",
        )
    }
}

/// Bucket and key: from host label and path, or from the path alone.
///
/// A Host that is none of ours is no reason to refuse: clients reach a gateway by address, by a proxy's name or through
/// a tunnel.
fn place(
    raw_path: &str,
    host: Option<&str>,
    base_domains: &[String],
) -> Result<(Option<BucketName>, Option<ObjectKey>), S3Error> {
    let Some(path) = raw_path.strip_prefix('/') else {
        return Err(S3Error::new(ErrorCode::InvalidURI).with_extra("URI", raw_path));
    };
    let (bucket, raw_key) =
        if let Some(label) = host.and_then(|host| bucket_label(host, base_domains)) {
            (BucketName::parse(&label)?, path)
        } else if path.is_empty() {
            return Ok((None, None));
        } else {
            let (raw_bucket, raw_key) = path.split_once('/').unwrap_or((path, ""));
            (names::decode_bucket(raw_bucket)?, raw_key)
        };
    let key = if raw_key.is_empty() {
        None
    } else {
        Some(names::decode_key(raw_key)?)
    };
    Ok((Some(bucket), key))
}

/// The part of the Host before the longest base domain that it ends with.
fn bucket_label(host: &str, base_domains: &[String]) -> Option<String> {
    if host.starts_with('[') {
        return None;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // The Host that is a base domain itself is path style, even where a shorter base domain would make it a bucket.
    if base_domains
        .iter()
        .any(|base| name.eq_ignore_ascii_case(base))
    {
        return None;
    }
    base_domains
        .iter()
        .filter(|base| !base.is_empty())
        .filter_map(|base| {
            name.strip_suffix(base.to_ascii_lowercase().as_str())?
                .strip_suffix('.')
                .map(str::to_owned)
        })
        .min_by_key(String::len)
}

fn check_copy_header(method: &Method, has_key: bool, headers: &HeaderMap) -> Result<(), S3Error> {
    let Some(source) = headers.get(COPY_SOURCE) else {
        return Ok(());
    };
    let shown = String::from_utf8_lossy(source.as_bytes());
    if method != Method::PUT || !has_key {
        return Err(S3Error::invalid_argument(
            "You can only specify a copy source header for copy requests.",
            COPY_SOURCE,
            shown,
        ));
    }
    if source.is_empty() {
        return Err(S3Error::invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            COPY_SOURCE,
            "",
        ));
    }
    Ok(())
}

/// The one sub-resource that the query names. `uploadId` and `partNumber` belong together and count as the first.
fn sub_resource(query: &Query) -> Result<Option<&'static str>, S3Error> {
    let mut found: Vec<&'static str> = SERVED
        .iter()
        .chain(&NOT_SERVED)
        .copied()
        .filter(|name| query.has(name))
        .collect();
    if let ["uploadId", "partNumber"] | ["select", "select-type"] = found[..] {
        found.pop();
    }
    // S3 names all of them, in the order of the alphabet.
    found.sort_unstable();
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        [first, ..] => Err(S3Error::invalid_argument(
            format!("Conflicting query string parameters: {}", found.join(", ")),
            "ResourceType",
            first,
        )),
    }
}

/// The read of a setting that nothing can have. HEAD is none of S3's for them.
fn absent(method: &Method, of: Owner, name: &str) -> Option<Operation> {
    if method != Method::GET {
        return None;
    }
    Configuration::find(of, name).map(Operation::GetConfiguration)
}

fn not_served(name: &str) -> Option<Operation> {
    NOT_SERVED
        .iter()
        .find(|known| **known == name)
        .map(|name| Operation::Unsupported { name })
}

fn method_not_allowed(method: &Method, resource: &'static str) -> S3Error {
    S3Error::new(ErrorCode::MethodNotAllowed)
        .with_extra("Method", method.as_str())
        .with_extra("ResourceType", resource)
}

/// S3 knows five methods; whatever the sub-resource, another one is a 405.
fn require_known_method(method: &Method, resource: &'static str) -> Result<(), S3Error> {
    if [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::DELETE,
    ]
    .contains(method)
    {
        Ok(())
    } else {
        Err(method_not_allowed(method, resource))
    }
}

fn service_operation(method: &Method, query: &Query) -> Result<Operation, S3Error> {
    require_known_method(method, "SERVICE")?;
    match sub_resource(query)? {
        None if method == Method::GET => Ok(Operation::ListBuckets),
        None => Err(method_not_allowed(method, "SERVICE")),
        Some(name) => not_served(name).ok_or_else(|| method_not_allowed(method, "SERVICE")),
    }
}

fn bucket_operation(method: &Method, query: &Query) -> Result<Operation, S3Error> {
    require_known_method(method, "BUCKET")?;
    let Some(name) = sub_resource(query)? else {
        return plain_bucket_operation(method, query);
    };
    if let Some(operation) = absent(method, Owner::Bucket, name).or_else(|| not_served(name)) {
        return Ok(operation);
    }
    match (name, method.as_str()) {
        ("acl", "GET") => Ok(Operation::GetBucketAcl),
        ("acl", "PUT") => Ok(Operation::PutBucketAcl),
        ("versioning", "GET") => Ok(Operation::GetBucketVersioning),
        ("versioning", "PUT") => Ok(Operation::Unsupported {
            name: "PutBucketVersioning",
        }),
        ("versions", "GET") => Ok(Operation::ListObjectVersions),
        ("location", "GET") => Ok(Operation::GetBucketLocation),
        ("uploads", "GET") => Ok(Operation::ListMultipartUploads),
        ("delete", "POST") => Ok(Operation::DeleteObjects),
        ("uploadId" | "partNumber" | "attributes", _) => Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            "A key must be specified",
        )),
        (name, _) => Err(method_not_allowed(method, name_upper(name))),
    }
}

fn plain_bucket_operation(method: &Method, query: &Query) -> Result<Operation, S3Error> {
    match method.as_str() {
        "GET" => match query.get("list-type") {
            None => Ok(Operation::ListObjects),
            Some("2") => Ok(Operation::ListObjectsV2),
            Some(other) => Err(S3Error::invalid_argument(
                "Invalid List Type specified in Request",
                "list-type",
                other,
            )),
        },
        "HEAD" => Ok(Operation::HeadBucket),
        "PUT" => Ok(Operation::CreateBucket),
        "DELETE" => Ok(Operation::DeleteBucket),
        // A browser's form upload.
        _ => Ok(Operation::Unsupported { name: "PostObject" }),
    }
}

fn object_operation(method: &Method, query: &Query, is_copy: bool) -> Result<Operation, S3Error> {
    require_known_method(method, "OBJECT")?;
    let name = sub_resource(query)?;
    if let Some(operation) =
        name.and_then(|name| absent(method, Owner::Object, name).or_else(|| not_served(name)))
    {
        return Ok(operation);
    }
    let has_part = query.has("partNumber");
    match (name, method.as_str()) {
        (None, "GET") | (Some("partNumber"), "GET") => Ok(Operation::GetObject),
        (None, "HEAD") | (Some("partNumber"), "HEAD") => Ok(Operation::HeadObject),
        (None, "PUT") if is_copy => Ok(Operation::CopyObject),
        (None, "PUT") => Ok(Operation::PutObject),
        (None, "DELETE") => Ok(Operation::DeleteObject),
        (Some("acl"), "GET") => Ok(Operation::GetObjectAcl),
        (Some("acl"), "PUT") => Ok(Operation::PutObjectAcl),
        (Some("attributes"), "GET") => Ok(Operation::GetObjectAttributes),
        (Some("uploads"), "POST") => Ok(Operation::CreateMultipartUpload),
        (Some("uploadId"), "PUT") if has_part && is_copy => Ok(Operation::UploadPartCopy),
        (Some("uploadId"), "PUT") if has_part => Ok(Operation::UploadPart),
        (Some("uploadId"), "PUT" | "GET" | "POST" | "DELETE")
            if has_part || method == Method::PUT =>
        {
            Err(S3Error::invalid_argument(
                if has_part {
                    "Conflicting query string parameters: partNumber, uploadId"
                } else {
                    "This operation does not accept a query-string."
                },
                "ResourceType",
                "uploadId",
            ))
        }
        (Some("uploadId"), "GET") => Ok(Operation::ListParts),
        (Some("uploadId"), "POST") => Ok(Operation::CompleteMultipartUpload),
        (Some("uploadId"), "DELETE") => Ok(Operation::AbortMultipartUpload),
        (Some("partNumber"), _) => Err(S3Error::invalid_argument(
            "A part number must come with an upload id",
            "partNumber",
            query.get("partNumber").unwrap_or(""),
        )),
        (name, _) => Err(method_not_allowed(
            method,
            name.map_or("OBJECT", name_upper),
        )),
    }
}

fn name_upper(name: &str) -> &'static str {
    match name {
        "acl" => "ACL",
        "attributes" => "ATTRIBUTES",
        "delete" => "MULTI_OBJECT_DELETE",
        "location" => "LOCATION",
        "uploads" | "uploadId" => "UPLOAD",
        "versioning" => "VERSIONING",
        "versions" => "VERSIONS",
        _ => "OBJECT",
    }
}

/// A version on an operation that would ignore it is refused: `PUT ?versionId=…` must not overwrite the current object.
fn version_of(operation: Operation, query: &Query) -> Result<Option<VersionId>, S3Error> {
    let Some(text) = query.get("versionId") else {
        return Ok(None);
    };
    if operation.takes_version() {
        return VersionId::parse(text).map(Some);
    }
    if matches!(operation, Operation::Unsupported { .. }) {
        return Ok(None);
    }
    Err(S3Error::invalid_argument(
        "This operation does not accept a version-id.",
        "versionId",
        text,
    ))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
