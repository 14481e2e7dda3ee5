"""An object store: how many requests are made, and what happens when they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz
from tests.torture import TIMES

obstore = pytest.importorskip("obstore")
zarr = pytest.importorskip("zarr", minversion="3")

from obstore.store import AzureStore, LocalStore, MemoryStore, S3Store  # noqa: E402

from versioned_zarr.backends.objectstore import (  # noqa: E402
    obstore_backend,
    obstore_storage,
    pack_catalogue,
    record_refs,
)
from versioned_zarr.backends.objectstore.store_url import is_store, store_url  # noqa: E402
from versioned_zarr.blocks.protocol import WouldBlockError  # noqa: E402
from versioned_zarr.blocks.remote.range_reader import RangeReader  # noqa: E402

URL = "s3://bucket/prefix"


class Requests:
    """obstore, with a note of each request, and failures where they are wanted.

    Attributes:
        made: the name and the path of each request, in their order.
        rows: how many requests followed each other, each begun after the one before had ended.
        latency_s: how long each takes at the least.
        fail: the error of a request before it is made, if any.
        lose: the error in place of its answer, if any.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, str | None]] = []
        self.rows = 0
        self.latency_s = 0.0
        self.fail: Callable[[str, str | None], BaseException | None] = lambda name, path: None
        self.lose: Callable[[str, str | None], BaseException | None] = lambda name, path: None
        self._guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        function = getattr(obstore, name)

        def call(store: Any, *arguments: Any, **keywords: Any) -> Any:
            path = arguments[0] if arguments else None
            with self._guard:
                self.made.append((name, path))
                row = self.rows + 1
            time.sleep(self.latency_s)
            error = self.fail(name, path)
            if error is not None:
                raise error
            result = function(store, *arguments, **keywords)
            with self._guard:
                self.rows = max(self.rows, row)
            error = self.lose(name, path)
            if error is not None:
                raise error
            return result

        return call

    def counted(self) -> Counter[str]:
        """How many requests of each kind were made since the last time."""
        with self._guard:
            found = Counter(name for name, _ in self.made)
            self.made.clear()
            return found

    @property
    def total(self) -> int:
        return sum(self.counted().values())


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    found = Requests()
    monkeypatch.setattr(obstore_storage, "obstore", found)
    return found


@pytest.fixture
def store() -> Any:
    return MemoryStore()


