"""What a repository on a node promises beside the contracts: races, breaks, collections, errors."""

from __future__ import annotations

import gc
import json
import multiprocessing
import pickle
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.repository import workers
from tests.servers.daemon import Daemon
from tests.servers.proxy import one_in, proxy
from tests.torture import TIMES
from versioned_zarr.backends.kubo import KuboClient, MfsRefs
from versioned_zarr.backends.kubo.client import MultipartUpload
from versioned_zarr.backends.kubo.mfs_files import MfsFiles
from versioned_zarr.ipld.cid import from_text, to_text

pytestmark = pytest.mark.compat

MIB = 1 << 20


@pytest.fixture
def url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


def elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> vz.Repository:
    """The same repository as another machine sees it, with an empty cache."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(folder))
    gc.collect()
    return vz.open(url, timeout_s=60)


def storm(url: str, folder: Path, commits: int = 25) -> None:
    """Eight processes commit at once; every commit that was acknowledged is there."""
    spawn = multiprocessing.get_context("spawn")
    notes = [folder / f"{number}.notes" for number in range(8)]
    crowd = [
        spawn.Process(target=workers.storm, args=(url, number, commits, str(notes[number])))
        for number in range(8)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(300)
        assert process.exitcode == 0
    repository = vz.open(url)
    said = [line.split() for path in notes for line in path.read_text().splitlines()]
    log = {commit.cid for commit in repository.log()}
    assert len(said) == 8 * commits
    assert {cid for cid, _ in said} <= log
    assert len(log) == 8 * commits + 1
    mapping = repository.checkout().mapping
    assert {key for _, key in said} == set(mapping)
    assert repository.fsck().is_clean


@pytest.mark.slow
def test_eight_processes_lose_nothing(url: str, tmp_path: Path) -> None:
    vz.create(url)
    storm(url, tmp_path)


@pytest.mark.slow
def test_eight_processes_lose_nothing_where_answers_are_lost(
    node: Daemon, url: str, tmp_path: Path
) -> None:
    vz.create(url)
    with proxy(node.rpc, loses_answer=one_in(4, b"files/cp")) as between:
        storm(url.replace(node.rpc, between.url), tmp_path, 8 if TIMES == 1 else 25)
        assert between.lost > (8 if TIMES == 1 else 20)


def test_a_snapshot_is_a_plain_folder_to_every_ipfs_tool(
    node: Daemon, url: str, tmp_path: Path
) -> None:
    repository = vz.create(url)
    with repository.session(message="ramp") as session:
        array = zarr.create_array(
            session.store, name="a", shape=(100, 100), chunks=(10, 10), dtype="i4"
        )
        array[:] = np.arange(10_000).reshape(100, 100)
    snapshot = repository.checkout()
    node.ipfs("get", "--progress=false", f"--output={tmp_path / 'got'}", snapshot.cid)
    got = zarr.open_array(tmp_path / "got" / "a", mode="r")
    assert np.array_equal(got[:], np.arange(10_000).reshape(100, 100))
    assert node.kubo.add_only_hash(tmp_path / "got") == snapshot.cid
    assert b"zarr.json" in node.ipfs("ls", f"{snapshot.cid}/a")
    assert snapshot.cid in node.ipfs("dag", "stat", "--progress=false", snapshot.cid).decode()
    node.ipfs("pin", "add", snapshot.cid)
    node.ipfs("pin", "rm", snapshot.cid)
    page = httpx.get(f"{node.gateway}/ipfs/{snapshot.cid}/a/", follow_redirects=True)
    assert "zarr.json" in page.text
    assert snapshot.commit is not None
    commit = json.loads(node.ipfs("cat", f"{snapshot.commit.cid}/commit.json"))
    assert commit["message"] == "ramp"
    assert node.ipfs("ls", f"{snapshot.commit.cid}/tree") == node.ipfs("ls", snapshot.cid)


def test_all_that_refs_and_their_logs_reach_survives_a_collection(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = node.ipfs("pin", "ls", "--type=all", "-q").split()
    repository = vz.create(url)
    for number in range(5):
        with repository.session(message=str(number)) as session:
            session.write("a", bytes([number]) * 3 * MIB)
            session.write(f"b/{number}", b"x" * number)
    repository.branches.create("dev", "main~1")
    repository.tags.create("v1", "main~2")
    repository.branches.delete("dev")
    log = [commit.cid for commit in repository.log()]
    node.ipfs("repo", "gc")
    there = elsewhere(url, monkeypatch, tmp_path / "elsewhere")
    assert [commit.cid for commit in there.log()] == log
    for number in range(5):
        assert there.checkout(f"main~{4 - number}").mapping["a"] == bytes([number]) * 3 * MIB
    assert there.fsck().is_clean
    assert node.ipfs("pin", "ls", "--type=all", "-q").split() == before


def test_a_collection_between_write_and_commit_takes_nothing(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(url)
    plain_copy = KuboClient.copy

    def collect_first(self: KuboClient, cid: str, path: str, **options: bool) -> None:
        if "/staged/" not in path:  # all that it leads to is held by then
            node.ipfs("repo", "gc")
            plain_copy(self, cid, path, **options)
            return
        blocks = repository._stores.blocks
        assert not blocks.missing([from_text(cid)])
        node.ipfs("repo", "gc")
        assert blocks.missing([value])
        # Kubo cannot link what it does not have, so the move itself is put back, and only that.
        for block in (cid, move_leaf(cid)):
            self.call("block/put", body=MultipartUpload.of(kept[block]), cid_codec=codecs[block])
        plain_copy(self, cid, path, **options)

    kept: dict[str, bytes] = {}
    codecs: dict[str, str] = {}

    def move_leaf(cid: str) -> str:
        return next(name for name in kept if name != cid)

    plain_encode = MfsRefs._encode

    def remember(self: MfsRefs, entry: object) -> object:
        blocks, root = plain_encode(self, entry)
        for name, data in blocks:
            text = to_text(name)
            kept[text] = bytes(data)
            codecs[text] = "raw" if name != root else "dag-pb"
        return blocks, root

    session = repository.session()
    session.write("a", b"\7" * 2 * MIB)
    session.write("b", b"small")
    found = session._find("a")
    assert found is not None
    value = found.cid
    monkeypatch.setattr(MfsRefs, "_encode", remember)
    monkeypatch.setattr(KuboClient, "copy", collect_first)
    session.commit("made beside a collection")
    monkeypatch.undo()
    there = elsewhere(url, monkeypatch, tmp_path / "elsewhere")
    assert there.fsck().is_clean
    assert there.checkout().mapping["a"] == b"\7" * 2 * MIB


def test_an_upload_that_breaks_goes_on_where_it_was(
    node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versioned_zarr.backends.kubo.client._ATTEMPTS", 1)
    vz.create(url)
    values = {f"a/{number}": bytes([number]) * MIB for number in range(48)}
    with proxy(node.rpc, limit_bytes=40 * MIB) as between:
        repository = vz.open(url.replace(node.rpc, between.url))
        session = repository.session()
        for key, value in values.items():
            session.write(key, value)
        with pytest.raises(vz.StorageError, match="no answer"):
            session.commit("breaks off")
        between.limit_bytes, between.passed_bytes = None, 0
        assert repository.checkout().mapping == {}
        session.commit("goes on")
        assert between.passed_bytes < 36 * MIB
        assert repository.checkout().mapping == values


def test_only_leaves_that_a_range_touches_are_fetched(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vz.create(url).session(message="large") as session:
        session.write("a", b"".join(bytes([number]) * MIB for number in range(16)))
    there = elsewhere(url, monkeypatch, tmp_path / "elsewhere").checkout()
    with proxy(node.rpc) as between:
        repository = vz.open(url.replace(node.rpc, between.url))
        snapshot = repository.checkout(there.cid)
        assert snapshot.read("a", 5 * MIB - 1, 5 * MIB + 1) == b"\4\5"
        assert sum(b"block/get" in request for request in between.requests) == 4
        between.requests.clear()
        assert snapshot.read("a", 4 * MIB, 6 * MIB) == b"\4" * MIB + b"\5" * MIB
        assert between.requests == []


def test_the_cache_can_be_off_and_bounded(url: str, home: Path) -> None:
    vz.create(url, cache_bytes=0)
    off = vz.open(url, cache_bytes=0)
    with off.session(message="x") as session:
        session.write("a", b"1" * MIB)
    assert off.checkout().mapping["a"] == b"1" * MIB
    assert not list(home.rglob("packs/*.pack"))
    small = vz.open(url, cache_bytes=4 * MIB)
    for number in range(12):
        with small.session(message="x") as session:
            session.write("a", bytes([number]) * MIB)
    assert sum(path.stat().st_size for path in home.rglob("packs/*.pack")) <= 5 * MIB
    assert small.checkout("main~11").mapping["a"] == bytes([0]) * MIB
    assert small.fsck().is_clean


def test_a_damaged_cache_gives_no_wrong_byte(url: str, home: Path) -> None:
    with vz.create(url).session(message="x") as session:
        session.write("a", b"value" * 100_000)
    for path in home.rglob("packs/*.pack"):
        data = path.read_bytes().replace(b"value", b"wrong")
        path.write_bytes(data)
    gc.collect()
    assert vz.open(url, verify="always").checkout().mapping["a"] == b"value" * 100_000


def test_a_dead_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        vz.StorageError, match=r"no answer from the IPFS node at http://127.0.0.1:1"
    ):
        vz.open("ipfs+http://127.0.0.1:1/x")


def test_a_missing_repository_is_named(node: Daemon) -> None:
    with pytest.raises(vz.RepositoryNotFoundError, match="no-such"):
        vz.open(f"{node.url}/no-such")


def test_a_second_repository_of_one_name_is_refused(url: str) -> None:
    vz.create(url)
    with pytest.raises(vz.AlreadyExistsError):
        vz.create(url)


def test_a_multiaddr_in_a_url_is_the_same_repository(node: Daemon, url: str, home: Path) -> None:
    name = url.rpartition("/")[2]
    printed = node.ipfs("config", "Addresses.API").decode().strip()
    port = node.rpc.rpartition(":")[2]
    assert printed == "/ip4/127.0.0.1/tcp/0"  # the test's node, whose port the system chose
    address = f"ipfs+{printed.removesuffix('0')}{port}/{name}"
    made = vz.create(address)
    assert made.url == url
    assert vz.open(url) is made
    with made.session(message="x") as session:
        session.write("a", b"value")
    for other in (address, address.replace(f"{port}/", f"{port}/http/")):
        again = vz.open(other, timeout_s=30)
        assert again.url == url
        assert pickle.loads(pickle.dumps(again.checkout())).read("a") == b"value"
    kept = {each.name for each in (home / "ipfs").iterdir()} - {"urls"}
    assert len(kept) == 1
    made.remotes.add("node", address)
    assert made.remotes["node"] == url


def test_a_multiaddr_without_a_name_is_refused() -> None:
    for bad in ("", "/", "/http", "/a//b"):
        with pytest.raises(vz.InvalidUrlError, match="ipfs\\+http://HOST:PORT/NAME"):
            vz.open(f"ipfs+/ip4/127.0.0.1/tcp/5001{bad}")
    with pytest.raises(vz.InvalidUrlError, match="'/udp' follows the host"):
        vz.create("ipfs+/ip4/127.0.0.1/udp/4001/quic-v1/climate")


@pytest.mark.parametrize("bad", ["", "/", "/a//b", "/../x", "/a/./b"])
def test_a_url_without_a_name_is_refused(bad: str) -> None:
    with pytest.raises(vz.InvalidUrlError, match="ipfs\\+http://HOST:PORT/NAME"):
        vz.open(f"ipfs+http://127.0.0.1:5001{bad}")


def test_credentials_are_sent_and_never_shown(
    node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    with proxy(node.rpc, loses_answer=lambda request: bool(seen.append(request))) as between:
        address = url.replace(node.rpc, between.url)
        repository = vz.create(address, token="s3cret")
        assert all(b"authorization: bearer s3cret" in request.lower() for request in heads(seen))
        secret = address.replace("://", "://me:s3cret@")
        again = vz.open(secret)
        assert b"authorization: basic" in heads(seen)[-1].lower()
        monkeypatch.setenv("VERSIONED_ZARR_IPFS_AUTH", "s3cret")
        vz.open(address, timeout_s=5)
        assert b"authorization: bearer s3cret" in heads(seen)[-1].lower()
        for shown in (repr(repository), again.url, repr(again), repr(again._stores.blocks.client)):
            assert "s3cret" not in shown
    with pytest.raises(vz.StorageError) as caught:
        vz.open("ipfs+http://me:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(caught.value)


def heads(requests: list[bytes]) -> list[bytes]:
    return [request for request in requests if request.startswith(b"POST")]


def test_a_wrong_credential_says_what_to_do(node: Daemon, tmp_path: Path) -> None:
    with subprocess.Popen(refusing_server(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            with pytest.raises(vz.StorageError, match="VERSIONED_ZARR_IPFS_AUTH"):
                vz.open(f"ipfs+http://127.0.0.1:{port}/x", token="wrong")
        finally:
            server.terminate()


def refusing_server() -> list[str]:
    """A server that answers 403 to everything, as a node does to who has no right."""
    code = (
        "import http.server as h\n"
        "class R(h.BaseHTTPRequestHandler):\n"
        "    def do_POST(self): self.send_response(403); self.end_headers()\n"
        "    def log_message(self, *a): pass\n"
        "s = h.HTTPServer(('127.0.0.1', 0), R); print(s.server_port, flush=True)\n"
        "s.serve_forever()\n"
    )
    return [sys.executable, "-c", code]


def test_many_small_values_come_by_the_dozen(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {f"a/c/{number}": b"%d" % number * 100 for number in range(500)}
    with vz.create(url).session(message="many") as session:
        session.mapping.update(values)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    with proxy(node.rpc) as between:
        snapshot = vz.open(url.replace(node.rpc, between.url)).checkout()
        first = dict(list(values.items())[:1])
        between.requests.clear()
        assert {key: snapshot.mapping[key] for key in first} == first
        one = len(between.requests)
        assert one <= 4
        assert {key: snapshot.mapping[key] for key in values} == values
        assert len(between.requests) - one < 30


def test_a_snapshot_is_published_and_found_again(node: Daemon, url: str) -> None:
    repository = vz.create(url)
    names = []
    for number in range(2):
        with repository.session(message="x") as session:
            session.write("a", bytes([number]))
        names.append(repository.publish("main", key="climate"))
        assert repository.resolve(names[-1]).cid == repository.checkout().cid
    assert names[0] == names[1]
    assert names[0].startswith("ipns://k")
    said = node.ipfs("name", "resolve", names[0].removeprefix("ipns://")).decode().strip()
    assert said == f"/ipfs/{repository.checkout().cid}"
    with pytest.raises(vz.RefNotFoundError):
        repository.resolve("ipns://k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8")


def test_each_repository_publishes_under_a_name_of_its_own(node: Daemon, url: str) -> None:
    names = set()
    for place, ref in (("a/x", "main"), ("b/x", "main"), ("b/x", "dev/1"), ("b/x-dev", "1")):
        there = f"{url}/{place}"
        repository = vz.open_or_create(there)
        if ref not in repository.branches:
            repository.branches.create(ref)
        names.add(repository.publish(ref))
    assert len(names) == 4


def test_a_name_is_published_though_the_answer_about_its_key_is_lost(
    node: Daemon, url: str
) -> None:
    vz.create(url)
    with proxy(node.rpc, loses_answer=lambda request: b"key/gen" in request) as between:
        repository = vz.open(url.replace(node.rpc, between.url))
        name = repository.publish(key=f"lost-{uuid.uuid4()}")
        assert between.lost == 1
    assert vz.open(url).resolve(name).cid == vz.open(url).checkout().cid


def test_a_name_that_stands_for_a_path_is_resolved(node: Daemon, url: str) -> None:
    repository = vz.create(url)
    with repository.session(message="x") as session:
        session.write("g/a", b"1")
    name = repository.publish(key=f"path-{uuid.uuid4()}")
    key = name.removeprefix("ipns://")
    cid = repository.checkout().cid
    node.ipfs("name", "publish", "--allow-offline", f"--key={key}", f"/ipfs/{cid}/g")
    assert repository.resolve(name).read("a") == b"1"


def test_a_repository_does_not_lie_within_another(url: str) -> None:
    vz.create(f"{url}/a/b")
    with pytest.raises(vz.AlreadyExistsError, match=r"within the repository '.*/a/b'"):
        vz.create(f"{url}/a/b/refs/heads")
    with pytest.raises(vz.AlreadyExistsError, match="holds other things"):
        vz.create(f"{url}/a")
    vz.create(f"{url}/a/c")


def made_again(node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Another machine removes a repository of one commit and makes one of that name again."""
    node.ipfs("files", "rm", "-r", f"/versioned-zarr/{url.rpartition('/')[2]}")
    with monkeypatch.context() as patched:
        patched.setenv("VERSIONED_ZARR_HOME", str(home))
        with vz.create(url).session(message="new") as session:
            session.write("new", b"1")


