"""A model of a stored session beside a gc: every interleaving of a few processes.

The steps are those of `StoredSession`, `ObjectSessionLog`, `PackCollector` and `CommitCheck`. A
step is one request. A state is bad if the newest commit of the branch needs a pack that is gone, or
if a batch is gone that was acknowledged, is in no commit, and whose session nobody has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.models.exploring import explored

BASE = "base"
"""The pack that the branch needs at the start."""
DONE = 99


class Rules(NamedTuple):
    """The rules of the protocol; a test takes one away, and something must then be lost.

    Attributes:
        begins_first: the head of a session is stored before its first batch.
        holds: a gc keeps the batches of open sessions that are in no commit.
        lists_packs_first: it lists the packs before it lists the sessions.
        only_marks: ending a session deletes nothing.
        fence: a gc creates a record on the branch between condemning and marking again.
        marks_again: it marks again after the fence.
        looks_again: a committer that lost a race looks again what is condemned and what is there.
        notes_after: a note says that a commit contains batches once the commit was made.
    """

    begins_first: bool = True
    holds: bool = True
    lists_packs_first: bool = True
    only_marks: bool = True
    fence: bool = True
    marks_again: bool = True
    looks_again: bool = True
    notes_after: bool = True


class State(NamedTuple):
    """The store, the processes, and what was acknowledged.

    Attributes:
        packs: the packs.
        records: what the commit of each record of the branch needs, oldest first.
        condemned: the lists.
        has_head: whether the session began.
        is_ended: whether it was ended.
        noted: the batches that notes say a commit contains.
        written: the batches that were acknowledged while the session was open.
        processes: the name, the step and the memory of each.
    """

    packs: frozenset[str]
    records: tuple[frozenset[str], ...]
    condemned: frozenset[tuple[str, frozenset[str]]]
    has_head: bool
    is_ended: bool
    noted: frozenset[str]
    written: frozenset[str]
    processes: tuple[tuple[str, int, Any], ...]


Moved = tuple[State, int, Any]


def explore(processes: Sequence[str], rules: Rules) -> tuple[int, State | None]:
    """The number of states, and the first in which something is lost."""
    base = frozenset({BASE})
    places = tuple((name, 0, ()) for name in processes)
    first = State(base, (base,), frozenset(), False, False, frozenset(), frozenset(), places)
    return explored(first, _STEPS, rules, _is_lost)


def _is_lost(state: State) -> bool:
    if not state.records[-1] <= state.packs:
        return True
    committed = frozenset().union(*state.records)
    return not state.is_ended and not state.written <= state.packs | committed


def _batches(packs: frozenset[str]) -> frozenset[str]:
    return frozenset(pack for pack in packs if pack.startswith("batch"))


def _condemned(state: State) -> frozenset[str]:
    return frozenset(pack for _, packs in state.condemned for pack in packs)


# A worker: stores one batch.


def _worker(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    batch = f"batch {name}"
    if step == 0:  # the head, if there is none
        if rules.begins_first:
            yield state._replace(has_head=True), 1, ()
        else:
            yield state, 1, ()
    elif step == 1:  # the batch; acknowledged with the answer
        written = state.written if state.is_ended else state.written | {batch}
        yield state._replace(packs=state.packs | {batch}, written=written), 2, ()
    elif step == 2:
        yield state._replace(has_head=True), DONE, ()


# A committer: commits the batches that are there.


def _committer(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # list the batches
        found = _batches(state.packs) - state.noted
        yield state, (1 if found else DONE), (found,)
    elif step == 1:  # read the newest record
        yield state, 2, (memory[0], len(state.records))
    elif step == 2 and not rules.notes_after:
        yield state._replace(noted=state.noted | memory[0]), 3, memory
    elif step in (2, 3):  # has it ended?
        yield state, (DONE if state.is_ended else 4), memory
    elif step == 4:  # read what is condemned
        yield state, 5, (*memory, _condemned(state))
    elif step == 5:  # list the packs
        is_there = memory[0] <= state.packs and not memory[0] & memory[2]
        yield state, (6 if is_there else DONE), memory[:2]
    elif step == 6:  # create the next record
        found, count = memory
        if len(state.records) == count:
            record = state.records[-1] | found
            yield state._replace(records=(*state.records, record)), 7, (found,)
        elif rules.looks_again:
            yield state, 1, (found,)
        else:
            yield state, 6, (found, len(state.records))
    elif step == 7:  # the note
        yield state._replace(noted=state.noted | memory[0]), DONE, ()


# Someone who ends the session.


def _ender(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:
        yield state._replace(is_ended=True), (DONE if rules.only_marks else 1), ()
    elif step == 1:
        kept = state.packs - (_batches(state.packs) - state.records[-1])
        yield state._replace(packs=kept), DONE, ()


# A gc.


def _held(state: State, rules: Rules) -> frozenset[str]:
    if not rules.holds or state.is_ended or not state.has_head:
        return frozenset()
    return frozenset({"*"}) | state.noted


def _collector(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # list the packs, or the sessions
        yield state, 1, (state.packs if rules.lists_packs_first else _held(state, rules),)
    elif step == 1:  # list the sessions, or the packs
        packs, held = (
            (memory[0], _held(state, rules))
            if rules.lists_packs_first
            else (state.packs, memory[0])
        )
        kept = _batches(packs) - held if "*" in held else frozenset()
        yield state, 2, (packs - kept,)
    elif step == 2:  # mark
        yield state, 3, (memory[0] - state.records[-1],)
    elif step == 3:  # condemn
        yield state._replace(condemned=state.condemned | {(name, memory[0])}), 4, memory
    elif step == 4:  # fence
        records = (*state.records, state.records[-1]) if rules.fence else state.records
        yield state._replace(records=records), 5, memory
    elif step == 5:  # mark again
        live = state.records[-1] if rules.marks_again else frozenset()
        yield state, 6, (memory[0] - live,)
    elif step == 6:  # delete
        yield state._replace(packs=state.packs - memory[0]), 7, ()
    elif step == 7:  # remove the list
        kept = frozenset(each for each in state.condemned if each[0] != name)
        yield state._replace(condemned=kept), 8, ()
    elif step == 8:  # remove an ended session; its mark goes last
        yield state._replace(has_head=state.has_head and not state.is_ended), DONE, ()


_STEPS = {
    "W": _worker,
    "V": _worker,
    "C": _committer,
    "K": _committer,
    "E": _ender,
    "G": _collector,
    "H": _collector,
}
