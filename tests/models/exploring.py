"""Visits every state that some interleaving of a few processes reaches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar


class Interleaved(Protocol):
    """A state: a named tuple with the name, the step and the memory of each process."""

    @property
    def processes(self) -> tuple[tuple[str, int, Any], ...]: ...
    def _replace(self, **fields: Any) -> Self: ...


S = TypeVar("S", bound=Interleaved)
Step = Callable[[Any, str, int, Any, Any], Iterator[tuple[Any, int, Any]]]
"""Yields what a process may do next: the state after it, and its own next step and memory."""


def explored(
    first: S, steps: Mapping[str, Step], rules: Any, is_lost: Callable[[S], bool]
) -> tuple[int, S | None]:
    """The number of states, and the first in which something is lost.

    Args:
        first: where all begin.
        steps: what a process does, by the first letter of its name.
        rules: the rules of the protocol.
        is_lost: whether something is lost in a state.
    """
    seen, queue = {first}, deque([first])
    while queue:
        state = queue.popleft()
        if is_lost(state):
            return len(seen), state
        for number, (name, step, memory) in enumerate(state.processes):
            for after, next_step, kept in steps[name[0]](state, name, step, memory, rules):
                moved = list(after.processes)
                moved[number] = (name, next_step, kept)
                found = after._replace(processes=tuple(moved))
                if found not in seen:
                    seen.add(found)
                    queue.append(found)
    return len(seen), None
