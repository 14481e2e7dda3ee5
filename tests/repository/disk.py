"""What a loss of power leaves of files, by what was done to them and what of it was synced.

Two kinds of file system. The strict one keeps what POSIX promises: data after a sync of the file,
names after a sync of the folder, everything else each for itself or not. The ordered one keeps
names in the order in which they were made, as ext4's journal does, and all of them up to a sync of
anything. Data that was not synced is there, or not, or in part, or as zeros, on both.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.repository.recorder import Op

TAKE = ("lost", "whole", "torn", "zeros", "some")


@dataclass
class File:
    """A file, whatever it is called.

    Attributes:
        synced: what is on the disk.
        pending: what was done since.
    """

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)

    def sync(self) -> None:
        for op in self.pending:
            _apply(self.synced, op)
        self.pending.clear()

    def after(self, chance: random.Random) -> bytes:
        """What a loss of power leaves."""
        how = chance.choice(TAKE)
        data = bytearray(self.synced)
        for number, op in enumerate(self.pending):
            if how == "lost" or (how == "some" and chance.random() < 0.5):
                continue
            if how == "zeros" and op.what == "write":
                op = Op(op.what, offset=op.offset, data=bytes(len(op.data)))
            if how == "torn" and number == len(self.pending) - 1:
                cut = chance.randint(0, len(op.data))
                op = Op(op.what, offset=op.offset, data=op.data[:cut])
            _apply(data, op)
        return bytes(data)


def _apply(data: bytearray, op: Op) -> None:
    if op.what == "write":
        if len(data) < op.offset:
            data.extend(bytes(op.offset - len(data)))
        data[op.offset : op.offset + len(op.data)] = op.data
    elif op.what == "truncate":
        del data[op.offset :]
        data.extend(bytes(op.offset - len(data)))
    elif op.offset > len(data):  # room was made
        data.extend(bytes(op.offset - len(data)))


@dataclass
class Naming:
    """A change of names: `made` names a file (None: a folder), `gone` names nothing any more."""

    made: str | None
    gone: str | None
    file: File | None
    is_synced: bool = False

    def folders(self) -> set[str]:
        paths = (path for path in (self.made, self.gone) if path is not None)
        return {path.rpartition("/")[0] for path in paths}


class Disk:
    """The files below a folder as a sequence of things done makes them.

    Args:
        is_strict: of which kind the file system is.
    """

    def __init__(self, *, is_strict: bool) -> None:
        self._is_strict = is_strict
        self._files: dict[str, File] = {}
        self._namings: list[Naming] = []

    def do(self, ops: Iterable[Op]) -> None:
        """Do what was recorded."""
        for op in ops:
            self._do(op)

    def _do(self, op: Op) -> None:
        files, namings = self._files, self._namings
        if op.what == "create":
            files[op.path] = File()
            namings.append(Naming(op.path, None, files[op.path]))
        elif op.what == "mkdir":
            namings.append(Naming(op.path, None, None))
        elif op.what in ("write", "truncate", "allocate"):
            if op.path in files:  # else it has no name any more
                files[op.path].pending.append(op)
        elif op.what == "rename":
            files[op.to] = files.pop(op.path)
            namings.append(Naming(op.to, op.path, files[op.to]))
        elif op.what == "unlink":
            files.pop(op.path, None)
            namings.append(Naming(None, op.path, None))
        elif op.what == "rmdir":
            namings.append(Naming(None, op.path, None))
        elif op.what == "sync":
            self._sync(op.path)

    def _sync(self, path: str) -> None:
        if path in self._files:
            self._files[path].sync()
        for naming in self._namings:
            if not self._is_strict or (path not in self._files and path in naming.folders()):
                naming.is_synced = True

    def crash(self, chance: random.Random, folder: Path) -> None:
        """Write what a loss of power leaves into an empty folder."""
        pending = [naming for naming in self._namings if not naming.is_synced]
        if self._is_strict:
            kept = [naming for naming in pending if chance.random() < 0.5]
        else:
            kept = pending[: chance.randint(0, len(pending))]
        names: dict[str, File | None] = {}
        for naming in self._namings:
            if naming.is_synced or any(naming is each for each in kept):
                if naming.gone is not None:
                    names.pop(naming.gone, None)
                if naming.made is not None:
                    names[naming.made] = naming.file
        for path, file in sorted(names.items()):
            target = folder / path
            if not target.parent.is_dir():
                continue  # its folder was lost
            if file is None:
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(file.after(chance))
