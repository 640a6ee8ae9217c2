//! Answers about buckets: ListBuckets, GetBucketLocation, GetBucketVersioning, and the access list of both kinds.

use super::write::{Document, Owner};

/// One bucket of ListBuckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBucket {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_ms: u64,
    /// Its region; written only where paging was asked for, as S3 does.
    pub region: Option<String>,
}

/// The answer of ListBuckets (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBuckets {
    /// Whose buckets.
    pub owner: Owner,
    /// One page, in the order of names.
    pub buckets: Vec<ListedBucket>,
    /// Echo of the prefix asked for.
    pub prefix: Option<String>,
    /// Where the next page starts; `None` on the last.
    pub continuation_token: Option<String>,
}

/// `ListAllMyBucketsResult`.
#[must_use]
pub fn list_buckets(answer: &ListBuckets) -> String {
    let mut document = Document::new("ListAllMyBucketsResult");
    document.owner("Owner", &answer.owner);
    document.open("Buckets");
    for bucket in &answer.buckets {
        document.open("Bucket");
        document.text("Name", &bucket.name);
        document.time("CreationDate", bucket.created_ms);
        document.optional("BucketRegion", bucket.region.as_deref());
        document.close("Bucket");
    }
    document.close("Buckets");
    document.optional("Prefix", answer.prefix.as_deref());
    document.optional("ContinuationToken", answer.continuation_token.as_deref());
    document.finish()
}

/// `LocationConstraint`: the region; empty for `us-east-1`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html>).
#[must_use]
pub fn location(region: &str) -> String {
    let mut document = Document::new("LocationConstraint");
    if region != "us-east-1" {
        document.root_text(region);
    }
    document.finish()
}

/// `VersioningConfiguration` of a bucket on which versioning was never switched on: empty
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>).
#[must_use]
pub fn versioning_never_enabled() -> String {
    Document::new("VersioningConfiguration").finish()
}

/// `AccessControlPolicy` of a private bucket or object: full control for the owner, nothing for anyone else
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html>).
#[must_use]
pub fn access_control_private(owner: &Owner) -> String {
    let mut document = Document::new("AccessControlPolicy");
    document.owner("Owner", owner);
    document.open("AccessControlList");
    document.open("Grant");
    document.open("Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"");
    document.text("ID", &owner.id);
    document.text("DisplayName", &owner.display_name);
    document.close("Grantee");
    document.text("Permission", "FULL_CONTROL");
    document.close("Grant");
    document.close("AccessControlList");
    document.finish()
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::leaves;
    use super::*;

    fn owner() -> Owner {
        Owner {
            id: "id<1>".into(),
            display_name: "me & you".into(),
        }
    }

    #[test]
    fn buckets_are_listed_with_their_page() {
        let xml = list_buckets(&ListBuckets {
            owner: owner(),
            buckets: vec![ListedBucket {
                name: "abc".into(),
                created_ms: 0,
                region: Some("eu".into()),
            }],
            prefix: Some("a&".into()),
            continuation_token: Some("t".into()),
        });
        assert_eq!(
            leaves(&xml),
            [
                "Owner/ID=id<1>",
                "Owner/DisplayName=me & you",
                "Buckets/Bucket/Name=abc",
                "Buckets/Bucket/CreationDate=1970-01-01T00:00:00.000Z",
                "Buckets/Bucket/BucketRegion=eu",
                "Prefix=a&",
                "ContinuationToken=t",
            ]
        );
    }

    #[test]
    fn a_location_is_the_root_s_text() {
        assert!(location("eu-west-1").ends_with(">eu-west-1</LocationConstraint>"));
        assert!(location("us-east-1").ends_with("\"></LocationConstraint>"));
        assert!(leaves(&versioning_never_enabled()).is_empty());
    }

    #[test]
    fn a_private_list_grants_the_owner_and_nobody_else() {
        assert_eq!(
            leaves(&access_control_private(&owner())),
            [
                "Owner/ID=id<1>",
                "Owner/DisplayName=me & you",
                "AccessControlList/Grant/Grantee/ID=id<1>",
                "AccessControlList/Grant/Grantee/DisplayName=me & you",
                "AccessControlList/Grant/Permission=FULL_CONTROL",
            ]
        );
    }
}
