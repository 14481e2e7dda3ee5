"""An LRU cache keeps what was used last, whoever else uses it."""

from __future__ import annotations

import threading
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.lru_cache import LruCache

KEYS = st.integers(0, 9)
STEPS = st.lists(st.tuples(st.sampled_from(["get", "put", "pop"]), KEYS))


@given(STEPS, st.integers(1, 6))
def test_it_holds_what_was_used_last(steps: list[tuple[str, int]], limit: int) -> None:
    cache: LruCache[int, str] = LruCache(limit)
    model: OrderedDict[int, str] = OrderedDict()
    for number, (step, key) in enumerate(steps):
        if step == "put":
            cache.put(key, str(number))
            model[key] = str(number)
            model.move_to_end(key)
            while len(model) > limit:
                model.popitem(last=False)
        elif step == "pop":
            assert cache.pop(key) == model.pop(key, None)
        else:
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        assert [each for each in range(10) if each in cache] == sorted(model)
        assert len(cache) == len(model)


def test_threads_share_it() -> None:
    cache: LruCache[int, int] = LruCache(8)
    wrong: list[int] = []

    def use(start: int) -> None:
        for number in range(2000):
            key = (start + number * 7) % 32
            cache.put(key, key)
            found = cache.get(key)
            if found not in {None, key}:
                wrong.append(key)
            if not number % 5:
                cache.pop(key)

    crowd = [threading.Thread(target=use, args=(each,)) for each in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert wrong == []
    assert len(cache) <= 8
