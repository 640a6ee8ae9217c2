"""Fixtures of all suites, known gaps from expectations.toml, and the logs of the servers beside every failure."""

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness.clients import empty_bucket, s3_client  # noqa: E402
from harness.cluster import Cluster, ExternalCluster, make_cluster  # noqa: E402
from harness.haproxy import HaProxy, haproxy_binary  # noqa: E402
from harness.names import fresh_name  # noqa: E402

_live_clusters = []


def pytest_configure(config):
    config.addinivalue_line("markers", "gap(reason): a known gap, from expectations.toml")


def pytest_collection_modifyitems(items):
    """A gap is a strict xfail: the day it is closed, the run says so and the entry must go."""
    with open(HERE / "expectations.toml", "rb") as f:
        gaps = tomllib.load(f).get("gap", [])
    for gap in gaps:
        assert set(gap) == {"test", "reason"}, f"a gap has a test and a reason: {gap}"
    unused = {gap["test"] for gap in gaps}
    for item in items:
        name = os.path.relpath(item.path, HERE) + "::" + item.nodeid.split("::", 1)[1]
        for gap in gaps:
            if gap["test"] in (name, name.split("[")[0]):
                item.add_marker(pytest.mark.xfail(reason=gap["reason"], strict=True))
                unused.discard(gap["test"])
    collected_files = {os.path.relpath(i.path, HERE) for i in items}
    stale = sorted(t for t in unused if t.split("::")[0] in collected_files)
    # Only when whole files were collected can an entry be called stale.
    if stale and not any("::" in a for a in sys.argv) and "-k" not in sys.argv:
        raise pytest.UsageError(f"expectations.toml names tests that do not exist: {stale}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        report.row_detail = ""
        if report.failed and call.excinfo is not None:
            report.row_detail = str(call.excinfo.value).splitlines()[0][:160] if str(call.excinfo.value) else ""
    if report.failed:
        for cluster in _live_clusters:
            if isinstance(cluster, Cluster):
                report.sections.append(("server logs", cluster.log_tails()))


def pytest_terminal_summary(terminalreporter):
    """The table of hostile rows: which answered as owed, and each that did not."""
    rows = {}
    for outcome in ("passed", "failed", "xfailed", "xpassed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            match = re.search(r"::test_row_(\d+)_(\w+)", getattr(report, "nodeid", ""))
            if match:
                rank = {"passed": 0, "skipped": 1, "xfailed": 2}.get(outcome, 3)
                row = rows.setdefault(int(match[1]), [0, 0, 0, ""])
                row[0] = max(row[0], rank)
                row[1] += 1
                if rank >= 2:
                    row[2] += 1
                    row[3] = row[3] or f"{report.nodeid.split('::')[-1]}: {getattr(report, 'row_detail', '')}"
    if not rows:
        return
    write = terminalreporter.write_line
    words = {0: "as owed", 1: "skipped", 2: "known gap", 3: "NOT as owed"}
    terminalreporter.section("hostile rows")
    for number, (rank, cases, bad, detail) in sorted(rows.items()):
        if rank:
            write(f"row {number:3}  {words[rank]:12} {bad} of {cases} cases  {detail}")
    counts = {words[r]: sum(1 for v in rows.values() if v[0] == r) for r in words}
    write(f"rows {len(rows)}: " + ", ".join(f"{v} {k}" for k, v in counts.items() if v))


@pytest.fixture(scope="session")
def cluster():
    """Three nodes and two gateways, shared by all tests that break nothing."""
    made = make_cluster().start()
    _live_clusters.append(made)
    yield made
    _live_clusters.remove(made)
    panics = made.panics() if isinstance(made, Cluster) else []
    made.stop()
    assert not panics, panics


@pytest.fixture(scope="module")
def own_cluster():
    """A cluster for one file of tests that kill processes."""
    if os.environ.get("RINGFORT_ENDPOINTS"):
        pytest.skip("needs processes of its own")
    made = Cluster().start()
    _live_clusters.append(made)
    yield made
    _live_clusters.remove(made)
    panics = made.panics()
    made.stop()
    assert not panics, panics


@pytest.fixture(scope="module")
def haproxy(own_cluster):
    if haproxy_binary() is None:
        pytest.skip("haproxy is not installed")
    proxy = HaProxy(own_cluster).start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def s3(cluster):
    return s3_client(cluster.endpoints[0], cluster.keys)


@pytest.fixture(scope="session")
def s3_other(cluster):
    """The same store through the other gateway."""
    return s3_client(cluster.endpoints[1], cluster.keys)


@pytest.fixture(scope="session")
def is_external(cluster):
    return isinstance(cluster, ExternalCluster)


@pytest.fixture
def make_bucket(s3):
    made = []

    def make():
        name = fresh_name()
        s3.create_bucket(Bucket=name)
        made.append(name)
        return name

    yield make
    for name in made:
        try:
            empty_bucket(s3, name)
        except s3.exceptions.ClientError as e:
            if e.response["Error"]["Code"] != "NoSuchBucket":
                raise


@pytest.fixture
def bucket(make_bucket):
    return make_bucket()
