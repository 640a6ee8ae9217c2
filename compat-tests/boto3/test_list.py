"""ListObjects and ListObjectsV2 against a plain model in Python, over keys that trip up naive stores."""

import pytest
from harness.clients import error_of

KEYS = sorted(
    [
        "a", "a/", "a//b", "a/b", "a/b/c", "a/b/d", "a0", "a b", "a+b", "a%2Fb", "b/", "b/1", "b/2", "c\u0301", "ć",
        "d" * 1024, "e/\u00ff", "e/\uffee", "e/😀", "f&<>\"'", "f\tg", "z/" + "y" * 1000, "/", "//", "/a", "😀/x", "x",
    ],
    key=lambda k: k.encode(),
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(cluster):
    from harness.names import fresh_name
    from harness.clients import empty_bucket, s3_client

    s3 = s3_client(cluster.endpoints[0], cluster.keys)
    name = fresh_name()
    s3.create_bucket(Bucket=name)
    for key in KEYS:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    yield name
    empty_bucket(s3, name)


def model(prefix="", delimiter="", after=""):
    """(keys, common prefixes) in one order, as S3 defines them: a prefix at or below `after` is not shown again."""
    out, seen = [], set()
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        if delimiter and delimiter in key[len(prefix) :]:
            group = prefix + key[len(prefix) :].split(delimiter)[0] + delimiter
            if group not in seen and not (group.encode() <= after.encode()):
                seen.add(group)
                out.append(("prefix", group))
        elif key.encode() > after.encode():
            out.append(("key", key))
    return out


def entries(page):
    both = [("key", o["Key"]) for o in page.get("Contents", [])]
    both += [("prefix", p["Prefix"]) for p in page.get("CommonPrefixes", [])]
    return sorted(both, key=lambda e: e[1].encode())


SHAPES = [(p, d) for p in ("", "a", "a/", "a//", "e/", "nothing") for d in ("", "/", "b", "a/", "😀")]


@pytest.mark.parametrize("prefix,delimiter", SHAPES, ids=ascii)
@pytest.mark.parametrize("page_keys", [1, 2, 7, 1000])
def test_v2_pages_give_everything_once_in_byte_order(s3, filled, prefix, delimiter, page_keys):
    seen, token, pages = [], {}, 0
    while True:
        page = s3.list_objects_v2(Bucket=filled, Prefix=prefix, Delimiter=delimiter, MaxKeys=page_keys, **token)
        got = entries(page)
        assert page["KeyCount"] == len(got) <= page_keys
        assert page["MaxKeys"] == page_keys and page["Prefix"] == prefix and page["Name"] == filled
        seen += got
        pages += 1
        assert pages < 100, "paging does not end"
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            break
        assert got, "a truncated page is not empty"
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert seen == model(prefix, delimiter)


@pytest.mark.parametrize("prefix,delimiter", SHAPES, ids=ascii)
def test_v1_pages_give_everything_once_in_byte_order(s3, filled, prefix, delimiter):
    seen, marker = [], ""
    for _ in range(100):
        page = s3.list_objects(Bucket=filled, Prefix=prefix, Delimiter=delimiter, MaxKeys=2, Marker=marker)
        got = entries(page)
        seen += got
        if not page["IsTruncated"]:
            break
        # NextMarker comes only with a delimiter; without one it is the last key.
        marker = page["NextMarker"] if delimiter else got[-1][1]
    assert seen == model(prefix, delimiter)


@pytest.mark.parametrize("after", ["", "a", "a/", "a/b", "b/1", "zzz", "😀", "\U0010ffff"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_start_after_and_marker(s3, filled, after, delimiter):
    if delimiter and after in ("a/b", "b/1"):
        pytest.skip("S3's pages do not say whether a prefix is shown again when the start lies inside it")
    want = model("", delimiter, after)
    assert entries(s3.list_objects_v2(Bucket=filled, StartAfter=after, Delimiter=delimiter)) == want
    assert entries(s3.list_objects(Bucket=filled, Marker=after, Delimiter=delimiter)) == want


def test_each_entry_says_size_etag_time_and_class(s3, filled):
    page = s3.list_objects_v2(Bucket=filled, Prefix="a/b", FetchOwner=True)
    for entry in page["Contents"]:
        head = s3.head_object(Bucket=filled, Key=entry["Key"])
        assert entry["Size"] == len(entry["Key"].encode()) == head["ContentLength"]
        assert entry["ETag"] == head["ETag"] and entry["StorageClass"] == "STANDARD"
        assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
        assert entry["Owner"]["ID"]
    assert "Owner" not in s3.list_objects_v2(Bucket=filled, Prefix="a/b")["Contents"][0]
    assert s3.list_objects(Bucket=filled, Prefix="a/b")["Contents"][0]["Owner"]["ID"]


def test_encoding_type_url_encodes_keys_prefixes_and_markers(s3, filled):
    page = s3.list_objects_v2(
        Bucket=filled, Prefix="f", Delimiter="😀", StartAfter="e+ü", EncodingType="url"
    )
    assert page["EncodingType"] == "url" and page["Delimiter"] == "%F0%9F%98%80"
    assert page["StartAfter"] == "e%2B%C3%BC"
    assert [o["Key"] for o in page["Contents"]] == ["f%09g", "f%26%3C%3E%22%27"]


def test_max_keys_zero_gives_nothing(s3, filled):
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert page["KeyCount"] == 0 and not page["IsTruncated"] and "Contents" not in page


def test_max_keys_bounds(s3, filled):
    assert error_of(s3.list_objects_v2, Bucket=filled, MaxKeys=-1) == (400, "InvalidArgument")
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=100000)["MaxKeys"] == 1000


def test_a_token_of_our_own_making_is_refused(s3, filled):
    failed = error_of(s3.list_objects_v2, Bucket=filled, ContinuationToken="garbage")
    assert failed == (400, "InvalidArgument")


def test_an_empty_token_is_none(s3, filled):
    """As ceph/s3-tests has it (test_bucket_listv2_continuationtoken_empty); AWS itself has refused it."""
    page = s3.list_objects_v2(Bucket=filled, ContinuationToken="")
    assert page["ContinuationToken"] == "" and not page["IsTruncated"]
    assert entries(page) == model()
    later = s3.list_objects_v2(Bucket=filled, ContinuationToken="", StartAfter="b")
    assert entries(later) == model(after="b")


def test_more_than_a_thousand_keys_take_two_pages(s3, bucket):
    from concurrent.futures import ThreadPoolExecutor

    names = [f"n{i:05}" for i in range(1100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket=bucket, Key=n, Body=b""), names))
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [len(p["Contents"]) for p in pages] == [1000, 100]
    assert [o["Key"] for p in pages for o in p["Contents"]] == names
    for start in range(0, 1100, 1000):
        objects = [{"Key": n} for n in names[start : start + 1000]]
        assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})["Deleted"]) == len(objects)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_an_empty_bucket_lists_as_empty(s3, bucket):
    page = s3.list_objects_v2(Bucket=bucket)
    assert page["KeyCount"] == 0 and not page["IsTruncated"]
    assert s3.list_objects(Bucket=bucket)["IsTruncated"] is False
