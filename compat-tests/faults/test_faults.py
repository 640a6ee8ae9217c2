"""What must hold while processes are killed with SIGKILL, and how much memory large streams take.

Small by default; RINGFORT_FULL=1 gives the full sizes. Each test prints its figures as one JSON line.
"""

import hashlib
import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from harness.clients import s3_client
from harness.cli import AwsCli
from harness.cluster import http_status
from harness.made import SeededStream, digest_of, made_bytes, make_tree, tree_digest
from harness.names import fresh_name
from harness.process import wait_until
from harness.raw import RawConnection, request_bytes
from harness.sigv4 import UNSIGNED, Signer

FULL = os.environ.get("RINGFORT_FULL") == "1"
MIB = 1 << 20
FILES = 5000 if FULL else 300
LARGE_BYTES = (2 << 30) if FULL else 64 * MIB
STREAM_BYTES = (1 << 30) if FULL else 128 * MIB
KILLS = 50 if FULL else 4
ROUNDS = 1000 if FULL else 25
RACERS = 32
INCREMENTS = 400 if FULL else 60

pytestmark = pytest.mark.timeout(7200 if FULL else 900)


def figures(name, **values):
    print(json.dumps({"test": name, "full": FULL, **values}))


def patient_client(endpoint, cluster, **config):
    """As an ordinary application is set up: the SDK's standard retries."""
    return s3_client(endpoint, cluster.keys, retries={"max_attempts": 10, "mode": "standard"}, **config)


@pytest.fixture
def whole(own_cluster):
    """The cluster with every process up, before and after."""
    own_cluster.ensure_all_running()
    yield own_cluster
    own_cluster.ensure_all_running()


@pytest.fixture
def new_bucket(whole):
    name = fresh_name()
    patient_client(whole.endpoints[0], whole).create_bucket(Bucket=name)
    return name


