"""Each request of a commit, a merge, a branch and a push loses, repeats or cuts its answer.

After each, a second machine with an empty cache reads every commit that was acknowledged.
"""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.fickle import KINDS, at, fickle, nothing
from tests.torture import SEED, TIMES

pytestmark = [pytest.mark.compat, pytest.mark.torture]

STRIDE = max(1, 31 // TIMES)


def written(repository: vz.Repository, branch: str) -> str:
    session = repository.session(branch)
    session.write(f"a/{uuid.uuid4()}", os.urandom(100))
    session.write(f"b/{uuid.uuid4()}", os.urandom(1_200_000))
    return str(session.commit("x").cid)


def pushed(source: vz.Repository, url: str) -> str:
    moves = source.push(url, f"main:{uuid.uuid4().hex}").moves
    return str(moves[0].new)


ACTS: dict[str, Callable[[vz.Repository, vz.Repository], str]] = {
    "commit": lambda repository, _: written(repository, "main"),
    "merge": lambda repository, _: repository.merge("dev").cid,
    "branch": lambda repository, _: repository.branches.create(uuid.uuid4().hex, "main~1").cid,
    "push": lambda repository, source: pushed(source, repository.url),
}


@pytest.mark.parametrize("kind", [*KINDS, "a commit between"])
@pytest.mark.parametrize("name", ACTS)
def test_whatever_becomes_of_an_answer_what_is_acknowledged_is_there(
    node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    own = f"{node.url}/{uuid.uuid4()}"
    with monkeypatch.context() as another:  # a machine that shares no locks with this one
        another.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "colleague"))
        straight = vz.create(own)
    straight.branches.create("dev")
    written(straight, "main")
    source = vz.create(tmp_path / "source.vz")
    with fickle(node.rpc) as between:
        repository = vz.open(own.replace(node.rpc, between.url))
        number, said = 1 + SEED % STRIDE, set[str]()
        while True:
            written(straight, "dev")
            written(source, "main")
            is_theirs = kind == "a commit between"
            comes_between = (lambda: said.add(written(straight, "main"))) if is_theirs else None
            between.begin(at(number, kind, comes_between))
            with suppress(vz.VersionedZarrError):
                said.add(ACTS[name](repository, source))
            is_over = between.passed < number
            between.begin(nothing)
            if is_over:
                break
            number += STRIDE
    assert said
    gc.collect()
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    there = vz.open(own, timeout_s=57)
    for commit in said:
        mapping = there.checkout(commit).mapping
        assert all(mapping[key] is not None for key in mapping)
    for branch in there.branches:
        assert all(value is not None for value in there.checkout(branch).mapping.values())
    assert there.fsck().is_clean
