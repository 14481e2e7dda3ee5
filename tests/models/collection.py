"""A model of garbage collection on an object store: every interleaving of a few processes.

The steps are those of `PackCollector`, `CommitCheck` and `RecordRefs`. A store has create,
GET, LIST and DELETE, all strongly consistent; a step is one request.

The state is what is in the store, the place of each process, and what was acknowledged. `explore`
visits every state that some interleaving reaches, and returns the first in which an acknowledged
commit needs a pack that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.models.exploring import explored

OLD = "old"
"""A pack that no ref needs at the start; writers want a block in it."""
BASE = "base"
"""The pack that all branches need."""


class Rules(NamedTuple):
    """The rules of the protocol; a test takes one away, and something must then be lost.

    Attributes:
        fence: a gc creates a record in the log of every ref.
        condemn_first: it condemns before it fences.
        marks_again: it marks again after the fences.
        lists_after: a writer lists the packs after it has read what is condemned.
        checks_after: a new ref is checked after it was created.
        tells_checked: nobody relies on a new ref before its next record.
        minds_fences: a writer sends again what it sent before a fence.
        keeps_lists: a gc removes a list of another only if its packs are gone.
    """

    fence: bool = True
    condemn_first: bool = True
    marks_again: bool = True
    lists_after: bool = True
    checks_after: bool = True
    tells_checked: bool = True
    minds_fences: bool = True
    keeps_lists: bool = True


class Record(NamedTuple):
    """A record of a ref: what its commit needs (None: deleted), and whether it was checked."""

    needs: frozenset[str] | None
    is_fence: bool = False
    is_checked: bool = True


class State(NamedTuple):
    """The store, the processes, and what was acknowledged.

    Attributes:
        packs: the packs.
        refs: the records of each ref, oldest first.
        condemned: the lists.
        processes: the name, the step and the memory of each.
        acknowledged: for each ref the needs of the commits that it was moved to.
    """

    packs: frozenset[str]
    refs: tuple[tuple[str, tuple[Record, ...]], ...]
    condemned: frozenset[tuple[str, frozenset[str]]]
    processes: tuple[tuple[str, int, Any], ...]
    acknowledged: frozenset[tuple[str, int]]


DONE = 99
Moved = tuple[State, int, Any]


def explore(processes: Sequence[str], rules: Rules) -> tuple[int, State | None]:
    """The number of states, and the first in which something is lost."""
    both = (Record(frozenset({BASE})),)
    first = State(
        frozenset({BASE, OLD}),
        (("dev", both), ("main", both)),
        frozenset(),
        tuple((name, 0, ()) for name in processes),
        frozenset(),
    )
    return explored(first, _STEPS, rules, _is_lost)


def _is_lost(state: State) -> bool:
    """Whether the newest record of a ref, which was acknowledged, needs a pack that is gone."""
    for ref, records in state.refs:
        needs = records[-1].needs
        is_told = (ref, _moves(records)) in state.acknowledged
        if is_told and needs is not None and not needs <= state.packs:
            return True
    return False


def _moves(records: Sequence[Record]) -> int:
    return sum(not record.is_fence for record in records)


def _records(state: State, ref: str) -> tuple[Record, ...]:
    return dict(state.refs).get(ref, ())


def _with(state: State, ref: str, record: Record) -> State:
    refs = dict(state.refs)
    refs[ref] = (*refs.get(ref, ()), record)
    return state._replace(refs=tuple(sorted(refs.items())))


def _acknowledged(state: State, ref: str) -> State:
    move = (ref, _moves(_records(state, ref)))
    return state._replace(acknowledged=state.acknowledged | {move})


def _condemned(state: State) -> frozenset[str]:
    return frozenset(pack for _, packs in state.condemned for pack in packs)


def _fences(records: Sequence[Record]) -> int:
    return sum(record.is_fence for record in records)


# A writer: a commit on `main` (W, V) or `dev` (X) that counts on the old pack, if it may.


def _writer(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    ref = "dev" if name[0] == "X" else "main"
    if step == 0:  # what it knows of packs, from earlier
        yield state, 1, (state.packs,)
    elif step == 1:  # read the newest record
        yield state, 2, (memory[0], len(_records(state, ref)))
    elif step == 2:  # read what is condemned
        yield state, 3, (memory[0], memory[1], _condemned(state))
    elif step == 3:  # list the packs
        packs = state.packs if rules.lists_after else memory[0]
        usable = OLD in packs and OLD not in memory[2]
        yield state, 4, (memory[0], memory[1], usable)
    elif step == 4:  # create the next record
        records = _records(state, ref)
        if len(records) != memory[1]:
            yield state, 1, (memory[0],)
            return
        needs = frozenset({BASE} | ({OLD} if memory[2] else set()))
        yield _acknowledged(_with(state, ref, Record(needs)), ref), DONE, ()


# A sender: a commit on `main` that counts on a pack that it has just sent itself, unasked.


def _sender(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    attempt = memory[0] if memory else 0
    own = f"own-{name}-{attempt}"
    if step == 0:  # read the newest record
        records = _records(state, "main")
        yield state, 1, (attempt, _fences(records))
    elif step == 1:  # send the pack, under a new name
        yield state._replace(packs=state.packs | {own}), 2, memory
    elif step == 2:  # create the next record, if no fence came
        if not rules.minds_fences or _fences(_records(state, "main")) == memory[1]:
            record = Record(frozenset({BASE, own}))
            yield _acknowledged(_with(state, "main", record), "main"), DONE, ()
        else:
            yield state, 0, (attempt + 1,)


# A creator of a new ref at a commit that no ref names, and that needs the old pack.


def _creator(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # the commit can be read
        yield state, (1 if OLD in state.packs else DONE), ()
    elif step == 1:  # create the first record
        record = Record(frozenset({BASE, OLD}), is_checked=False)
        created = _with(state, "new", record)
        if rules.checks_after:
            yield created, 2, ()
        else:
            yield _acknowledged(created, "new"), DONE, ()
    elif step == 2:  # read what is condemned
        yield state, 3, (OLD in _condemned(state),)
    elif step == 3:  # list the packs
        yield state, 4, (memory[0] or OLD not in state.packs,)
    elif step == 4:  # take it back, unless all is there to stay
        if _records(state, "new")[-1].needs is None:
            yield state, DONE, ()
        elif memory[0]:
            yield _with(state, "new", Record(None)), DONE, ()
        else:
            yield _acknowledged(state, "new"), DONE, ()


# A merger: a commit on `main` that counts on another ref, if nothing is condemned.


def _merger(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # read the newest record
        yield state, 1, (len(_records(state, "main")),)
    elif step == 1:  # read what is condemned
        yield state, (2 if not _condemned(state) else DONE), memory
    elif step == 2:  # read the other ref
        records = _records(state, "new")
        last = next((each for each in reversed(records) if not each.is_fence), None)
        is_live = last is not None and last.needs is not None
        if is_live and (last.is_checked or not rules.tells_checked):
            yield state, 3, memory
        else:
            yield state, DONE, ()
    elif step == 3:  # create the next record
        if len(_records(state, "main")) != memory[0]:
            yield state, 0, ()
        else:
            record = Record(frozenset({BASE, OLD}))
            yield _acknowledged(_with(state, "main", record), "main"), DONE, ()


# A mover: gives the new ref a second record, after it has checked, and deletes it afterwards.


def _mover(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # read the newest record
        records = _records(state, "new")
        if records and records[-1].needs is not None:
            yield state, 1, (len(records),)
        else:
            yield state, DONE, ()
    elif step == 1:  # read what is condemned
        yield state, 2, (*memory, _condemned(state))
    elif step == 2:  # list the packs
        yield state, 3, (memory[0], OLD in state.packs and OLD not in memory[1])
    elif step == 3:  # create the second record, or give up
        if not memory[1] or len(_records(state, "new")) != memory[0]:
            yield state, DONE, ()
        else:
            moved = _with(state, "new", Record(frozenset({BASE, OLD})))
            yield _acknowledged(moved, "new"), 4, ()
    elif step == 4:  # delete it
        yield _with(state, "new", Record(None)), DONE, ()


# A gc. It reads the refs one by one when it marks.


def _collector(state: State, name: str, step: int, memory: Any, rules: Rules) -> Iterator[Moved]:
    if step == 0:  # list the packs, and the lists of others
        others = frozenset(each for each, _ in state.condemned)
        yield state, 1, (state.packs, others, frozenset(dict(state.refs)), frozenset())
    elif step == 1:  # mark: read one ref after the other
        packs, others, left, live = memory
        if left:
            ref, found = _read(state, left)
            yield state, 1, (packs, others, left - {ref}, live | found)
            return
        dead = packs - live
        yield state, 2, (dead, others, frozenset(dict(state.refs)))
    elif step == 2:  # condemn
        dead, others, _ = memory
        condemned = state.condemned
        if rules.condemn_first:
            condemned |= {(name, dead)}
        left = frozenset(dict(state.refs)) if rules.fence else frozenset()
        yield state._replace(condemned=condemned), 3, (dead, others, left)
    elif step == 3:  # fence, one ref after the other
        dead, others, left = memory
        if left:
            ref = min(left)
            last = _records(state, ref)[-1]
            fenced = _with(
                state, ref, Record(last.needs, is_fence=True, is_checked=last.is_checked)
            )
            yield fenced, 3, (dead, others, left - {ref})
            return
        condemned = state.condemned if rules.condemn_first else state.condemned | {(name, dead)}
        refs = frozenset(dict(state.refs)) if rules.marks_again else frozenset()
        yield state._replace(condemned=condemned), 4, (dead, others, refs, frozenset())
    elif step == 4:  # mark again
        dead, others, left, live = memory
        if left:
            ref, found = _read(state, left)
            yield state, 4, (dead, others, left - {ref}, live | found)
            return
        yield state, 5, (dead - live, others)
    elif step == 5:  # delete
        yield state._replace(packs=state.packs - memory[0]), 6, memory
    elif step == 6:  # remove the list, and those of others whose packs are gone
        others = memory[1] if not rules.keeps_lists else frozenset()
        kept = frozenset(
            each
            for each in state.condemned
            if each[0] != name
            and each[0] not in others
            and (not rules.keeps_lists or each[1] & state.packs)
        )
        yield state._replace(condemned=kept), DONE, ()


def _read(state: State, left: frozenset[str]) -> tuple[str, frozenset[str]]:
    ref = min(left)
    needs = _records(state, ref)[-1].needs
    return ref, frozenset() if needs is None else needs


_STEPS = {
    "W": _writer,
    "V": _writer,
    "X": _writer,
    "S": _sender,
    "C": _creator,
    "M": _merger,
    "D": _mover,
    "G": _collector,
    "H": _collector,
}