def kill_when(condition, process, seconds=120):
    """A thread that kills `process` once `condition()` holds; joined by the caller."""
    done = threading.Event()

    def run():
        deadline = time.monotonic() + seconds
        try:
            while not condition() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.kill()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def test_sync_of_a_tree_while_a_node_is_killed(whole, new_bucket, tmp_path):
    cli = AwsCli(whole.endpoints[0], whole.keys)
    s3 = patient_client(whole.endpoints[1], whole)
    made = make_tree(tmp_path / "up", FILES)
    before = tree_digest(tmp_path / "up")
    assert len(made) == len(before) == FILES
    victim = whole.nodes[2]

    def count():
        return s3.list_objects_v2(Bucket=new_bucket, MaxKeys=1000).get("KeyCount", 0)

    thread, killed = kill_when(lambda: count() >= min(FILES // 3, 900), victim)
    began = time.monotonic()
    cli.run("s3", "sync", str(tmp_path / "up"), f"s3://{new_bucket}/tree", "--only-show-errors", timeout_seconds=3600)
    up_seconds = time.monotonic() - began
    thread.join()
    assert killed.is_set()
    began = time.monotonic()
    restart = threading.Timer(3, lambda: whole.restart(victim))
    restart.start()
    cli.run("s3", "sync", f"s3://{new_bucket}/tree", str(tmp_path / "down"), "--only-show-errors", timeout_seconds=3600)
    down_seconds = time.monotonic() - began
    restart.join()
    assert tree_digest(tmp_path / "down") == before
    began = time.monotonic()
    lagged = whole.wait_converged()
    converged_seconds = time.monotonic() - began
    rows = lagged["rows_chunks_missing"][0]
    assert rows[0] >= FILES
    # What the node missed is really there: it and one other answer for everything, the third being gone.
    whole.nodes[0].kill()
    (tmp_path / "again").mkdir()
    cli.run("s3", "sync", f"s3://{new_bucket}/tree", str(tmp_path / "again"), "--only-show-errors", timeout_seconds=3600)
    assert tree_digest(tmp_path / "again") == before
    figures("sync", converged_seconds_after_down=round(converged_seconds, 1), rows=rows[0], chunks=rows[1], files=FILES, bytes=sum(made.values()), up_seconds=round(up_seconds, 1), down_seconds=round(down_seconds, 1))


def test_a_large_file_up_and_down(whole, new_bucket, tmp_path):
    s3 = patient_client(whole.endpoints[0], whole)
    path = tmp_path / "large"
    stream = SeededStream("large", LARGE_BYTES)
    with open(path, "wb") as f:
        while piece := stream.read(8 * MIB):
            f.write(piece)
    began = time.monotonic()
    s3.upload_file(str(path), new_bucket, "large")
    up = time.monotonic() - began
    began = time.monotonic()
    s3.download_file(new_bucket, "large", str(tmp_path / "back"))
    down = time.monotonic() - began
    with open(path, "rb") as a, open(tmp_path / "back", "rb") as b:
        assert hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()
    figures("large", bytes=LARGE_BYTES, up_mib_s=round(LARGE_BYTES / MIB / up, 1), down_mib_s=round(LARGE_BYTES / MIB / down, 1))


def test_memory_under_four_parallel_streams(whole, new_bucket):
    """Fresh processes, so that VmHWM is this test's own peak. Idle first, then four PUTs, then four GETs."""
    for process in whole.processes:
        process.kill()
    whole.ensure_all_running()
    idle = {p.name: round(p.memory()["VmRSS"] / MIB, 1) for p in whole.processes}
    # One PUT each, not multipart: the longest single streams there are. No checksum pass over the body first.
    s3 = patient_client(
        whole.endpoints[0], whole, s3={"payload_signing_enabled": False}, request_checksum_calculation="when_required",
        read_timeout=600,
    )  # fmt: skip

    def put(i):
        s3.put_object(Bucket=new_bucket, Key=f"stream{i}", Body=SeededStream(i, STREAM_BYTES), ContentLength=STREAM_BYTES)

    def get(i):
        return digest_of(s3.get_object(Bucket=new_bucket, Key=f"stream{i}")["Body"]) == digest_of(SeededStream(i, STREAM_BYTES))

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    put_seconds = time.monotonic() - began
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(get, range(4)))
    peak = {p.name: round(p.memory()["VmHWM"] / MIB, 1) for p in whole.processes}
    figures("memory", stream_bytes=STREAM_BYTES, idle_mib=idle, peak_mib=peak, put_seconds=round(put_seconds, 1))
    # Bounded whatever the size: far below one stream, let alone four.
    for process in whole.processes:
        assert peak[process.name] * MIB < max(STREAM_BYTES, 256 * MIB), peak


def test_haproxy_hides_the_death_of_a_gateway(whole, haproxy, new_bucket):
    stop, errors, done = threading.Event(), [], [0] * 8

    def client(i):
        s3 = patient_client(haproxy.endpoint, whole)
        while not stop.is_set():
            body = made_bytes(f"{i}/{done[i]}", 50_000)
            key = f"{i}/{done[i] % 20}"
            try:
                s3.put_object(Bucket=new_bucket, Key=key, Body=body)
                assert s3.get_object(Bucket=new_bucket, Key=key)["Body"].read() == body
            except (ClientError, BotoCoreError, AssertionError) as e:
                errors.append(repr(e))
            done[i] += 1

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    turns = 10 if FULL else 3
    try:
        for turn in range(turns):
            floor = sum(done) + 40
            deadline = time.monotonic() + 60
            while sum(done) < floor and time.monotonic() < deadline:
                time.sleep(0.05)
            gateway = whole.gateways[turn % 2]
            gateway.kill()
            floor = sum(done) + 40
            while sum(done) < floor and time.monotonic() < deadline:
                time.sleep(0.05)
            whole.restart(gateway)
            # Both are up for HAProxy again before the other one dies (rise 2 at 1 s).
            time.sleep(3)
    finally:
        stop.set()
        for t in threads:
            t.join()
    figures("haproxy", gateway_kills=turns, pairs=sum(done), errors=len(errors), first=errors[:1])
    assert not errors and sum(done) > 100


def test_sigterm_drains_a_gateway(whole, new_bucket):
    """A PUT that is half sent when SIGTERM arrives is taken in whole, answered, and acknowledged truly."""
    gateway, address = whole.gateways[1], whole.endpoints[1].removeprefix("http://")
    body = made_bytes("drain", 6 * MIB)
    signer = Signer(whole.keys.access_key, whole.keys.secret_key)
    path = f"/{new_bucket}/drain"
    headers = [("Host", address), ("x-amz-date", signer.date), ("x-amz-content-sha256", UNSIGNED)]
    authorization = signer.header_auth("PUT", path, [], headers, UNSIGNED)
    headers += [("Authorization", authorization), ("Content-Length", str(len(body)))]
    connection = RawConnection(address)
    connection.send(request_bytes("PUT", path, headers, body[: 3 * MIB]))
    wait_until(lambda: whole.metric(gateway, "ringfort_s3_requests_in_flight") == 1, "the PUT in hand", 30)
    gateway.send(signal.SIGTERM)
    wait_until(lambda: http_status(f"http://{whole.gateway_admin[1]}/health/ready") != 200, "not ready any more", 30)
    assert gateway.is_alive
    connection.send(body[3 * MIB :])
    answer = connection.read_response("PUT")
    assert answer.status == 200, answer
    assert gateway.wait(60) == 0
    assert s3_client(whole.endpoints[0], whole.keys).get_object(Bucket=new_bucket, Key="drain")["Body"].read() == body


def test_acknowledged_objects_survive_random_kills(whole, new_bucket):
    """Every acknowledged write is there with its bytes; every other one is wholly there or as it was before."""
    rng = random.Random(7)
    stop, lock = threading.Event(), threading.Lock()
    # key -> (number of the last acknowledged write, numbers in doubt since)
    state, acknowledged, unknown = {}, [0], [0]
    sizes = (0, 100, 5000, 131_073, 1_000_000)

    def body_of(key, number):
        return made_bytes(f"{key}#{number}", sizes[number % len(sizes)])

    def writer(w):
        # No retries of the SDK's: what is in doubt must stay visible here.
        clients = [s3_client(e, whole.keys, retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=30) for e in whole.endpoints]
        number = 0
        while not stop.is_set():
            number += 1
            key = f"w{w}/{number % 40}"
            with lock:
                last, doubts = state.get(key, (None, set()))
                state[key] = (last, doubts | {number})
            try:
                clients[number % 2].put_object(Bucket=new_bucket, Key=key, Body=body_of(key, number))
            except (ClientError, BotoCoreError):
                unknown[0] += 1
                # A pause, as a client makes that meets a dead gateway.
                time.sleep(0.05)
                continue
            with lock:
                state[key] = (number, set())
                acknowledged[0] += 1

    threads = [threading.Thread(target=writer, args=(w,)) for w in range(6)]
    for t in threads:
        t.start()
    try:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, 1.5))
            process = rng.choice(whole.processes)
            process.kill()
            time.sleep(rng.uniform(0, 1.0))
            if rng.random() < 0.2:
                # Now and then a second one, so that a majority is gone for a moment.
                second = rng.choice([p for p in whole.processes if p.is_alive])
                second.kill()
            whole.ensure_all_running()
    finally:
        stop.set()
        for t in threads:
            t.join()
    whole.ensure_all_running()
    readers = [patient_client(e, whole) for e in whole.endpoints]
    lost, torn = [], []
    listed = {o["Key"] for page in readers[0].get_paginator("list_objects_v2").paginate(Bucket=new_bucket) for o in page.get("Contents", [])}
    for key, (last, doubts) in state.items():
        allowed = {hashlib.sha256(body_of(key, n)).digest(): n for n in doubts | ({last} if last else set())}
        answers = set()
        for reader in readers:
            try:
                answers.add(hashlib.sha256(reader.get_object(Bucket=new_bucket, Key=key)["Body"].read()).digest())
            except ClientError as e:
                assert e.response["Error"]["Code"] == "NoSuchKey", e
                answers.add(None)
        assert len(answers) == 1, f"two gateways disagree on {key}"
        (answer,) = answers
        if answer is None:
            if last is not None:
                lost.append(key)
        elif answer not in allowed:
            torn.append(key)
        assert (answer is not None) == (key in listed), f"LIST and GET disagree on {key}"
    figures("kills", kills=KILLS, acknowledged=acknowledged[0], unknown=unknown[0], keys=len(state), lost=len(lost), torn=len(torn))
    assert not lost and not torn, (lost[:5], torn[:5])
    assert acknowledged[0] > KILLS


