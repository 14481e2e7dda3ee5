"""Every error that versioned_zarr raises, in one tree.

Each class also derives from the matching built-in exception, has its facts as attributes, and can
be pickled, because Dask ships exceptions between machines.

```
VersionedZarrError
├── InvalidInputError (ValueError)          an argument that cannot be valid
│   ├── InvalidKeyError                     .key
│   ├── InvalidRefError                     .ref
│   ├── InvalidCidError                     .text
│   ├── InvalidUrlError                     .url
│   └── ReadOnlyError                       .url
├── NotFoundError (KeyError, FileNotFoundError)
│   ├── RepositoryNotFoundError             .url
│   ├── RefNotFoundError                    .ref
│   ├── KeyNotFoundError                    .key
│   ├── BlockNotFoundError                  .cid
│   └── SessionNotFoundError                .session
├── AlreadyExistsError (FileExistsError)    .name
├── ConflictError (RuntimeError)            .conflicts
│   └── BranchMovedError                    .branch, .expected, .found
├── NothingToCommitError (ValueError)       .branch
├── SessionClosedError (ValueError)         .session
├── FormatError (ValueError)                a repository that this version cannot read: .url, .found
├── CorruptError (ValueError)               .where
│   ├── CorruptBlockError                   .cid
│   ├── CorruptRefError                     .ref
│   └── CorruptJournalError                 .session, .sound
├── StorageError (OSError)                  the storage of the repository failed: .where
│   ├── StorageFullError
│   ├── OutcomeUnknownError                 a ref may have moved, or not: .ref, .commit
│   └── CollectedError                      the server removed blocks while they were committed
└── MissingDependencyError (ImportError)    .package, .extra
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "AlreadyExistsError",
    "BlockNotFoundError",
    "BranchMovedError",
    "CollectedError",
    "ConflictError",
    "CorruptBlockError",
    "CorruptError",
    "CorruptJournalError",
    "CorruptRefError",
    "FormatError",
    "InvalidCidError",
    "InvalidInputError",
    "InvalidKeyError",
    "InvalidRefError",
    "InvalidUrlError",
    "KeyNotFoundError",
    "MissingDependencyError",
    "NotFoundError",
    "NothingToCommitError",
    "OutcomeUnknownError",
    "ReadOnlyError",
    "RefNotFoundError",
    "RepositoryNotFoundError",
    "SessionClosedError",
    "SessionNotFoundError",
    "StorageError",
    "StorageFullError",
    "VersionedZarrError",
]


class VersionedZarrError(Exception):
    """The base class of all errors of this package.

    A subclass names its facts in `facts`; they are keyword arguments and become attributes.
    """

    facts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, **facts: Any) -> None:
        unknown = set(facts) - set(self.facts)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no fact {sorted(unknown)}")
        super().__init__(message)
        self.message = message
        for name in self.facts:
            setattr(self, name, facts.get(name))

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, {n: getattr(self, n) for n in self.facts})


def _rebuild(
    kind: type[VersionedZarrError], message: str, facts: dict[str, Any]
) -> VersionedZarrError:
    return kind(message, **facts)


class InvalidInputError(VersionedZarrError, ValueError):
    """An argument that is never valid, whatever the repository contains."""


class InvalidKeyError(InvalidInputError):
    """A key that is not valid in a Zarr store, or that is below the key of another value."""

    facts: ClassVar[tuple[str, ...]] = ("key",)
    key: str


class InvalidRefError(InvalidInputError):
    """A branch or tag name, or an expression such as `main~2`, that is not valid."""

    facts: ClassVar[tuple[str, ...]] = ("ref",)
    ref: str


class InvalidCidError(InvalidInputError):
    """A text or bytes that are not a supported CID."""

    facts: ClassVar[tuple[str, ...]] = ("text",)
    text: str


class InvalidUrlError(InvalidInputError):
    """A URL with an unsupported scheme or with invalid parts."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class ReadOnlyError(InvalidInputError):
    """A write to something that is read-only: a snapshot, or a folder without write permission."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class NotFoundError(VersionedZarrError, KeyError, FileNotFoundError):
    """The named object does not exist."""


class RepositoryNotFoundError(NotFoundError):
    """There is no repository at this URL."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class RefNotFoundError(NotFoundError):
    """No branch, tag, commit or tree has this name."""

    facts: ClassVar[tuple[str, ...]] = ("ref",)
    ref: str