@pytest.fixture
def repository(store: Any) -> vz.Repository:
    return vz.create(URL, store=store)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on, this is a machine that knows nothing."""
    number = iter(range(100))

    def move() -> None:
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / f"machine{next(number)}"))

    return move


def generic(text: str = "operation timed out") -> BaseException:
    error: BaseException = obstore.exceptions.GenericError(text)
    return error


def test_a_repository_is_created_with_few_requests(requests: Requests, store: Any) -> None:
    vz.create(URL, store=store)
    assert requests.counted() == {"list": 1, "put": 4}


def test_a_commit_of_one_chunk_is_two_requests(
    repository: vz.Repository, requests: Requests
) -> None:
    session = repository.session()
    requests.counted()
    for number in range(12):
        session.write("a/c/0", bytes([number]) * 1000)
        session.commit(f"{number}")
        assert requests.counted() == {"put": 2}


def test_a_branch_that_moved_costs_a_few_more(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    session = repository.session()
    session.write("a", b"ours")
    elsewhere()
    with vz.open(URL, store=store).session(message="theirs") as other:
        other.write("b", b"theirs")
    requests.counted()
    session.commit("ours")
    assert requests.total <= 9
    assert dict(repository.checkout().mapping) == {"a": b"ours", "b": b"theirs"}


def test_many_chunks_are_few_requests(
    repository: vz.Repository,
    requests: Requests,
    store: Any,
    elsewhere: Callable[[], None],
) -> None:
    chance = np.random.default_rng(0)
    values = {f"a/c/{number}": chance.bytes(16 << 10) for number in range(1024)}
    session = repository.session()
    requests.counted()
    for key, value in values.items():
        session.write(key, value)
    session.commit("many")
    assert requests.total <= 1 + 6  # 16 MiB in parts of 32
    elsewhere()
    snapshot = vz.open(URL, store=store).checkout()
    snapshot.read("a/c/0")
    requests.counted()
    assert all(snapshot.read(key) == value for key, value in values.items())
    assert requests.total <= 2 + 6
    assert all(snapshot.read(key) == value for key, value in values.items())
    assert requests.total == 0  # cached on this machine


def test_the_first_chunk_comes_after_four_requests_in_a_row(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    with repository.session(message="an array") as session:
        shape, chunks = (256, 64, 64), (1, 64, 64)
        array = zarr.create_array(session.store, name="a", shape=shape, chunks=chunks, dtype="f8")
        array[:] = np.random.default_rng(0).random((256, 64, 64))
    elsewhere()
    requests.rows, requests.latency_s = 0, 0.3  # all that begin together, end together
    requests.counted()
    snapshot = vz.open(URL, store=store).checkout()
    zarr.open_array(snapshot.store, path="a", mode="r")[0]
    assert requests.rows <= 4
    assert requests.total <= 10


@pytest.mark.torture
@pytest.mark.parametrize(
    ("commits", "values"),
    [(200, 20_000)] if TIMES == 1 else [(10_000, 1_000), (20, 1_000_000)],
)
def test_the_first_chunk_of_a_grown_repository_takes_four_requests_in_a_row(
    repository: vz.Repository,
    requests: Requests,
    store: Any,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    commits: int,
    values: int,
) -> None:
    if TIMES == 1:  # its index file is then as long as that of many values
        monkeypatch.setattr(pack_catalogue, "_SMALL_INDEX_BYTES", 64 << 10)
    session = repository.session()
    for number in range(values):
        session.write(f"a/c/{number // 1000}/{number % 1000}", b"%d" % number)
    session.commit("fill")
    for number in range(commits):
        session.write(f"a/c/0/{number % 1000}", b"new %d" % number)
        session.commit(f"{number}")
    elsewhere()
    requests.rows, requests.latency_s = 0, 0.3  # all that begin together, end together
    value = vz.open(URL, store=store).checkout().read(f"a/c/0/{(commits - 1) % 1000}")
    assert bytes(value) == b"new %d" % (commits - 1)
    assert requests.rows <= 4


def test_full_packs_are_sent_while_the_session_writes(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    chance = np.random.default_rng(0)
    values = {f"a/c/{number}": chance.bytes(5 << 20) for number in range(20)}
    session = repository.session()
    requests.counted()
    for key, value in values.items():
        session.write(key, value)
    deadline = time.monotonic() + 60
    while sum(name == "put" for name, _ in requests.made) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert requests.counted()["put"] >= 2
    session.commit("many")
    assert requests.counted()["put"] <= 4
    elsewhere()
    snapshot = vz.open(URL, store=store).checkout()
    assert all(snapshot.read(key) == value for key, value in values.items())


def test_a_pack_that_could_not_be_sent_is_sent_at_the_commit(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    chance = np.random.default_rng(0)
    values = {f"a/c/{number}": chance.bytes(5 << 20) for number in range(8)}
    requests.fail = lambda name, path: generic() if name == "put" else None
    session = repository.session()
    for key, value in values.items():
        session.write(key, value)
    with pytest.raises(vz.StorageError, match="timed out"):
        session.commit("many")
    requests.fail = lambda name, path: None
    session.write("a/c/0", b"another")
    session.commit("many")
    elsewhere()
    snapshot = vz.open(URL, store=store).checkout()
    assert all(
        snapshot.read(key) == value for key, value in {**values, "a/c/0": b"another"}.items()
    )


def test_what_no_record_names_is_found_by_a_list(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    repository.branches.create("dev", "main")
    with repository.session("dev", message="theirs") as session:
        session.write("a", b"1")
    cid = repository.branches["dev"].cid
    elsewhere()
    there = vz.open(URL, store=store)
    assert there.checkout(cid).read("a") == b"1"
    requests.counted()
    with pytest.raises(vz.RefNotFoundError):
        there.checkout(repository._stores.hash.raw(b"nothing").hex())
    assert requests.total < 10


@pytest.mark.parametrize("kind", ["fail", "lose"])
@pytest.mark.parametrize("what", ["packs/", "refs/"])
def test_a_lost_request_or_answer_loses_no_commit(
    repository: vz.Repository,
    requests: Requests,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    what: str,
) -> None:
    monkeypatch.setattr(record_refs, "_FIRST_PAUSE_S", 0.0)
    session = repository.session()
    session.write("a", b"1")
    left = [generic(), None]

    def once(name: str, path: str | None) -> BaseException | None:
        is_it = name == "put" and str(path).startswith(what)
        return left.pop(0) if is_it and left else None

    setattr(requests, kind, once)
    if what == "packs/":
        with pytest.raises(vz.StorageError, match="timed out"):
            session.commit("one")
    commit = session.commit("one")
    assert next(iter(repository.log())).cid == commit.cid
    assert [each.message for each in repository.log()] == ["one", "Create the repository"]
    assert repository.checkout().read("a") == b"1"


def test_an_outcome_that_stays_unknown_names_the_commit(
    repository: vz.Repository, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_refs, "_FIRST_PAUSE_S", 0.0)
    session = repository.session()
    session.write("a", b"1")
    requests.lose = lambda name, path: generic() if str(path).startswith("refs/") else None
    requests.fail = lambda name, path: (
        generic() if name == "get" and str(path).startswith("refs/") else None
    )
    with pytest.raises(vz.OutcomeUnknownError, match="bafy"):
        session.commit("one")
    requests.lose = requests.fail = lambda name, path: None
    commit = session.commit("one")
    assert [each.message for each in repository.log()] == ["one", "Create the repository"]
    assert next(iter(repository.log())).cid == commit.cid


def test_a_conflict_that_nobody_won_is_tried_again(
    repository: vz.Repository, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_refs, "_FIRST_PAUSE_S", 0.0)
    left = [obstore.exceptions.AlreadyExistsError("conflicting operation in progress")]
    requests.fail = lambda name, path: (
        left.pop() if left and name == "put" and str(path).startswith("refs/") else None
    )
    with repository.session(message="one") as session:
        session.write("a", b"1")
    assert not left
    assert repository.checkout().read("a") == b"1"


def test_a_number_that_was_forgotten_is_not_used_again(
    repository: vz.Repository, store: Any, elsewhere: Callable[[], None]
) -> None:
    late = vz.open(URL, store=store).session()
    late.write("late", b"1")
    for number in range(3):
        with repository.session(message=f"{number}") as session:
            session.write("a", bytes([number]))
    repository.gc(keep_reflog=timedelta(0))
    elsewhere()
    assert len(list(vz.open(URL, store=store).reflog("main"))) == 1
    late.commit("late")
    assert [each.message for each in repository.log()][:4] == ["late", "2", "1", "0"]


def test_a_store_that_overwrites_is_refused(
    requests: Requests, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = obstore_storage.ObstoreStorage.create

    def overwrite(self: Any, path: str, data: bytes) -> None:
        if path == "versioned-zarr.json":
            obstore.put(store, path, data)
        else:
            create(self, path, data)

    monkeypatch.setattr(obstore_storage.ObstoreStorage, "create", overwrite)
    with pytest.raises(vz.StorageError, match="does not support conditional writes"):
        vz.create(URL, store=store)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(URL, store=store)


def test_credentials_that_are_wrong_are_told(repository: vz.Repository, requests: Requests) -> None:
    requests.fail = lambda name, path: obstore.exceptions.PermissionDeniedError("403 Forbidden\nx")
    with pytest.raises(vz.ReadOnlyError, match=r"denies access to .*: 403 Forbidden; check the"):
        repository.branches["main"]


def test_a_store_is_opened_as_it_is(tmp_path: Path) -> None:
    for store in (MemoryStore(), LocalStore(tmp_path / "objects", mkdir=True)):
        with vz.create(store).session(message="one") as session:
            session.write("a", b"1")
        repository = vz.open(store)
        assert repository.checkout().read("a") == b"1"
        assert repository.url.startswith("obstore://")
        assert [each.message for each in repository.log()] == ["one", "Create the repository"]


def test_a_store_has_the_url_of_its_bucket() -> None:
    keys = {"access_key_id": "who", "secret_access_key": "sesame"}
    one = S3Store("bucket", prefix="/a/b/", region="x", **keys)
    assert store_url(one) == "s3://bucket/a/b"
    other = AzureStore("container", account_name="who", skip_signature=True)
    assert store_url(other) == "az://container"
    assert not is_store("s3://bucket")


def test_options_are_not_shown(store: Any) -> None:
    options = {"access_key_id": "who", "secret_access_key": "huntersesame", "nonsense": "sesame"}
    with pytest.raises(vz.InvalidInputError) as caught:
        vz.open(URL, storage_options=options)
    assert "sesame" not in str(caught.value)
    with pytest.raises(vz.InvalidInputError, match="not both"):
        vz.open(URL, storage_options={"region": "x"}, store=store)
    for url in ("s3://bucket/x?y", "s3:///x", "s3://bucket#x"):
        with pytest.raises(vz.InvalidUrlError):
            vz.open(url, store=store)


def test_a_forked_child_is_told_to_be_spawned() -> None:
    script = """if True:
        import os, signal, sys, warnings
        import versioned_zarr as vz
        from obstore.store import MemoryStore
        warnings.simplefilter("ignore")
        for number in range(6):
            repository = vz.create(f"s3://bucket/{number}", store=MemoryStore())
            session = repository.session()
            session.write("a", b"1" * 1000)
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                try:
                    if number % 2:
                        repository.branches["main"]
                    else:
                        session.commit("no")
                except vz.StorageError as error:
                    os._exit(7 if "spawn" in str(error) else 8)
                os._exit(9)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != 7:
                sys.exit(code)
        sys.exit(7)
    """
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=300, env=os.environ)
    assert done.returncode == 7


def test_reads_at_any_place_of_a_pack_are_right() -> None:
    data = np.random.default_rng(1).bytes(3 << 20)

    class Storage:
        url = "x"
        reads: list[tuple[int, int]] = []

        def read(self, path: str, start: int, end: int) -> memoryview:
            self.reads.append((start, min(end, len(data)) - start))
            return memoryview(data)[start:end]

    storage = Storage()
    reader = RangeReader(storage)  # type: ignore[arg-type] # all that it needs
    chance = np.random.default_rng(2)
    wanted = 0
    for _ in range(500):
        start = int(chance.integers(0, len(data) - 1))
        end = min(len(data), start + int(chance.integers(1, 20_000)))
        wanted += end - start
        assert reader.read("p", start, end) == data[start:end]
    assert sum(size for _, size in storage.reads) <= 5 * wanted
    storage.reads.clear()
    for start in range(0, len(data), 4096):
        assert reader.read("q", start, start + 4096) == data[start : start + 4096]
    assert len(storage.reads) < 20


def test_a_store_that_is_busy_is_asked_again(
    repository: vz.Repository, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstore_storage, "_PAUSES_S", (0.0, 0.0))
    left = 2

    def busy(name: str, path: str | None) -> BaseException | None:
        nonlocal left
        left -= name == "put" and str(path).startswith("packs/")
        return obstore.exceptions.AlreadyExistsError("409 Conflict") if left >= 0 else None

    session = repository.session()
    session.write("a", b"1")
    requests.fail = busy
    session.commit("one")
    left = 100
    session.write("a", b"2")
    with pytest.raises(vz.StorageError, match="another operation on that object"):
        session.commit("two")
    requests.fail = lambda name, path: None
    session.commit("two")
    assert repository.checkout().read("a") == b"2"


def test_a_marker_that_nobody_else_created_is_created_again(requests: Requests, store: Any) -> None:
    left = [obstore.exceptions.AlreadyExistsError("409 Conflict")]
    requests.fail = lambda name, path: (
        left.pop() if left and name == "put" and path == "versioned-zarr.json" else None
    )
    assert list(vz.create(URL, store=store).branches) == ["main"]
    assert not left


def test_a_bucket_that_is_missing_or_denied_is_told(requests: Requests, store: Any) -> None:
    def listing(text: str) -> Callable[[str, str | None], BaseException | None]:
        return lambda name, path: generic(text) if name == "list" else None

    requests.fail = listing("Server returned non-2xx status code: 404 Not Found: <?xml")
    with pytest.raises(vz.StorageError, match="create the bucket or container first"):
        vz.create(URL, store=store)
    requests.fail = listing("Server returned non-2xx status code: 403 Forbidden: <?xml")
    with pytest.raises(vz.ReadOnlyError, match="check the credentials"):
        vz.create(URL, store=store)
    missing = FileNotFoundError("no such bucket")
    requests.fail = lambda name, path: missing if name == "put" else None
    with pytest.raises(vz.StorageError, match="create the bucket or container first"):
        vz.create(URL, store=store)


def test_no_password_of_an_endpoint_is_shown(repository: vz.Repository, requests: Requests) -> None:
    requests.fail = lambda name, path: generic("GET http://me:sesame@127.0.0.1/bucket failed")
    with pytest.raises(vz.StorageError, match=r"GET http://127\.0\.0\.1/bucket failed"):
        repository.branches["main"]


def test_an_endpoint_that_is_no_url_is_told() -> None:
    options = {"endpoint": "no url", "access_key_id": "a", "secret_access_key": "b", "region": "x"}
    with pytest.raises(vz.StorageError, match="check the storage options"):
        vz.open(URL, storage_options=options)


def test_a_merge_of_what_is_there_already_looks_whether_it_still_is(
    repository: vz.Repository, store: Any, elsewhere: Callable[[], None]
) -> None:
    first = repository.branches["main"].cid
    repository.branches.create("dev")
    with repository.session("dev", message="dev") as session:
        session.write("a", b"1")
    repository.merge("dev")
    elsewhere()
    there = vz.open(URL, store=store)
    there.branches.move("main", first)
    merged = repository.merge("dev")
    assert there.branches["main"].cid == merged.cid
    assert there.checkout().read("a") == b"1"


def test_a_branch_that_others_made_again_is_found(
    repository: vz.Repository, store: Any, elsewhere: Callable[[], None]
) -> None:
    repository.branches.create("dev")
    with repository.session(message="one") as session:
        session.write("a", b"1")
    repository.branches.delete("dev")
    elsewhere()
    vz.open(URL, store=store).branches.create("dev", "main~1")
    assert repository.merge("main", "dev").message == "one"


def test_other_objects_are_left_alone(
    repository: vz.Repository, store: Any, elsewhere: Callable[[], None]
) -> None:
    with repository.session(message="one") as session:
        session.write("a", b"1")
    for folder in ("refs/heads/main/", "refs/heads/", "packs/", "index/", ""):
        obstore.put(store, f"{folder}.keep", b"")
    obstore.put(store, f"packs/{'0' * 24}.pack", b"")
    elsewhere()
    there = vz.open(URL, store=store)
    assert there.checkout().read("a") == b"1"
    with pytest.raises(vz.RefNotFoundError):
        there.checkout(there._stores.hash.raw(b"nothing").hex())
    assert there.fsck().is_clean


def test_a_record_that_is_forgotten_while_it_is_read_is_not_the_newest(
    repository: vz.Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    elsewhere()
    there = vz.open(URL, store=store)
    assert list(there.tags) == []
    there._stores.refs._log._listed.clear()  # type: ignore[attr-defined] # of this backend
    is_done = False

    def meanwhile(name: str, path: str | None) -> None:
        nonlocal is_done
        if name == "get" and str(path).startswith("refs/") and not is_done:
            is_done = True
            with repository.session(message="one") as session:
                session.write("a", b"1")
            repository.gc(keep_reflog=timedelta(0))

    requests.fail = meanwhile
    assert there.branches["main"].message == "one"


@pytest.mark.parametrize("damage", ["lost", "cut", "empty"])
def test_fsck_finds_what_the_store_lost(
    repository: vz.Repository, store: Any, elsewhere: Callable[[], None], damage: str
) -> None:
    value = np.random.default_rng(0).bytes(1 << 20)
    with repository.session(message="one") as session:
        session.write("a", value)
    stored = max(
        (each for page in obstore.list(store, "packs") for each in page), key=lambda it: it["size"]
    )
    elsewhere()
    there = vz.open(URL, store=store)
    assert there.fsck().is_clean
    if damage == "lost":
        obstore.delete(store, stored["path"])
    else:
        whole = bytes(obstore.get(store, stored["path"]).bytes())
        obstore.put(store, stored["path"], whole[:1000] if damage == "cut" else b"")
    there._stores.blocks._there = 0.0, set(), {}  # type: ignore[attr-defined] # it is looked again
    for again in (there, None):
        if again is None:
            elsewhere()
        report = (again or vz.open(URL, store=store)).fsck()
        assert [each.cid for each in report.missing], report
    with pytest.raises((vz.BlockNotFoundError, vz.CorruptBlockError)):
        vz.open(URL, store=store).checkout().read("a")


def test_many_lookups_in_a_long_index_are_few_requests(
    repository: vz.Repository,
    requests: Requests,
    store: Any,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pack_catalogue, "_SMALL_INDEX_BYTES", 1 << 10)
    values = {f"a/{number}": b"%d" % number * 100 for number in range(5000)}
    with repository.session(message="many") as session:
        for key, value in values.items():
            session.write(key, value)
    with repository.session(message="one more") as session:
        session.write("b", b"1")
    elsewhere()
    snapshot = vz.open(URL, store=store).checkout()
    requests.counted()
    assert all(snapshot.read(key) == values[key] for key in list(values)[:300])
    assert requests.total < 60


def test_a_rename_whose_outcome_is_unknown_keeps_the_new_name(
    repository: vz.Repository, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_refs, "_FIRST_PAUSE_S", 0.0)
    repository.branches.create("old")
    with repository.session("old", message="only here") as session:
        session.write("a", b"1")
    is_lost = False

    def lose(name: str, path: str | None) -> BaseException | None:
        nonlocal is_lost
        is_lost |= name == "put" and str(path).startswith("refs/heads/old")
        return generic() if is_lost and str(path).startswith("refs/heads/old") else None

    requests.lose = lose
    with pytest.raises(vz.StorageError):
        repository.branches.rename("old", "new")
    requests.lose = requests.fail = lambda name, path: None
    reached = {commit.message for name in repository.branches for commit in repository.log(name)}
    assert "only here" in reached


def test_readers_do_not_wait_for_a_fetch_that_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Storage:
        url = "x"

        def read(self, path: str, start: int, end: int) -> memoryview:
            return memoryview(b"x" * (end - start))

    def interrupted(self: RangeReader, window: object) -> None:
        raise KeyboardInterrupt

    reader = RangeReader(Storage())  # type: ignore[arg-type] # all that it needs
    with monkeypatch.context() as patched:
        patched.setattr(RangeReader, "_fetch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.read("p", 0, 10)
    found: list[memoryview] = []
    second = threading.Thread(target=lambda: found.append(reader.read("p", 2, 5)), daemon=True)
    second.start()
    second.join(10)
    assert found == [b"xxx"]


@pytest.mark.parametrize("part", [{"paths": ["a"]}, {"depth": 1}, {"depth": 1, "paths": ["a"]}])
def test_a_partial_clone_fetches_the_rest(
    store: Any,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    part: dict[str, Any],
) -> None:
    source = vz.create(tmp_path / "source.vz")
    values = {f"{folder}/{n}": bytes([n]) * 3000 for folder in "ab" for n in range(5)}
    values["b/big"] = np.random.default_rng(0).bytes(3 << 20)
    for message in ("one", "two"):
        with source.session(message=message) as session:
            for key, value in values.items():
                session.write(key, message.encode() + value)
    monkeypatch.setattr(obstore_backend, "store_at", lambda url, options: store)
    copy = vz.clone(source.url, URL, **part)
    assert copy.fsck().absent
    assert dict(copy.checkout().mapping) == {key: b"two" + each for key, each in values.items()}
    with copy.session(message="three") as session:
        session.write("c", b"1")
    elsewhere()
    there = vz.open(URL, store=store)
    assert len(there.checkout().mapping) == 12
    assert [commit.message for commit in there.log()][:3] == ["three", "two", "one"]


def test_stats_count_the_packs(repository: vz.Repository, store: Any) -> None:
    stored = [each["size"] for page in obstore.list(store, "packs") for each in page]
    stats = repository.stats()
    assert (stats.packs, stats.stored_bytes) == (len(stored), sum(stored))


def test_an_endpoint_without_tls_is_told_what_it_needs() -> None:
    options = {"endpoint": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "b"}
    with pytest.raises(vz.StorageError, match="allow_http=True"):
        vz.open(URL, storage_options={**options, "region": "x"})


def test_a_lookup_that_must_not_wait_does_not(
    repository: vz.Repository,
    requests: Requests,
    store: Any,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pack_catalogue, "_SMALL_INDEX_BYTES", 1 << 10)
    elsewhere()
    there = vz.open(URL, store=store)
    blocks = there._stores.blocks
    cid = blocks.hash.raw(b"nothing")

    def is_there() -> bool | None:
        requests.counted()
        try:
            with blocks.near():
                return cid in blocks
        except WouldBlockError:
            return None
        finally:
            assert not requests.total

    assert is_there() is False
    for count in (1, 5000):  # the second is in a long index file
        with repository.session(message="more") as session:
            for number in range(count):
                session.write(f"a/{number}", b"%d" % number * 100)
        with repository.session(message="one more") as session:
            session.write("b", b"%d" % count)
        there._stores.refs.read("heads", "main")
        time.sleep(0.1)  # the ends of new packs come in the background
        assert is_there() is None
        assert cid not in blocks
    assert is_there() is None
    for _ in range(20):
        assert cid not in blocks
    assert is_there() is False


@pytest.mark.parametrize(
    "change",
    [{"commit": "x"}, {"time": "x"}, {"packs": [1]}, {"packs": {"packs": [5]}}, {"why": 5}, None],
)
def test_a_record_with_a_right_checksum_and_wrong_content_is_damaged(
    repository: vz.Repository, store: Any, change: dict[str, Any] | None
) -> None:
    path = "refs/heads/main/9223372036854775807"
    line = bytes(obstore.get(store, path).bytes())
    document = [] if change is None else {**json.loads(line[:-10]), **change}
    text = json.dumps(document).encode()
    obstore.put(store, path, b"%s %08x\n" % (text, zlib.crc32(text)))
    there = vz.open(URL, store=store)
    with pytest.raises(vz.CorruptRefError, match="damaged"):
        there.branches["main"]
    with pytest.raises(vz.CorruptRefError, match="damaged"):
        list(there.reflog("main"))