def test_of_racing_creators_exactly_one_wins(whole, new_bucket):
    clients = [s3_client(e, whole.keys, retries={"total_max_attempts": 1, "mode": "standard"}) for e in whole.endpoints]
    wrong, busy = [], 0

    def attempt(args):
        number, i = args
        try:
            clients[i % 2].put_object(Bucket=new_bucket, Key=f"race/{number}", Body=b"writer %d" % i, IfNoneMatch="*")
            return i, 200
        except ClientError as e:
            return i, e.response["ResponseMetadata"]["HTTPStatusCode"]

    with ThreadPoolExecutor(RACERS) as pool:
        for number in range(ROUNDS):
            answers = list(pool.map(attempt, [(number, i) for i in range(RACERS)]))
            winners = [i for i, status in answers if status == 200]
            busy += sum(status in (409, 503) for _, status in answers)
            strange = [status for _, status in answers if status not in (200, 412, 409, 503)]
            stored = clients[0].get_object(Bucket=new_bucket, Key=f"race/{number}")["Body"].read()
            if len(winners) != 1 or stored != b"writer %d" % winners[0] or strange:
                wrong.append((number, winners, stored, strange))
    figures("create_race", rounds=ROUNDS, racers=RACERS, wrong=len(wrong), answers_409_or_503=busy)
    assert not wrong, wrong[:3]


