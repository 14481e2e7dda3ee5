"""A ref record: one update of a branch or tag, as an object.

docs/design/object-stores.md shows the bytes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from versioned_zarr.errors import CorruptRefError, InvalidCidError
from versioned_zarr.history.commit_object import format_time, parse_time
from versioned_zarr.history.ref_names import to_file_name
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.storage.checked_line import checked_line, text_in

_LAST: Final = 2**63 - 1
HINT: Final = "hint"
"""Next to the records of a ref: the number of one of the last, for readers that cannot list."""
HINTED_EVERY: Final = 16
FORGOTTEN: Final = b"forgotten\n"
"""What stands in place of a record whose move was forgotten; its number stays taken."""


class RefRecord(NamedTuple):
    """A record: the move that it tells of, and who made it.

    Attributes:
        number: how many records came before it.
        entry: the move; for a fence, the one before it.
        nonce: random; whoever reads it back knows their own record by it.
        packs: where to find the blocks of the commit; see `PackCatalogue.to_record`.
        is_checked: whether `CommitCheck` checked what the commit reaches before it was named, or no
            gc could have begun.
        fences: how many of the records up to this one are fences.
        repeats: the number of the record whose move a fence repeats; None if this is a move. A
            fence only makes writers look for condemned packs; see `Collector`.
    """

    number: int
    entry: RefEntry
    nonce: str
    packs: Mapping[str, Any]
    is_checked: bool = True
    fences: int = 0
    repeats: int | None = None

    @property
    def is_fence(self) -> bool:
        """Whether it moves nothing."""
        return self.repeats is not None

    @property
    def before_fences(self) -> int:
        """The number of the record whose move a fence repeats; otherwise its own number."""
        return self.number if self.repeats is None else self.repeats


def ref_folder(kind: str, name: str) -> str:
    """The folder of the records of a ref."""
    return f"refs/{kind}/{to_file_name(name)}"


def record_path(folder: str, number: int) -> str:
    """The object of the record with this number."""
    return f"{folder}/{_LAST - number:019}"


def number_in(path: str) -> int | None:
    """The number of the record at a path; None if it is not the path of one."""
    text = path.rpartition("/")[2]
    return _LAST - int(text) if len(text) == 19 and text.isdecimal() else None


def is_record(path: str) -> bool:
    """Whether this is the path of a record; other objects may be in the folder, too."""
    return number_in(path) is not None and path.count("/") == 3


def next_record(
    last: RefRecord | None,
    commit: Cid | None,
    why: str,
    packs: Mapping[str, Any],
    *,
    is_checked: bool = True,
) -> RefRecord:
    """The record after the last one; its time is never earlier."""
    now, nonce = datetime.now(UTC), secrets.token_hex(8)
    if last is None:
        return RefRecord(0, RefEntry(0, commit, now, why), nonce, packs, is_checked)
    number, when = last.number + 1, max(now, last.entry.time)
    entry = RefEntry(number - last.fences, commit, when, why)
    return RefRecord(number, entry, nonce, packs, is_checked, last.fences)


def next_fence(last: RefRecord, packs: Mapping[str, Any]) -> RefRecord:
    """The fence after a record."""
    number, fences, nonce = last.number + 1, last.fences + 1, secrets.token_hex(8)
    return RefRecord(
        number, last.entry, nonce, packs, last.is_checked, fences, repeats=last.before_fences
    )


def encode_record(record: RefRecord) -> bytes:
    """A record as a line of JSON, with its checksum; docs/design/object-stores.md shows it."""
    commit = record.entry.commit
    document = {
        "checked": record.is_checked,
        "commit": None if commit is None else to_text(commit),
        "fence": record.repeats,
        "fences": record.fences,
        "nonce": record.nonce,
        "number": record.number,
        "packs": record.packs,
        "time": format_time(record.entry.time),
        "why": record.entry.why,
    }
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")
    return checked_line(text)


def decode_record(data: bytes, path: str, name: str) -> RefRecord:
    """The record in an object.

    Raises:
        CorruptRefError: it is damaged.
    """
    text = text_in(data)
    if text is None:
        raise damaged(path, name)
    try:
        document: Any = json.loads(text)
        commit, number, packs = document["commit"], document["number"], document["packs"]
        fences, repeats, is_checked = (document[key] for key in ("fences", "fence", "checked"))
        entry = RefEntry(
            number=number - fences,
            commit=None if commit is None else from_text(commit),
            time=parse_time(document["time"]),
            why=document["why"],
        )
        texts: list[Any] = [document["why"], document["nonce"]]
    except (ValueError, LookupError, TypeError, AttributeError, InvalidCidError) as error:
        raise damaged(path, name) from error
    are_texts = all(isinstance(each, str) for each in texts) and _are_names(packs)
    is_move = repeats is None
    is_sound = is_move or (type(repeats) is int and fences > 0 and 0 <= repeats < number)
    is_sound = is_sound and is_checked in (False, True) and 0 <= fences <= number
    if number != number_in(path) or not (are_texts and is_sound):
        raise damaged(path, name)
    return RefRecord(number, entry, document["nonce"], packs, is_checked, fences, repeats)


def _are_names(packs: object) -> bool:
    """Whether this has the form of what `PackCatalogue.to_record` says."""
    return isinstance(packs, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in packs.values()
    )


def damaged(path: str, name: str) -> CorruptRefError:
    """The error for a damaged record."""
    return CorruptRefError(
        f"the record {path!r} of {name!r} is damaged; the records with larger numbers in their "
        "names are the earlier positions of the ref: restore or delete the damaged object",
        ref=name,
        where=path,
    )
