"""boto3 clients as the suites want them: bounded time-outs, no environment, any gateway, any key."""

import socket

import boto3
import botocore.config
from botocore.exceptions import ClientError

from .cluster import REGION


def s3_client(endpoint, keys, **config):
    config = {
        "signature_version": "s3v4",
        "connect_timeout": 10,
        "read_timeout": 60,
        "retries": {"max_attempts": 1, "mode": "standard"},
        "max_pool_connections": 64,
        "proxies": {},
        **config,
    }
    s3 = {"addressing_style": "path", **config.pop("s3", {})}
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=botocore.config.Config(s3=s3, **config),
    )


def error_of(call, *args, **kwargs):
    """(HTTP status, S3 code) of a call that must fail."""
    try:
        answer = call(*args, **kwargs)
    except ClientError as e:
        return e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"]["Code"]
    raise AssertionError(f"{getattr(call, '__name__', call)} was accepted: {answer}")


def empty_bucket(client, bucket):
    """Removes every object and open upload of the bucket, then the bucket."""
    for upload in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for entry in upload.get("Uploads", []):
            client.abort_multipart_upload(Bucket=bucket, Key=entry["Key"], UploadId=entry["UploadId"])
    # By client-side loop, not by paginator: deleting while paging with a stable start is simplest from the front.
    while True:
        page = client.list_objects_v2(Bucket=bucket, EncodingType="url")
        names = [o["Key"] for o in page.get("Contents", [])]
        if not names:
            break
        names = [decoded(n) for n in names]
        for name in names:
            client.delete_object(Bucket=bucket, Key=name)
    client.delete_bucket(Bucket=bucket)


def decoded(name):
    """Keys of a page that was asked for with encoding-type=url (botocore decodes only what it asked for itself)."""
    from urllib.parse import unquote_plus

    return unquote_plus(name)


class LoopbackNames:
    """While active, every name below .localhost resolves to 127.0.0.1, whatever the machine's resolver thinks."""

    def __enter__(self):
        self.real = socket.getaddrinfo

        def resolve(host, *args, **kwargs):
            if isinstance(host, str) and host.endswith(".localhost"):
                host = "127.0.0.1"
            return self.real(host, *args, **kwargs)

        socket.getaddrinfo = resolve
        return self

    def __exit__(self, *_):
        socket.getaddrinfo = self.real