def test_if_match_increments_lose_no_update(whole, new_bucket):
    """A counter that eight clients raise by compare-and-set, while a node is killed and restarted.

    A 503 may have happened; so each value also carries who wrote it, and a client in doubt looks for its own mark.
    """
    workers, each = 8, INCREMENTS // 8
    clients = [patient_client(e, whole) for e in whole.endpoints]
    clients[0].put_object(Bucket=new_bucket, Key="counter", Body=json.dumps({"n": 0, "marks": []}))
    done, lock, doubtful = [0], threading.Lock(), [0]

    def raise_once(w, i):
        mark, s3 = f"{w}.{i}", s3_client(whole.endpoints[w % 2], whole.keys, retries={"total_max_attempts": 1, "mode": "standard"})
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                got = s3.get_object(Bucket=new_bucket, Key="counter")
                value = json.loads(got["Body"].read())
                if mark in value["marks"]:
                    return
                new = {"n": value["n"] + 1, "marks": [*value["marks"], mark]}
                s3.put_object(Bucket=new_bucket, Key="counter", Body=json.dumps(new), IfMatch=got["ETag"])
                return
            except ClientError as e:
                status = e.response["ResponseMetadata"]["HTTPStatusCode"]
                assert status in (412, 409, 500, 502, 503), e
                doubtful[0] += status >= 500
                time.sleep(random.uniform(0, 0.02))
            except BotoCoreError:
                doubtful[0] += 1
        raise AssertionError(f"no success within 120 s for {mark}")

    def worker(w):
        for i in range(each):
            raise_once(w, i)
            with lock:
                done[0] += 1

    thread, _ = kill_when(lambda: done[0] >= workers * each // 3, whole.nodes[1])
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(worker, w) for w in range(workers)]
        thread.join()
        whole.restart(whole.nodes[1])
        for future in futures:
            future.result()
    final = json.loads(clients[1].get_object(Bucket=new_bucket, Key="counter")["Body"].read())
    figures("increments", wanted=workers * each, counted=final["n"], doubtful=doubtful[0])
    assert final["n"] == len(final["marks"]) == len(set(final["marks"])) == workers * each


def test_a_restarted_cluster_has_everything(whole, new_bucket):
    s3 = patient_client(whole.endpoints[0], whole)
    bodies = {f"k{i}": made_bytes(i, i * 40_000) for i in range(30)}
    for key, body in bodies.items():
        s3.put_object(Bucket=new_bucket, Key=key, Body=body)
    for process in whole.processes:
        process.kill()
    whole.ensure_all_running()
    for key, body in bodies.items():
        assert s3.get_object(Bucket=new_bucket, Key=key)["Body"].read() == body


def test_without_a_quorum_the_answer_is_503_and_comes_back(whole, new_bucket):
    s3 = s3_client(whole.endpoints[0], whole.keys, retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=45)
    s3.put_object(Bucket=new_bucket, Key="k", Body=b"before")
    for node in whole.nodes[1:]:
        node.kill()
    for call, args in ((s3.put_object, {"Body": b"maybe"}), (s3.get_object, {}), (s3.delete_object, {})):
        with pytest.raises(ClientError) as e:
            call(Bucket=new_bucket, Key="k", **args)
        assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503, e.value
    with pytest.raises(ClientError) as e:
        s3.list_objects_v2(Bucket=new_bucket)
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    whole.ensure_all_running()
    patient_client(whole.endpoints[0], whole).put_object(Bucket=new_bucket, Key="k", Body=b"after")
    assert s3.get_object(Bucket=new_bucket, Key="k")["Body"].read() == b"after"


def test_memory_and_cpu_of_an_idle_cluster(whole):
    before = {p.name: p.cpu_seconds() for p in whole.processes}
    time.sleep(5)
    used = {p.name: round((p.cpu_seconds() - before[p.name]) / 5, 3) for p in whole.processes}
    figures("idle", rss_mib={p.name: round(p.memory()["VmRSS"] / MIB, 1) for p in whole.processes}, cpu_share=used)
