"""Every error that versioned_zarr raises, in one tree.

Each class is also the built-in that people already catch, carries its facts as attributes, and
survives pickling, since Dask ships exceptions between machines.

```
VersionedZarrError
├── InvalidInputError (ValueError)          what was passed in cannot be right
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
├── StorageError (OSError)                  the place where the repository lives failed: .where
│   ├── StorageFullError
│   ├── OutcomeUnknownError                 a ref may have moved, or not: .ref, .commit
│   └── CollectedError                      the place removed blocks while they were committed
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
    """The root of the tree; catch it to catch everything that is ours.

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
    """An argument that cannot be right, whatever the repository holds."""


class InvalidKeyError(InvalidInputError):
    """A key that no Zarr store may hold, or one that lies under another key's value."""

    facts: ClassVar[tuple[str, ...]] = ("key",)
    key: str


class InvalidRefError(InvalidInputError):
    """A branch or tag name, or an expression such as `main~2`, that cannot be read."""

    facts: ClassVar[tuple[str, ...]] = ("ref",)
    ref: str


class InvalidCidError(InvalidInputError):
    """Text or bytes that are not a CID of a kind that versioned_zarr reads."""

    facts: ClassVar[tuple[str, ...]] = ("text",)
    text: str


class InvalidUrlError(InvalidInputError):
    """A URL whose scheme no backend knows, or whose parts make no sense."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class ReadOnlyError(InvalidInputError):
    """A write to something that is read-only: a snapshot, or a folder without write permission."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class NotFoundError(VersionedZarrError, KeyError, FileNotFoundError):
    """Something that was named is not there."""


class RepositoryNotFoundError(NotFoundError):
    """No repository lives at this URL."""

    facts: ClassVar[tuple[str, ...]] = ("url",)
    url: str


class RefNotFoundError(NotFoundError):
    """No branch, tag, commit or tree answers to this name."""

    facts: ClassVar[tuple[str, ...]] = ("ref",)
    ref: str


class KeyNotFoundError(NotFoundError):
    """The tree holds no value under this key."""

    facts: ClassVar[tuple[str, ...]] = ("key",)
    key: str


class BlockNotFoundError(NotFoundError):
    """A block that a tree or a commit names is not in the repository."""

    facts: ClassVar[tuple[str, ...]] = ("cid",)
    cid: str


class SessionNotFoundError(NotFoundError):
    """No journal of a session with this id is left."""

    facts: ClassVar[tuple[str, ...]] = ("session",)
    session: str


class AlreadyExistsError(VersionedZarrError, FileExistsError):
    """A repository, branch or tag of this name is there already."""

    facts: ClassVar[tuple[str, ...]] = ("name",)
    name: str


class ConflictError(VersionedZarrError, RuntimeError):
    """Two sides changed the same thing in ways that do not merge; nothing was lost or written.

    Attributes:
        conflicts: one `Conflict` for each key, metadata field, or array of chunks in dispute.
    """

    facts: ClassVar[tuple[str, ...]] = ("conflicts",)
    conflicts: Sequence[Any]

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.conflicts = tuple(facts.get("conflicts") or ())


class BranchMovedError(ConflictError):
    """The branch names another commit than the one that was expected."""

    facts: ClassVar[tuple[str, ...]] = ("conflicts", "branch", "expected", "found")
    branch: str
    expected: str | None
    found: str | None


class NothingToCommitError(VersionedZarrError, ValueError):
    """The session holds what its base holds; pass allow_empty=True to commit all the same."""

    facts: ClassVar[tuple[str, ...]] = ("branch",)
    branch: str


class SessionClosedError(VersionedZarrError, ValueError):
    """A write to a session that was discarded, deleted or finished."""

    facts: ClassVar[tuple[str, ...]] = ("session",)
    session: str


class FormatError(VersionedZarrError, ValueError):
    """The repository's format is not one that this version reads."""

    facts: ClassVar[tuple[str, ...]] = ("url", "found")
    url: str
    found: Any


class CorruptError(VersionedZarrError, ValueError):
    """Stored bytes are not what they were when they were written."""

    facts: ClassVar[tuple[str, ...]] = ("where",)
    where: str


class CorruptBlockError(CorruptError):
    """The bytes of a block do not hash to its CID, or are not what its codec says."""

    facts: ClassVar[tuple[str, ...]] = ("where", "cid")
    cid: str


class CorruptRefError(CorruptError):
    """A line of a branch's or tag's log is damaged."""

    facts: ClassVar[tuple[str, ...]] = ("where", "ref")
    ref: str


class CorruptJournalError(CorruptError):
    """A record of a session's journal is damaged.

    Attributes:
        session: the session's id.
        sound: how many bytes of the journal before the damage are sound; None where it is not the
            journal that is damaged.
    """

    facts: ClassVar[tuple[str, ...]] = ("where", "session", "sound")
    session: str
    sound: int | None


class StorageError(VersionedZarrError, OSError):
    """The place where the repository lives failed; the cause says how."""

    facts: ClassVar[tuple[str, ...]] = ("where",)
    where: str


class StorageFullError(StorageError):
    """No room is left; what was acknowledged before is safe."""


class OutcomeUnknownError(StorageError):
    """A branch or tag may have been moved, or not; nothing that was committed before is lost.

    Attributes:
        ref: the branch or tag.
        commit: the CID of the commit that it was to move to, as text; None if it was to go.
    """

    facts: ClassVar[tuple[str, ...]] = ("where", "ref", "commit")
    ref: str
    commit: str | None


class CollectedError(StorageError):
    """A server's garbage collection took blocks that a commit or a transfer had just sent.

    What they were sent for was not done, and can be tried again.
    """


class MissingDependencyError(VersionedZarrError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    facts: ClassVar[tuple[str, ...]] = ("package", "extra")
    package: str
    extra: str
