"""Nodes and disks come to a cluster that runs: each is in the layout, holds nothing, and disturbs nobody."""

import shutil

import pytest
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def growing():
    made = Cluster().start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


def status(cluster, admin=None):
    at = admin or cluster.node_admin[0]
    asked = ["--admin-endpoint", f"http://{at}", "--admin-token", cluster.admin_token]
    # "Not ready" is an answer too: on a busy machine a ping may be late.
    return cluster.run("status", "--json", *asked, codes=(0, 1))


def node_of(cluster, name, admin=None):
    return next((n for n in status(cluster, admin)["nodes"] if n["name"] == name), None)


def assert_serves(cluster):
    s3 = s3_client(cluster.endpoints[0], cluster.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    body = made_bytes(bucket, 200_000)
    s3.put_object(Bucket=bucket, Key="a", Body=body)
    other = s3_client(cluster.endpoints[1], cluster.keys)
    assert other.get_object(Bucket=bucket, Key="a")["Body"].read() == body


def test_a_fourth_node_joins_a_running_cluster(growing):
    before = status(growing)
    fourth = growing.join_node("n4")
    growing.wait_node_ready(3)
    now = status(growing)
    assert now["is_ready"], now["reason"]
    assert now["layout_version"] == before["layout_version"] + 1
    assert now["partitions"] == before["partitions"]
    added = node_of(growing, "n4")
    assert added["is_reachable"] and [d["partitions"] for d in added["disks"]] == [0], added
    # Everybody hears of it, the gateways too.
    for admin in [*growing.node_admin, *growing.gateway_admin]:
        wait_until(lambda admin=admin: node_of(growing, "n4", admin), f"n4 at {admin}", 30)
    assert_serves(growing)
    # It is a member like any other when it comes back.
    fourth.kill()
    growing.restart(fourth)
    assert status(growing)["layout_version"] == now["layout_version"]


def test_a_node_joins_while_a_member_of_the_control_set_is_away(growing):
    growing.ensure_all_running()
    growing.nodes[2].kill()
    growing.join_node("n5")
    growing.wait_node_ready(len(growing.nodes) - 1)
    assert node_of(growing, "n5")["is_reachable"]
    growing.restart(growing.nodes[2])
    # Who was away is told.
    wait_until(
        lambda: node_of(growing, "n3")["layout_version"] == status(growing)["layout_version"],
        "the layout at the node that was away",
        30,
    )


def test_a_further_disk_and_one_made_anew_are_announced(growing):
    growing.ensure_all_running()
    fourth = next(p for p in growing.nodes if p.name == "n4")
    extra = growing.folder / "n4-more"
    first = growing.folder / "n4" / "disk1"
    old = node_of(growing, "n4")["disks"][0]["id"]
    fourth.terminate()
    fourth.restart_argv = [*fourth.restart_argv, "--disk", str(first), "--disk", str(extra)]
    growing.restart(fourth)
    wait_until(lambda: len(node_of(growing, "n4")["disks"]) == 2, "the further disk in the layout", 30)
    assert old in [d["id"] for d in node_of(growing, "n4")["disks"]]
    # Without the flag it is remembered; and its first folder is emptied.
    fourth.terminate()
    fourth.restart_argv = fourth.restart_argv[:-4]
    shutil.rmtree(first)
    growing.restart(fourth)
    wait_until(lambda: "takes its place" in fourth.log_path.read_text("utf-8", "replace"), "the lost disk replaced", 30)
    held = [d["partitions"] for d in node_of(growing, "n4")["disks"]]
    assert held == [0] * len(held)
    assert_serves(growing)
