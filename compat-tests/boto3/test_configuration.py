"""Settings that nothing can have here: reads answer as S3 does for a bucket without them, writes are refused."""

import pytest
from harness.clients import error_of

ABSENT = [
    ("get_bucket_tagging", 404, "NoSuchTagSet"),
    ("get_bucket_policy", 404, "NoSuchBucketPolicy"),
    ("get_bucket_policy_status", 404, "NoSuchBucketPolicy"),
    ("get_bucket_cors", 404, "NoSuchCORSConfiguration"),
    ("get_bucket_lifecycle_configuration", 404, "NoSuchLifecycleConfiguration"),
    ("get_bucket_encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"),
    ("get_bucket_website", 404, "NoSuchWebsiteConfiguration"),
    ("get_bucket_replication", 404, "ReplicationConfigurationNotFoundError"),
    ("get_public_access_block", 404, "NoSuchPublicAccessBlockConfiguration"),
    ("get_object_lock_configuration", 404, "ObjectLockConfigurationNotFoundError"),
]


@pytest.mark.parametrize("call,status,code", ABSENT, ids=[row[0] for row in ABSENT])
def test_a_setting_that_s3_misses_by_an_error(s3, bucket, call, status, code):
    assert error_of(getattr(s3, call), Bucket=bucket) == (status, code)
    assert error_of(getattr(s3, call), Bucket="no-such-bucket-at-all") == (404, "NoSuchBucket")


DOCUMENTS = [
    ("get_bucket_accelerate_configuration", {}),
    ("get_bucket_logging", {}),
    ("get_bucket_notification_configuration", {}),
    ("get_bucket_versioning", {}),
    ("get_bucket_request_payment", {"Payer": "BucketOwner"}),
    ("get_bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}),
]


@pytest.mark.parametrize("call,shown", DOCUMENTS, ids=[row[0] for row in DOCUMENTS])
def test_a_setting_that_s3_shows_as_a_document(s3, bucket, call, shown):
    answer = getattr(s3, call)(Bucket=bucket)
    answer.pop("ResponseMetadata")
    assert answer == shown
    assert error_of(getattr(s3, call), Bucket="no-such-bucket-at-all") == (404, "NoSuchBucket")


def test_an_object_without_tags_or_lock(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    assert error_of(s3.get_object_tagging, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    for call in (s3.get_object_retention, s3.get_object_legal_hold):
        assert error_of(call, Bucket=bucket, Key="k") == (400, "InvalidRequest")


SETS = [
    ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
    ("put_bucket_tagging", {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
    ("put_bucket_policy", {"Policy": "{}"}),
    ("delete_bucket_policy", {}),
    ("delete_bucket_tagging", {}),
    ("put_public_access_block", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}),
    ("put_object_tagging", {"Key": "k", "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
    ("delete_object_tagging", {"Key": "k"}),
    ("put_object_retention", {"Key": "k", "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": "2099-01-01"}}),
]


@pytest.mark.parametrize("call,args", SETS, ids=[row[0] for row in SETS])
def test_nothing_of_the_kind_can_be_set(s3, bucket, call, args):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert error_of(getattr(s3, call), Bucket=bucket, **args) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_the_access_list_is_the_owners_alone(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="bucket-owner-full-control")
    for answer in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        [grant] = answer["Grants"]
        assert grant["Permission"] == "FULL_CONTROL" and grant["Grantee"]["ID"] == answer["Owner"]["ID"]
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control", VersionId="null")
    assert error_of(s3.put_object_acl, Bucket=bucket, Key="none", ACL="private") == (404, "NoSuchKey")
    for acl, owed in (("public-read", (501, "NotImplemented")), ("public-ready", (400, "InvalidArgument"))):
        assert error_of(s3.put_bucket_acl, Bucket=bucket, ACL=acl) == owed
        assert error_of(s3.put_object_acl, Bucket=bucket, Key="k", ACL=acl) == owed
        assert error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"y", ACL=acl) == owed
    grants = {"Owner": s3.get_bucket_acl(Bucket=bucket)["Owner"], "Grants": []}
    assert error_of(s3.put_bucket_acl, Bucket=bucket, AccessControlPolicy=grants) == (501, "NotImplemented")
    assert error_of(s3.put_object_acl, Bucket=bucket, Key="k", GrantRead="id=x") == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
