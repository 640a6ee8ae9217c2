"""A bucket that never had versions: every object is its own latest version, `null`."""

import boto3
from harness.clients import error_of
from harness.cluster import REGION

KEYS = ["a", "a/1", "a/2", "b", "c/1", "d é+", "e"]
UNKNOWN = "v5n1PPUjOCMHLyyfq0ayjoZ5RZLfVQKA"


def fill(s3, bucket):
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


def test_versions_are_the_objects(s3, bucket):
    fill(s3, bucket)
    page = s3.list_object_versions(Bucket=bucket)
    assert [v["Key"] for v in page["Versions"]] == KEYS
    assert all(v["VersionId"] == "null" and v["IsLatest"] for v in page["Versions"])
    objects = {o["Key"]: (o["ETag"], o["Size"], o["LastModified"]) for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert {v["Key"]: (v["ETag"], v["Size"], v["LastModified"]) for v in page["Versions"]} == objects
    assert page["Versions"][0]["Owner"]["ID"] and page["Name"] == bucket and not page["IsTruncated"]
    assert "DeleteMarkers" not in page


def test_versions_in_pages_prefixes_and_folders(s3, bucket):
    fill(s3, bucket)
    for size in (1, 2, 3, 1000):
        seen, folders, markers = [], [], {}
        while True:
            page = s3.list_object_versions(Bucket=bucket, Delimiter="/", MaxKeys=size, **markers)
            seen += [v["Key"] for v in page.get("Versions", [])]
            folders += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
            assert len(page.get("Versions", [])) + len(page.get("CommonPrefixes", [])) <= size
            if not page["IsTruncated"]:
                assert "NextKeyMarker" not in page
                break
            markers = {"KeyMarker": page["NextKeyMarker"]}
            if "NextVersionIdMarker" in page:
                markers["VersionIdMarker"] = page["NextVersionIdMarker"]
        assert (seen, folders) == (["a", "b", "d é+", "e"], ["a/", "c/"])
    paginator = s3.get_paginator("list_object_versions")
    pages = paginator.paginate(Bucket=bucket, Prefix="a", PaginationConfig={"PageSize": 1})
    assert [v["Key"] for page in pages for v in page["Versions"]] == ["a", "a/1", "a/2"]
    assert s3.list_object_versions(Bucket=bucket, MaxKeys=0).get("Versions", []) == []


def test_markers_that_mean_nothing_are_refused(s3, bucket):
    listed = s3.list_object_versions
    assert error_of(listed, Bucket=bucket, VersionIdMarker="null") == (400, "InvalidArgument")
    assert error_of(listed, Bucket=bucket, KeyMarker="a", VersionIdMarker=UNKNOWN) == (400, "InvalidArgument")
    assert error_of(listed, Bucket=bucket, KeyMarker="a", VersionIdMarker="") == (400, "InvalidArgument")
    assert error_of(listed, Bucket="no-such-bucket-at-all") == (404, "NoSuchBucket")


def test_the_version_null_is_the_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.get_object(Bucket=bucket, Key="k", VersionId="null")
    assert got["Body"].read() == b"x" and got["VersionId"] == "null"
    assert "VersionId" not in s3.get_object(Bucket=bucket, Key="k")
    assert s3.head_object(Bucket=bucket, Key="k", VersionId="null")["ContentLength"] == 1
    assert error_of(s3.get_object, Bucket=bucket, Key="k", VersionId=UNKNOWN) == (404, "NoSuchVersion")
    assert error_of(s3.get_object, Bucket=bucket, Key="k", VersionId="zz") == (400, "InvalidArgument")
    # A version that never was is gone already; the object stays.
    assert s3.delete_object(Bucket=bucket, Key="k", VersionId=UNKNOWN)["VersionId"] == UNKNOWN
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": UNKNOWN}]})
    assert done["Deleted"] == [{"Key": "k", "VersionId": UNKNOWN}]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert s3.delete_object(Bucket=bucket, Key="k", VersionId="null")["VersionId"] == "null"
    assert error_of(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")


def test_a_bucket_is_emptied_by_its_versions(cluster, s3, make_bucket):
    bucket = make_bucket()
    fill(s3, bucket)
    resource = boto3.session.Session().resource(
        "s3", endpoint_url=cluster.endpoints[0], region_name=REGION,
        aws_access_key_id=cluster.keys.access_key, aws_secret_access_key=cluster.keys.secret_key,
    )  # fmt: skip
    resource.Bucket(bucket).object_versions.delete()
    assert s3.list_object_versions(Bucket=bucket).get("Versions", []) == []
    resource.Bucket(bucket).delete()