def test_a_repository_that_was_made_again_keeps_its_commits(
    node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = vz.create(url)
    with before.session(message="old") as session:
        session.write("old", b"1")
    late = before.session()
    late.write("late", b"1")
    made_again(node, url, monkeypatch, tmp_path / "other")
    head = vz.open(url).branches["main"]
    with pytest.raises(vz.VersionedZarrError):
        late.commit("late", on_moved="fail")
    assert elsewhere(url, monkeypatch, tmp_path / "third").branches["main"] == head


def test_a_repository_that_was_made_again_is_seen_after_a_while(
    node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = vz.create(url)
    with before.session(message="old") as session:
        session.write("old", b"1")
    made_again(node, url, monkeypatch, tmp_path / "other")
    monkeypatch.setattr("versioned_zarr.backends.kubo.mfs_refs._LOOK_AGAIN_S", 0.3)
    for _ in range(4):  # it is read more often than that
        time.sleep(0.1)
        seen = before.branches["main"].message
    assert seen == "new"


def test_a_commit_to_a_repository_that_is_gone_leaves_nothing(node: Daemon, url: str) -> None:
    session = vz.create(url).session()
    session.write("a", b"1")
    name = url.rpartition("/")[2]
    node.ipfs("files", "rm", "-r", f"/versioned-zarr/{name}")
    with pytest.raises(vz.VersionedZarrError):
        session.commit("late")
    assert name not in node.ipfs("files", "ls", "/versioned-zarr").decode().split()


def test_a_move_under_another_number_is_not_believed(node: Daemon, url: str) -> None:
    repository = vz.create(url)
    with repository.session(message="x") as session:
        session.write("a", b"1")
    folder = f"/versioned-zarr/{url.rpartition('/')[2]}/refs/heads/main"
    node.ipfs("files", "cp", f"{folder}/000000000", f"{folder}/000000002")
    with pytest.raises(vz.CorruptRefError, match="made as number 0, and stored as 2"):
        vz.open(url).branches["main"]


@pytest.mark.parametrize("what", ["move", "tree", "value"])
def test_what_is_damaged_in_the_cache_comes_from_the_node(
    url: str, tmp_path: Path, what: str
) -> None:
    repository = vz.create(url)
    session = repository.session()
    session.write("folder/key", b"a value to be damaged")
    session.commit("a message")
    damaged = {"move": b'"why":"commit: ', "tree": b"folder", "value": b"to be damaged"}[what]
    storage = repository._stores.storage
    for stored in storage.list("packs"):
        data = bytes(storage.read(stored.path))
        storage.put(stored.path, [data.replace(damaged, damaged[::-1])])
    again = vz.open(url)
    if what != "value":  # which is compared only when it leaves, or with verify="always"
        assert again.checkout().read("folder/key") == b"a value to be damaged"
    again.export_car("main", tmp_path / "x.car", history=True)
    again.checkout().to_folder(tmp_path / "folder")
    assert (tmp_path / "folder/folder/key").read_bytes() == b"a value to be damaged"
    vz.clone(url, tmp_path / "copy")
    copy = vz.open(tmp_path / "copy", verify="always")
    assert copy.checkout().read("folder/key") == b"a value to be damaged"
    assert again.branches["main"].message == "a message"


def test_a_folder_cannot_publish(tmp_path: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match="not on an IPFS node"):
        vz.create(tmp_path / "r").publish()


def test_an_ipfshttpclient_is_taken_for_its_credentials(node: Daemon, url: str) -> None:
    ipfshttpclient = pytest.importorskip("ipfshttpclient")
    seen: list[bytes] = []
    with proxy(node.rpc, loses_answer=lambda request: bool(seen.append(request))) as between:
        client = ipfshttpclient.Client("/dns/localhost/tcp/1/http", auth=("me", "secret"))
        repository = vz.create(url.replace(node.rpc, between.url), client=client)
        assert all(b"authorization: basic bwu6c2vjcmv0" in head.lower() for head in heads(seen))
    assert vz.open(url).checkout().cid == repository.checkout().cid
    with pytest.raises(vz.InvalidInputError, match="ipfshttpclient"):
        vz.open(url, client=object())


def test_push_and_pull_between_a_folder_and_a_node(node: Daemon, url: str, tmp_path: Path) -> None:
    folder, on_node = vz.create(tmp_path / "r"), vz.create(url)
    with folder.session(message="here") as session:
        session.write("a", b"1" * 3 * MIB)
    folder.push(url, ["main:pushed"])
    assert on_node.branches["pushed"].cid == folder.branches["main"].cid
    with on_node.session("pushed", message="there") as session:
        session.write("b", b"2")
    folder.pull(url, ["pushed:main"])
    assert folder.branches["main"].cid == on_node.branches["pushed"].cid
    copy = vz.clone(url, tmp_path / "copy")
    assert copy.checkout("pushed").mapping == on_node.checkout("pushed").mapping


def test_vz_works_on_a_node(
    url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pytest.importorskip("versioned_zarr.cli.app").run
    monkeypatch.setenv("VERSIONED_ZARR_REPO", url)
    run(["init", url])
    with vz.open(url).session(message="first words") as session:
        session.write("notes/a", b"hello")
    for arguments, said in (
        (["log"], "first words"),
        (["ls"], "notes"),
        (["cat", "main", "notes/a"], "hello"),
        (["fsck"], "clean"),
        (["gc"], ""),
        (["publish", "--key", "vz-test"], "ipns://k"),
        (["cache", "size"], "bytes"),
        (["cache", "clear"], ""),
        (["cat", "main", "notes/a"], "hello"),
    ):
        capfd.readouterr()
        run(arguments)
        assert said in capfd.readouterr().out


def test_a_document_is_written_and_replaced(node: Daemon) -> None:
    client = KuboClient(node.rpc)
    documents = MfsFiles(client, f"/versioned-zarr/{uuid.uuid4()}", "the test")
    with pytest.raises(FileNotFoundError):
        documents.read("a.json")
    documents.put("a.json", [b"on", b"e"])
    documents.put("a.json", [b"one"])
    assert documents.read("a.json") == b"one"
    documents.put("a.json", [b"other"])
    assert documents.read("a.json") == b"other"


def test_a_repository_is_made_though_every_other_answer_is_lost(node: Daemon, url: str) -> None:
    with proxy(node.rpc, loses_answer=one_in(2, b"files/cp")) as between:
        for _ in range(4):
            there = url.replace(node.rpc, between.url)
            vz.create(f"{there}-{uuid.uuid4()}")
        assert between.lost >= 4


def test_a_creation_that_was_stopped_is_gone_on_with(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MfsFiles, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            vz.create(url)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(url)
    assert len(list(vz.open_or_create(url).log())) == 1
