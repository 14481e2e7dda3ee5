"""Conflict resolution: by a side, by patterns of paths, or by a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from versioned_zarr.engine.hierarchy.merge.conflicts import ChunkConflict, Conflict
from versioned_zarr.engine.hierarchy.zarr_nodes import parse
from versioned_zarr.errors import InvalidInputError

Choice: TypeAlias = Literal["ours", "theirs", "base"]
_SIDES: tuple[Choice, ...] = ("ours", "theirs", "base")


@dataclass(frozen=True)
class FieldValue:
    """The value for a field in conflict. A `resolve` function can return it.

    Attributes:
        value: a JSON value. A tuple becomes a list.

    Raises:
        InvalidInputError: the value is not JSON.
    """

    value: Any

    def __post_init__(self) -> None:
        try:
            text = json.dumps({"value": self.value})
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"the value of a field must be JSON: {error}") from error
        document = parse(text.encode())
        if document is None:
            raise InvalidInputError("the value of a field is nested too deeply")
        object.__setattr__(self, "value", document["value"])


Decision: TypeAlias = "Choice | bytes | FieldValue | None"
_Decide: TypeAlias = "Callable[[Conflict], Decision | Mapping[str, Decision]]"
Resolve: TypeAlias = "Choice | Mapping[str, Choice] | _Decide | None"
"""How to resolve conflicts: a side for all of them; a mapping of path patterns (as in `fnmatch`) to
sides, of which the first match counts, and for a chunk also a match of its array; or a function
that returns a side, the bytes of the value for a key, a `FieldValue` for a field, or None to leave
the conflict. For the chunks of an array, it may return a mapping of key patterns to these."""


def check_resolve(resolve: Resolve) -> None:
    """Make sure that `resolve` is valid, before there is a conflict.

    Raises:
        InvalidInputError: `resolve` is not valid.
    """
    Decider(resolve)


class Decider:
    """Resolves conflicts according to `resolve`.

    Args:
        resolve: see `Resolve`.

    Raises:
        InvalidInputError: `resolve` is not valid.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._decide: _Decide | None = None
        self._sides: dict[str, Decision] = {}
        if isinstance(resolve, str):
            side = _checked_side(resolve)
            self._decide = lambda conflict: side
        elif isinstance(resolve, Mapping):
            self._sides = _checked_patterns(resolve, _checked_side)
        elif callable(resolve):
            self._decide = resolve
        elif resolve is not None:
            raise InvalidInputError(
                "resolve must be 'ours', 'theirs', a mapping from path patterns to those, or a "
                f"function, not {type(resolve).__name__}"
            )

    def of(self, conflict: Conflict) -> Decision:
        """The resolution of a conflict; None leaves it unresolved."""
        if self._decide is None:
            return _first(self._sides, conflict.path)
        decision = self._decide(conflict)
        if isinstance(decision, FieldValue) and conflict.field is None:
            raise InvalidInputError(
                f"a FieldValue resolves only a field, and {conflict.path!r} is in conflict as a "
                "whole"
            )
        return _checked(decision)

    def of_chunks(self, conflict: Conflict) -> list[Decision]:
        """The resolution of each conflicting chunk of an array."""
        chunks = conflict.chunks
        if self._decide is None:
            return [_first(self._sides, chunk.key, conflict.path) for chunk in chunks]
        decision = self._decide(conflict)
        if isinstance(decision, Mapping):
            return _by_key(_checked_patterns(decision, _checked), chunks)
        decision = _checked(decision)
        if isinstance(decision, FieldValue):
            raise InvalidInputError(
                f"a FieldValue resolves only a field, not the chunks of {conflict.path!r}"
            )
        if isinstance(decision, bytes) and len(chunks) > 1:
            raise InvalidInputError(
                f"{len(chunks)} chunks of {conflict.path!r} are in conflict: give a mapping from "
                "their keys to their bytes"
            )
        return [decision] * len(chunks)


def _by_key(decisions: Mapping[str, Decision], chunks: Sequence[ChunkConflict]) -> list[Decision]:
    return [_first(decisions, chunk.key) for chunk in chunks]


def _first(decisions: Mapping[str, Decision], *paths: str) -> Decision:
    """The resolution of the first pattern that matches one of the paths."""
    for pattern, decision in decisions.items():
        if any(fnmatchcase(path, pattern) for path in paths):
            return decision
    return None


def _checked_patterns(
    decisions: Mapping[Any, Any], check: Callable[[Any], Decision]
) -> dict[str, Decision]:
    for pattern in decisions:
        if not isinstance(pattern, str):
            raise InvalidInputError(f"a path pattern in resolve must be a string, not {pattern!r}")
    return {pattern: check(decision) for pattern, decision in decisions.items()}


def _checked(decision: Any) -> Decision:
    if decision is None or isinstance(decision, (bytes, FieldValue)):
        return decision
    return _checked_side(decision)


def _checked_side(side: Any) -> Choice:
    for known in _SIDES:
        if isinstance(side, str) and side == known:
            return known
    raise InvalidInputError(
        f"resolve a conflict with 'ours' or 'theirs', or a field with a FieldValue, not {side!r}"
    )
