"""The contract of a `Storage`."""

from __future__ import annotations

import itertools
import threading

import pytest

from versioned_zarr.storage.protocol import FilePart, Storage

METHODS_THAT_LOOK = ["read", "view", "open_log", "adopt_draft", "is_claimed", "read_draft"]


class StorageContract:
    """Subclass it with a fixture `storage` that returns an empty storage."""

    def test_what_was_put_is_read(self, storage: Storage) -> None:
        storage.put("a/b", [b"12", memoryview(b"345")])
        assert bytes(storage.read("a/b")) == b"12345"
        assert bytes(storage.read("a/b", 1, 3)) == b"23"
        assert bytes(storage.read("a/b", 3)) == b"45"
        assert bytes(storage.read("a/b", -2)) == b"45"
        assert bytes(storage.read("a/b", -9)) == b"12345"

    def test_put_replaces_the_whole(self, storage: Storage) -> None:
        storage.put("a", [b"a longer one"])
        storage.put("a", [b"short"])
        assert bytes(storage.read("a")) == b"short"

    def test_a_view_outlives_deletion(self, storage: Storage) -> None:
        storage.put("a", [b"12345"])
        view = storage.view("a")
        if view is None:
            pytest.skip("this storage has no views")
        storage.delete("a")
        assert bytes(view) == b"12345"
        assert view.readonly

    @pytest.mark.parametrize("method", METHODS_THAT_LOOK)
    def test_what_is_not_there_is_said(self, storage: Storage, method: str) -> None:
        with pytest.raises(FileNotFoundError):
            getattr(storage, method)("nothing/here")

    def test_deleting_nothing_is_no_error(self, storage: Storage) -> None:
        storage.delete("nothing")
        storage.delete_folder("nothing")

    def test_list_gives_paths_and_sizes_sorted(self, storage: Storage) -> None:
        for path in ("x/b", "x/a/c", "xy", "y"):
            storage.put(path, [path.encode()])
        assert [(item.path, item.size) for item in storage.list("x")] == [("x/a/c", 5), ("x/b", 3)]
        assert [item.path for item in storage.list("")] == ["x/a/c", "x/b", "xy", "y"]
        assert storage.list("z") == []

    def test_delete_folder_takes_all_below(self, storage: Storage) -> None:
        for path in ("x/b", "x/a/c", "xy"):
            storage.put(path, [b""])
        storage.delete_folder("x")
        assert [item.path for item in storage.list("")] == ["xy"]

    def test_stamp_tells_that_something_came(self, storage: Storage) -> None:
        storage.put("x/a", [b"1"])
        before = storage.stamp("x")
        storage.put("x/b", [b"1"])
        assert storage.stamp("x") != before

    def test_a_log_keeps_records_in_order(self, storage: Storage) -> None:
        log = storage.open_log("logs/one", create=True)
        assert log.append(b"first") == 5
        assert log.append(b"second") == 11
        log.sync()
        again = storage.open_log("logs/one")
        assert again.end() == 11
        assert bytes(again.read(0, 11)) == b"firstsecond"
        assert again.append(b"!") == 12
        assert log.end() == 12
        log.close()
        again.close()

    def test_a_log_that_was_deleted_says_so(self, storage: Storage) -> None:
        logs = [storage.open_log(f"{folder}/log", create=True) for folder in ("one", "two")]
        assert not any(log.is_removed() for log in logs)
        storage.delete("one/log")
        storage.delete_folder("two")
        assert all(log.is_removed() for log in logs)
        for log in logs:
            log.close()

    def test_a_log_loses_and_mixes_nothing_of_many_writers(self, storage: Storage) -> None:
        def write(letter: bytes) -> None:
            log = storage.open_log("log", create=True)
            for _ in range(200):
                end = log.append(letter * 100)
                assert log.read(end - 100, end) == letter * 100
            log.close()

        threads = [threading.Thread(target=write, args=(bytes([65 + n]),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = storage.open_log("log")
        text = log.read(0, log.end())
        pieces = [text[at : at + 100] for at in range(0, len(text), 100)]
        assert len(pieces) == 800
        assert all(len(set(piece)) == 1 for piece in pieces)

    def test_a_draft_is_written_read_and_published(self, storage: Storage) -> None:
        draft = storage.open_draft("s/1.draft")
        draft.write(3, [b"45", b"6"])
        draft.write(0, [b"123"])
        draft.write(6, [b"trailing"])
        assert bytes(draft.read(1, 5)) == b"2345"
        assert draft.size() >= 14
        draft.start_writeback()
        draft.publish("packs/x.pack", 6)
        draft.close()
        assert bytes(storage.read("packs/x.pack")) == b"123456"
        assert [item.path for item in storage.list("s")] == []

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_part_of_a_draft_outlives_it(self, storage: Storage, durable: bool) -> None:
        draft = storage.open_draft("s/1.draft")
        draft.write(0, [b"1234567"])
        part = draft.part(2, 6)
        draft.publish("packs/x.pack", 7, durable=durable)
        draft.close()
        storage.delete("packs/x.pack")
        assert len(part) == 4
        if isinstance(part, FilePart):
            assert part.read(0, 9) == b"3456"
            assert part.read(1, 2) == b"45"
        else:
            assert bytes(part) == b"3456"

    def test_a_draft_takes_its_parts_in_any_order_from_many_threads(self, storage: Storage) -> None:
        sizes = [(7 * n % 23 + 1) * 9973 for n in range(160)]
        ends = list(itertools.accumulate(sizes))
        draft = storage.open_draft("s/1.draft")

        def write(first: int) -> None:
            for number in range(len(sizes) - 1 - first, -1, -2):
                draft.write(ends[number] - sizes[number], [bytes([number]) * sizes[number]])

        threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        draft.publish("packs/x.pack", ends[-1])
        draft.close()
        found = bytes(storage.read("packs/x.pack"))
        assert found == b"".join(bytes([n]) * size for n, size in enumerate(sizes))

    def test_a_draft_belongs_to_its_living_writer(self, storage: Storage) -> None:
        draft = storage.open_draft("s/1.draft")
        draft.write(0, [b"123"])
        assert storage.adopt_draft("s/1.draft") is None
        assert storage.is_claimed("s/1.draft")
        reader = storage.read_draft("s/1.draft")
        assert bytes(reader.read(0, 3)) == b"123"
        reader.close()
        assert storage.adopt_draft("s/1.draft") is None
        draft.close()
        assert not storage.is_claimed("s/1.draft")
        adopted = storage.adopt_draft("s/1.draft")
        assert adopted is not None
        assert storage.is_claimed("s/1.draft")
        assert bytes(adopted.read(0, 3)) == b"123"
        adopted.close()

    def test_a_lock_lets_one_in_and_sharers_together(self, storage: Storage) -> None:
        entered = threading.Event()
        with storage.lock("name", shared=True), storage.lock("name", shared=True):
            thread = threading.Thread(target=self._enter_alone, args=(storage, entered))
            thread.start()
            assert not entered.wait(0.1)
        assert entered.wait(10)
        thread.join()

    def test_a_lock_that_is_taken_is_not_waited_for_unless_asked(self, storage: Storage) -> None:
        with storage.lock("name") as is_held:
            assert is_held
            with storage.lock("name", wait=False) as is_held_twice:
                assert not is_held_twice
            with storage.lock("name", shared=True, wait=False) as is_shared:
                assert not is_shared
        with storage.lock("name", wait=False) as is_held_again:
            assert is_held_again

    def _enter_alone(self, storage: Storage, entered: threading.Event) -> None:
        with storage.lock("name"):
            entered.set()
