"""DeleteObjects: quiet and not, absent keys, odd keys, bounds."""

from harness.clients import error_of


def keys_left(s3, bucket):
    return [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def fill(s3, bucket, *keys):
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_names_what_was_deleted_absent_keys_too(s3, bucket):
    fill(s3, bucket, "a", "b", "c")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in ("a", "b", "absent")]})
    assert sorted(d["Key"] for d in answer["Deleted"]) == ["a", "absent", "b"] and "Errors" not in answer
    assert keys_left(s3, bucket) == ["c"]


def test_quiet_names_only_errors(s3, bucket):
    fill(s3, bucket, "a")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "no"}], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer
    assert keys_left(s3, bucket) == []


def test_odd_keys_are_taken_literally(s3, bucket):
    odd = ["a", "a/", "a//b", "../a", "a b", "a+b", "a%20b", "ü", "😀", "<&>\"'", "a\tb", "./a"]
    fill(s3, bucket, *odd, "kept")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in odd]})
    assert keys_left(s3, bucket) == ["kept"]


def test_the_same_key_twice(s3, bucket):
    fill(s3, bucket, "a")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "a"}]})
    assert keys_left(s3, bucket) == []


def test_more_than_a_thousand_is_refused_whole(s3, bucket):
    fill(s3, bucket, "a")
    objects = [{"Key": "a"}] + [{"Key": f"k{i}"} for i in range(1000)]
    assert error_of(s3.delete_objects, Bucket=bucket, Delete={"Objects": objects}) == (400, "MalformedXML")
    assert keys_left(s3, bucket) == ["a"]


def test_in_no_bucket(s3, bucket):
    failed = error_of(s3.delete_objects, Bucket=bucket + "-no", Delete={"Objects": [{"Key": "a"}]})
    assert failed == (404, "NoSuchBucket")
