"""The commit check: whether all that a commit reaches will stay, before a ref record names it.

`Collector` deletes packs without locks. A commit is safe if each of its blocks is

- reached by a commit that a ref names, in whose record the check has been made before;
- in a pack that this process began to send after it had read a record of the branch, with no fence
  between that record and the new one: a gc that condemned the pack would have had to create one; or
- in a pack that was listed after such a record had been read, and that no list condemned then.

tests/models has a model checker for this protocol.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple

from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.blocks.packs.index import Run
from versioned_zarr.blocks.packs.membership import Membership
from versioned_zarr.blocks.packs.pack_registry import PackRegistry
from versioned_zarr.blocks.protocol import BlockStore, StagedBlocksCollectedError
from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.history import commit_object
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.walk import first_parents, is_ancestor
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import Cid, from_text, is_foreign, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.lru_cache import LruCache

_COMMIT, _PARENTS, _NODE = "commit", "parents", "node"
_REMEMBERED: Final = 4096
_FOLLOWED: Final = 1000
_LOOKS: Final = 16
NEVER: Final = 2**63
"""A moment after which nothing has happened."""


class _Look:
    """What was found by looking at the store: first what is condemned, then what is there.

    Args:
        catalogue: lists the packs, when they are needed.
        condemned: the packs that a gc may be deleting.
    """

    def __init__(self, catalogue: PackCatalogue, condemned: frozenset[str]) -> None:
        self._catalogue, self.condemned = catalogue, condemned

    @cached_property
    def usable(self) -> frozenset[str]:
        """The packs that are there and that no gc is about to delete."""
        return frozenset(self._catalogue.present_now()) - self.condemned


class _Visit(NamedTuple):
    """A node to visit.

    Attributes:
        cid: the node.
        kind: what it is.
        old: the node at its place in a commit of which everything stays; None if there is none.
    """

    cid: Cid
    kind: str
    old: Cid | None


@dataclass
class _Walked:
    """The result of a walk.

    Attributes:
        reached: the blocks that are to stay.
        left: the nodes that were not followed, with neither these nor what is below in `reached`.
    """

    reached: set[Cid] = field(default_factory=set)
    left: list[_Visit] = field(default_factory=list)


class CommitCheck:
    """See the module. Thread-safe.

    Args:
        blocks: the blocks.
        catalogue: the packs.
        registry: the locations of the blocks in the packs.
        condemned: the lists of condemned packs.
        is_partial: whether the repository may lack blocks, which its origin has.
    """

    def __init__(
        self,
        blocks: BlockStore,
        catalogue: PackCatalogue,
        registry: PackRegistry,
        condemned: CondemnedPacks,
        is_partial: Callable[[], bool],
    ) -> None:
        self._blocks, self._catalogue, self._registry = blocks, catalogue, registry
        self._condemned, self._is_partial = condemned, is_partial
        self._commits: LruCache[str, Commit] = LruCache(_REMEMBERED)
        self._last: tuple[int, _Look] = -1, _Look(catalogue, frozenset())

    def is_ancestor(self, ancestor: Cid, of: Cid) -> bool:
        """Whether one commit is reachable from another, or is the same."""
        return ancestor == of or is_ancestor(to_text(ancestor), to_text(of), self._commit)

    def _commit(self, text: str) -> Commit:
        found = self._commits.get(text)
        if found is None:
            found = commit_object.read(from_text(text), self._blocks)
            self._commits.put(text, found)
        return found

    @property
    def condemned(self) -> frozenset[str]:
        """The packs that were condemned when this process looked last."""
        return self._last[1].condemned

    def check(
        self, new: Cid, old: Cid | None, since_ns: int, is_live: Callable[[Cid], bool]
    ) -> None:
        """Check that everything which a commit reaches will stay.

        No request if this process has just sent all that the commit does not share with `old`.

        Args:
            new: the commit.
            old: the commit that the ref names; all that it reaches stays. None if there is none.
            since_ns: the moment by which a record had been read after which no fence came; `NEVER`
                if there is none.
            is_live: whether another ref names a commit, or a descendant of it, at this moment.

        Raises:
            StagedBlocksCollectedError: a gc took blocks, or is about to.
        """
        if new == old:
            return
        try:
            self._check(new, old, since_ns, is_live)
        except BlockNotFoundError as error:
            raise self._collected(str(error), is_condemned=False) from error

    def _check(
        self, new: Cid, old: Cid | None, since_ns: int, is_live: Callable[[Cid], bool]
    ) -> None:
        sent, look = self._catalogue.put_since(since_ns), None
        if since_ns == NEVER:  # even what was just sent may be gone
            look = self._look(since_ns)
            if not look.condemned and is_live(new):
                return
            sent = self._catalogue.put_since(-1) & look.usable
        in_sent = Membership(self._runs(), sent)
        stays = set() if old is None else {old}
        walked = self._walk([_Visit(new, _COMMIT, old)], stays, in_sent.__contains__)
        absent = in_sent.missing(walked.reached)
        left = [each for each in walked.left if not self._is_before(each, old)]
        if absent or left:
            self._check_present(absent, left, stays, look or self._look(since_ns), is_live)

    def _is_before(self, visit: _Visit, old: Cid | None) -> bool:
        return old is not None and visit.kind == _COMMIT and self.is_ancestor(visit.cid, old)

    def _check_present(
        self,
        absent: set[Cid],
        left: list[_Visit],
        stays: set[Cid],
        look: _Look,
        is_live: Callable[[Cid], bool],
    ) -> None:
        """Check blocks that this process did not just send."""
        if self._is_partial():  # what was never here is at its origin
            absent = {cid for cid in absent if self._was_sent(cid)}
        else:
            if not look.condemned:
                left = self._shortened(left, stays, is_live)
            absent |= self._walk(left, stays, lambda _: True).reached
        absent = self._lost(absent, look)
        if absent:
            text = to_text(next(iter(absent)))
            is_there = not Membership(self._runs(), self.condemned).missing(absent)
            what = f"{len(absent)} blocks are not there to stay, such as {text}"
            raise self._collected(what, is_condemned=is_there)

    def _lost(self, wanted: set[Cid], look: _Look) -> set[Cid]:
        """Those of the blocks that are in no pack which is there to stay."""
        for number in range(_LOOKS):
            usable = look.usable if wanted else frozenset[str]()
            runs = self._runs()
            wanted = Membership(runs, usable).missing(wanted)
            is_all_known = usable.issubset(pack for run in runs for pack in run.packs)
            if not wanted or (number and is_all_known):
                break
            # The first look may be old, and another gc may replace packs after they were listed.
            look = self._look(NEVER)
        return wanted

    def _collected(self, what: str, *, is_condemned: bool) -> StagedBlocksCollectedError:
        url = self._catalogue.url
        return StagedBlocksCollectedError(
            f"a gc of {url!r} took blocks on which this change counts, or is about to: {what}; "
            "nothing was changed: do it again, or, if it needs commits that were on no branch, "
            "fetch them from another copy of the repository",
            where=url,
            is_condemned=is_condemned,
        )

    def _shortened(
        self, left: list[_Visit], stays: set[Cid], is_live: Callable[[Cid], bool]
    ) -> list[_Visit]:
        """The nodes without commits that other refs name; these stay, and are compared with."""
        found = []
        for visit in left:
            if visit.kind == _COMMIT:
                nearest = self._nearest_live(visit.cid, stays, is_live)
                if nearest == visit.cid:
                    continue
                visit = visit._replace(old=nearest or visit.old)
            found.append(visit)
        return found

    def _nearest_live(
        self, commit: Cid, stays: set[Cid], is_live: Callable[[Cid], bool]
    ) -> Cid | None:
        """The first commit, following first parents, that a ref reaches; it then stays.

        All ancestors of such a commit are reached, too, so few commits are tried.
        """

        def is_kept(cid: Cid) -> bool:
            return any(self.is_ancestor(cid, each) for each in stays) or is_live(cid)

        parents = islice(first_parents(to_text(commit), self._commit), _FOLLOWED)
        line: list[Cid] = []
        tried = 0
        while not line or not is_kept(line[-1]):
            tried = len(line)
            line += [from_text(each.cid) for each in islice(parents, tried + 1)]
            if len(line) == tried:
                return None
        last = len(line) - 1
        nearest = line[bisect_left(line, 1, tried, last, key=is_kept)]
        stays.add(nearest)
        return nearest

    def _was_sent(self, cid: Cid) -> bool:
        return any(self._catalogue.is_own(at.pack) for at in self._registry.find_all(cid))

    def _look(self, since_ns: int) -> _Look:
        """What a look at the store finds, or found after the given moment."""
        looked_ns, look = self._last
        if looked_ns <= since_ns:
            looked_ns = time.monotonic_ns()
            look = _Look(
                self._catalogue, frozenset[str]().union(*self._condemned.read_now().values())
            )
            self._last = looked_ns, look
        return look

    def _runs(self) -> tuple[Run, ...]:
        self._registry.refresh()
        return self._registry.known.runs

    def _walk(
        self, visits: Iterable[_Visit], stays: set[Cid], follows: Callable[[Cid], bool]
    ) -> _Walked:
        """The blocks below some nodes that the nodes of old commits at their places do not have.

        Args:
            visits: the nodes.
            stays: commits that are not followed.
            follows: whether to follow a node.
        """
        walked = _Walked()
        stack = list(visits)
        while stack:
            visit = stack.pop()
            if visit.cid in walked.reached:
                continue
            if not follows(visit.cid):
                walked.left.append(visit)
                continue
            walked.reached.add(visit.cid)
            links = [
                link
                for link in self._links(visit.cid)
                if link.cid not in stays and not is_foreign(link.cid)
            ]
            if visit.kind == _PARENTS:
                stack += [_Visit(link.cid, _COMMIT, visit.old) for link in links]
                continue
            before = self._links(visit.old) if links and visit.old is not None else []
            shared, places = {each.cid for each in before}, {each.name: each.cid for each in before}
            for link in links:
                if link.cid in shared:
                    continue
                if cids.is_raw(link.cid):
                    walked.reached.add(link.cid)
                elif visit.kind == _COMMIT and link.name == "parents":
                    stack.append(_Visit(link.cid, _PARENTS, visit.old))
                else:
                    stack.append(_Visit(link.cid, _NODE, places.get(link.name)))
        return walked

    def _links(self, cid: Cid) -> list[Link]:
        return [] if cids.is_raw(cid) else dag_pb.decode(self._blocks.get(cid))[0]
