"""Temporary hidden branches on lakeFS: work branches, and claims on a head.

Branches left by an interrupt, a lost response or a killed process are removed by the next operation
of the process, or by other processes once they know that the branches are unused.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.api_errors import (
    AnswerLostError,
    ForeignAnswerError,
    RefusedError,
)
from versioned_zarr.backends.lakefs.api.client import ATTEMPTS, LakefsClient
from versioned_zarr.backends.lakefs.api.thread_pool import ThreadPool
from versioned_zarr.backends.lakefs.lakefs_names import (
    CLAIM_PREFIX,
    HIDDEN_PREFIX,
    WORK_PREFIX,
    to_cid,
)
from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.ipld.cid import to_text

_LOG = logging.getLogger("versioned_zarr")
LEASE_S: Final = 30.0
"""How long a claim is respected while the branch does not move."""
KEPT_H: Final = 48
"""How long a work branch is kept if it is unknown whether its process is alive."""
_POLL_S = 0.02


class _Act:
    """Exists as long as the operation that uses a branch."""


@dataclass
class _Hold:
    """A branch that an operation created, or may have created.

    Attributes:
        name: the name of the branch.
        act: garbage-collected once the operation has ended in any way.
        is_ours: whether nobody else can have created the branch.
    """

    name: str
    act: weakref.ref[_Act]
    is_ours: bool


class HiddenBranches:
    """See the module. Thread-safe.

    Args:
        client: the lakeFS repository.
        workers: runs the search for the branches of others, once.
    """

    def __init__(self, client: LakefsClient, workers: ThreadPool) -> None:
        self._client, self._workers = client, workers
        # An entry is removed after its branch. If an interrupt ends the operation earlier, the
        # branch is still recorded here. Each change is one atomic step, so there is no lock, which
        # a fork could copy while it is held.
        self._held: dict[int, _Hold] = {}
        self._is_swept = False

    @contextlib.contextmanager
    def own(self, on: str) -> Iterator[str]:
        """A work branch at a lakeFS commit."""
        self._look_round()
        owner = process_identity.current().replace(":", "-")
        name = f"{WORK_PREFIX}{secrets.token_hex(8)}-{_now_h()}{owner and '-'}{owner}"
        make = partial(self._client.make_own_branch, name, on)
        with self._during(name, make, is_ours=True):
            yield name

    @contextlib.contextmanager
    def claim(self, branch: str, head: str) -> Iterator[None]:
        """Prevent other writers of this package, on any machine, from moving a branch.

        Raises:
            BranchMovedError: the branch has moved.
            StorageError: the server does not say whether it created the claim.
        """
        self._look_round()
        with contextlib.ExitStack() as held:
            number = lost = 0
            waited_since = time.monotonic()
            while True:
                try:
                    held.enter_context(self._claimed(_claim_name(branch, head, number), head))
                    break
                except AlreadyExistsError:
                    lost = 0
                except AnswerLostError as error:
                    lost += 1
                    if lost == ATTEMPTS:
                        raise StorageError(str(error)) from error
                if self._client.head(branch) != head:
                    raise moved_on(branch, head)
                if time.monotonic() - waited_since > LEASE_S:
                    number, waited_since = number + 1, time.monotonic()
                time.sleep(_POLL_S * 2**lost)
            for each in range(number):  # claims that nobody released
                held.callback(self._delete, _claim_name(branch, head, each))
            yield

    def _claimed(self, name: str, head: str) -> contextlib.AbstractContextManager[None]:
        make = partial(self._client.create_branch, name, head, hidden=True)
        return self._during(name, make, is_ours=False)

    @contextlib.contextmanager
    def _during(self, name: str, make: Callable[[], None], *, is_ours: bool) -> Iterator[None]:
        """A branch during a context; if others may use its name, removed only if created here."""
        act = _Act()
        hold = _Hold(name, weakref.ref(act), is_ours)
        self._held[id(hold)] = hold
        try:
            make()
            hold.is_ours = True
            yield
        finally:
            self._let_go(hold)

    def _let_go(self, hold: _Hold) -> None:
        """Remove a branch; if the server rejects that now, a later operation repeats it.

        Errors are ignored, because the operation itself is complete or has already failed.
        """
        if not hold.is_ours or self._delete(hold.name):
            self._held.pop(id(hold), None)

    def _delete(self, name: str) -> bool:
        """Delete a branch; returns whether nothing is left to do."""
        for _ in range(2):
            try:
                self._client.delete_branch(name)
            except RefNotFoundError:
                pass
            except RefusedError as error:
                _LOG.warning("the hidden branch %s cannot be deleted: %s", name, error)
            except ForeignAnswerError:
                continue
            except StorageError:
                return False
            return True
        return False

    def _look_round(self) -> None:
        """Remove branches left by operations of this process, and, once, by others."""
        for hold in list(self._held.values()):
            if hold.act() is None:
                self._let_go(hold)
        if not self._is_swept:
            self._is_swept = True
            self._workers.start(self.sweep)

    def sweep(self) -> None:
        """Remove branches left by killed processes.

        A claim is unused once its branch has moved. A work branch is removed if its process is
        known to be dead, or, if that is unknown, after `KEPT_H`. Costs two requests.
        """
        with contextlib.suppress(VersionedZarrError):
            hidden = [name for name, _ in self._client.branches(HIDDEN_PREFIX, hidden=True)]
            heads = {_digest(name): commit for name, commit in self._client.branches()}
            for name in hidden:
                is_claim = name.startswith(CLAIM_PREFIX) and not _is_claim_on(name, heads)
                if is_claim or (name.startswith(WORK_PREFIX) and _is_left(name)):
                    self._delete(name)


def moved_on(branch: str, head: str) -> BranchMovedError:
    """The error for a branch that is no longer at a lakeFS commit."""
    return BranchMovedError(
        f"branch {branch!r} is no longer at lakeFS commit {head}",
        branch=branch,
        expected=to_text(to_cid(head)),
    )


def _claim_name(branch: str, head: str, number: int) -> str:
    return f"{CLAIM_PREFIX}{_digest(branch)}-{head[:24]}-{number}"


def _digest(branch: str) -> str:
    return hashlib.sha256(branch.encode()).hexdigest()[:16]


def _is_claim_on(name: str, heads: dict[str, str]) -> bool:
    """Whether the branch of a claim is still at the claimed head."""
    digest, _, rest = name.removeprefix(CLAIM_PREFIX).partition("-")
    return heads.get(digest, "").startswith(rest.partition("-")[0] or "-")


def _now_h() -> int:
    """Hours since 1970."""
    return int(time.time() // 3600)


def _is_left(name: str) -> bool:
    """Whether a work branch is unused."""
    _, made, owner = (*name.removeprefix(WORK_PREFIX).split("-", 2), "", "")[:3]
    identity = owner.replace("-", ":")
    if process_identity.is_known_dead(identity):
        return True
    is_old = not made.isdecimal() or _now_h() - int(made) > KEPT_H
    return is_old and not process_identity.is_of_this_machine(identity)
