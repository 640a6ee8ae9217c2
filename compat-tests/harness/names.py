"""Bucket names that no other run has."""

import itertools
import uuid

_serial = itertools.count(1)


def fresh_name():
    return f"compat-{uuid.uuid4().hex[:10]}-{next(_serial)}"