class KeyNotFoundError(NotFoundError):
    """The tree has no value under this key."""

    facts: ClassVar[tuple[str, ...]] = ("key",)
    key: str


class BlockNotFoundError(NotFoundError):
    """A block that a tree or a commit names is not in the repository."""

    facts: ClassVar[tuple[str, ...]] = ("cid",)
    cid: str


class SessionNotFoundError(NotFoundError):
    """There is no session with this id."""

    facts: ClassVar[tuple[str, ...]] = ("session",)
    session: str


class AlreadyExistsError(VersionedZarrError, FileExistsError):
    """A repository, branch or tag of this name already exists."""

    facts: ClassVar[tuple[str, ...]] = ("name",)
    name: str


class ConflictError(VersionedZarrError, RuntimeError):
    """Two sides made incompatible changes to the same data; nothing was lost or written.

    Attributes:
        conflicts: one `Conflict` for each key, metadata field, or array of chunks in conflict.
    """

    facts: ClassVar[tuple[str, ...]] = ("conflicts",)
    conflicts: Sequence[Any]

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.conflicts = tuple(facts.get("conflicts") or ())


class BranchMovedError(ConflictError):
    """The branch is not at the expected commit."""

    facts: ClassVar[tuple[str, ...]] = ("conflicts", "branch", "expected", "found")
    branch: str
    expected: str | None
    found: str | None


class NothingToCommitError(VersionedZarrError, ValueError):
    """Nothing changed; pass allow_empty=True to commit anyway."""

    facts: ClassVar[tuple[str, ...]] = ("branch",)
    branch: str


class SessionClosedError(VersionedZarrError, ValueError):
    """A write to a session that was discarded, deleted or finished, or a use of its URL."""

    facts: ClassVar[tuple[str, ...]] = ("session",)
    session: str


class FormatError(VersionedZarrError, ValueError):
    """This version cannot read the format of the repository."""

    facts: ClassVar[tuple[str, ...]] = ("url", "found")
    url: str
    found: Any


class CorruptError(VersionedZarrError, ValueError):
    """Stored data is damaged."""

    facts: ClassVar[tuple[str, ...]] = ("where",)
    where: str


class CorruptBlockError(CorruptError):
    """The bytes of a block do not match its CID or its codec."""

    facts: ClassVar[tuple[str, ...]] = ("where", "cid")
    cid: str


class CorruptRefError(CorruptError):
    """A line in the log of a branch or tag is damaged."""

    facts: ClassVar[tuple[str, ...]] = ("where", "ref")
    ref: str


class CorruptJournalError(CorruptError):
    """A record of a session's journal is damaged.

    Attributes:
        session: the session's id.
        sound: the number of valid bytes of the journal before the damage; None if something other
            than the journal is damaged.
    """

    facts: ClassVar[tuple[str, ...]] = ("where", "session", "sound")
    session: str
    sound: int | None


class StorageError(VersionedZarrError, OSError):
    """The storage of the repository failed; the cause tells how."""

    facts: ClassVar[tuple[str, ...]] = ("where",)
    where: str


class StorageFullError(StorageError):
    """No space is left; acknowledged data is safe."""


class OutcomeUnknownError(StorageError):
    """A branch or tag may or may not have moved; no earlier commit is lost.

    Attributes:
        ref: the branch or tag.
        commit: the CID of the target commit, as text; None for a deletion.
    """

    facts: ClassVar[tuple[str, ...]] = ("where", "ref", "commit")
    ref: str
    commit: str | None


class CollectedError(StorageError):
    """Garbage collection removed blocks that a commit or a transfer relied on.

    The operation had no effect and can be tried again.
    """


class MissingDependencyError(VersionedZarrError, ImportError):
    """An optional package is not installed; the message names the extra that installs it."""

    facts: ClassVar[tuple[str, ...]] = ("package", "extra")
    package: str
    extra: str
