"""Hidden branches of lakeFS that last as long as an act: work branches, and claims on a head.

What an interrupt, a lost answer or a killed process leaves behind is removed by the next act of the
process, and by other processes once they know that nobody needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.api_errors import AnswerLostError
from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.backends.lakefs.api.thread_pool import ThreadPool
from versioned_zarr.backends.lakefs.lakefs_names import (
    CLAIM_PREFIX,
    HIDDEN_PREFIX,
    WORK_PREFIX,
    to_cid,
)
from versioned_zarr.backends.lakefs.trees.metadata_cache import MetadataCache
from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.ipld.cid import to_text

LEASE_S: Final = 30.0
"""How long a claim is respected while the branch does not move."""
KEPT_S: Final = 86400.0
"""How long a branch to work on is left alone, of which nobody knows whether its process lives."""
_POLL_S = 0.02
_REMOVALS = 3


class _Act:
    """Lives as long as the act that holds a branch."""


class HiddenBranches:
    """See the module. Thread-safe.

    Args:
        client: the lakeFS repository.
        knowledge: remembers when this machine first saw a branch.
        workers: where the branches of others are looked through, once.
    """

    def __init__(self, client: LakefsClient, knowledge: MetadataCache, workers: ThreadPool) -> None:
        self._client, self._knowledge, self._workers = client, knowledge, workers
        # A name leaves this once its branch is removed. An interrupt may come at any point: then
        # the act is gone, and its name is still here.
        self._held: dict[str, weakref.ref[_Act]] = {}
        self._guard = threading.Lock()
        self._is_swept = False

    @contextlib.contextmanager
    def own(self, on: str) -> Iterator[str]:
        """A branch to work on, at a lakeFS commit."""
        owner = process_identity.current().replace(":", "-")
        name = f"{WORK_PREFIX}{secrets.token_hex(8)}{owner and '-'}{owner}"
        make = partial(self._client.make_own_branch, name, on)
        with self._during(name, make, is_shared=False):
            yield name

    @contextlib.contextmanager
    def claim(self, branch: str, head: str) -> Iterator[None]:
        """Keep our other writers from moving a branch on from its head, on any machine.

        Raises:
            BranchMovedError: the branch has moved on.
        """
        with contextlib.ExitStack() as held:
            number = 0
            waited_since = time.monotonic()
            while True:
                try:
                    held.enter_context(self._claimed(_claim_name(branch, head, number), head))
                    break
                except (AlreadyExistsError, AnswerLostError):
                    if self._client.head(branch) != head:
                        raise moved_on(branch, head) from None
                    if time.monotonic() - waited_since > LEASE_S:
                        number, waited_since = number + 1, time.monotonic()
                    time.sleep(_POLL_S)
            for each in range(number):  # those that nobody gave back
                held.callback(self._remove, _claim_name(branch, head, each))
            yield

    def _claimed(self, name: str, head: str) -> contextlib.AbstractContextManager[None]:
        make = partial(self._client.create_branch, name, head, hidden=True)
        return self._during(name, make, is_shared=True)

    @contextlib.contextmanager
    def _during(self, name: str, make: Callable[[], None], *, is_shared: bool) -> Iterator[None]:
        self._remove_left()
        if not self._is_swept:
            self._is_swept = True
            self._workers.start(self.sweep)
        act = _Act()
        with self._guard:
            self._held[name] = weakref.ref(act)
        try:
            try:
                make()
            except (AlreadyExistsError, AnswerLostError):
                if is_shared:  # it may be another's
                    with self._guard:
                        self._held.pop(name, None)
                raise
            yield
        finally:
            if name in self._held:
                self._remove(name)

    def _remove(self, name: str) -> None:
        """Remove a branch; where the server does not let it go now, the next act does.

        The act is done, or has failed for a reason of its own, whatever becomes of this.
        """
        for _ in range(_REMOVALS):
            with contextlib.suppress(StorageError):
                with contextlib.suppress(RefNotFoundError):
                    self._client.delete_branch(name)
                with self._guard:
                    self._held.pop(name, None)
                return

    def _remove_left(self) -> None:
        """Remove the branches of this process's acts that were stopped."""
        with self._guard:
            left = [name for name, act in self._held.items() if act() is None]
        for name in left:
            self._remove(name)

    def sweep(self) -> None:
        """Remove what processes that were killed left behind.

        A claim is dead once its branch has moved on. A branch to work on is removed if its process
        is known to be dead, or once this machine has seen it for `KEPT_S`. Costs two requests.
        """
        with contextlib.suppress(VersionedZarrError):
            hidden = [name for name, _ in self._client.branches(HIDDEN_PREFIX, hidden=True)]
            heads = {_digest(name): commit for name, commit in self._client.branches()}
            claims = [name for name in hidden if name.startswith(CLAIM_PREFIX)]
            work = [name for name in hidden if name.startswith(WORK_PREFIX)]
            seen = self._knowledge.first_seen(work)
            for name in (
                *(name for name in claims if not _is_claim_on(name, heads)),
                *(name for name in work if _is_dead(name) or time.time() - seen[name] > KEPT_S),
            ):
                with contextlib.suppress(RefNotFoundError):
                    self._client.delete_branch(name)


def moved_on(branch: str, head: str) -> BranchMovedError:
    """The error for a branch that is not at a lakeFS commit any more."""
    return BranchMovedError(
        f"branch {branch!r} has moved on from lakeFS commit {head}",
        branch=branch,
        expected=to_text(to_cid(head)),
    )


def _claim_name(branch: str, head: str, number: int) -> str:
    return f"{CLAIM_PREFIX}{_digest(branch)}-{head[:24]}-{number}"


def _digest(branch: str) -> str:
    return hashlib.sha256(branch.encode()).hexdigest()[:16]


def _is_claim_on(name: str, heads: dict[str, str]) -> bool:
    """Whether the branch that a claim is on stands where it was claimed."""
    digest, _, rest = name.removeprefix(CLAIM_PREFIX).partition("-")
    return heads.get(digest, "").startswith(rest.partition("-")[0] or "-")


def _is_dead(name: str) -> bool:
    """Whether the process that a branch to work on is of is known to be dead."""
    owner = name.removeprefix(WORK_PREFIX).partition("-")[2]
    return process_identity.is_known_dead(owner.replace("-", ":"))
