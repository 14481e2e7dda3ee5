"""Memory is used again once nobody looks at it, and not before."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.blocks.buffer_pool import BufferPool


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, "u1").__array_interface__["data"][0])


def test_memory_that_was_let_go_is_used_again() -> None:
    buffers = BufferPool()
    first = buffers.take(3_000_000)
    where = address(first)
    del first
    assert address(buffers.take(2_500_000)) == where


def test_memory_is_not_used_again_while_any_view_of_it_lives() -> None:
    buffers = BufferPool()
    first = buffers.take(1_000_000)
    first[:] = b"x" * len(first)
    kept = np.frombuffer(first.toreadonly(), "u1")[10:20].view("S5")[1:]
    del first
    second = buffers.take(1_000_000)
    second[:] = b"y" * len(second)
    assert kept.tobytes() == b"xxxxx"


def test_what_is_too_large_to_keep_is_not_kept() -> None:
    buffers = BufferPool()
    buffers.take(9 << 20)
    assert not buffers._kept


@given(st.lists(st.tuples(st.integers(0, 3 << 20), st.booleans()), max_size=30))
def test_buffers_in_use_never_share_memory(steps: list[tuple[int, bool]]) -> None:
    buffers = BufferPool()
    held: list[tuple[memoryview, int]] = []
    for number, (size, let_go) in enumerate(steps):
        if let_go and held:
            held.pop(size % len(held))
        view = buffers.take(size)
        assert len(view) == size
        if size:
            view[0] = view[-1] = number
            held.append((view, number))
    assert all(view[0] == view[-1] == number for view, number in held)


def test_threads_never_share_memory() -> None:
    buffers = BufferPool()
    mixed: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            view = np.frombuffer(buffers.take(100_000), "u1")
            view[:] = number
            if not (view == number).all():
                mixed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed
