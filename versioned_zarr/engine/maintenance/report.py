"""The report of fsck."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from versioned_zarr.terminal_text import counted


@dataclass(frozen=True)
class Damage:
    """Damaged or missing data.

    Attributes:
        where: the path in the repository, and the byte offset if known.
        problem: a description of the damage.
        cid: the CID of the block, if it is one.
        keys: the keys that cannot be read because of it; `path/*` means all keys in a folder.
        commits: the commits that contain those keys.
    """

    where: str
    problem: str
    cid: str | None = None
    keys: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}"
        if self.keys:
            text += f"; keys {', '.join(self.keys[:5])}" + (" …" if len(self.keys) > 5 else "")
        if self.commits:
            commits = counted(len(self.commits), "commit")
            text += f"; in {commits}, the first {self.commits[0]}"
        return text


@dataclass
class Report:
    """The result of `fsck`.

    Attributes:
        missing: blocks that are referenced but missing.
        damaged: data that is present but damaged.
        absent: the CIDs of blocks that a partial clone fetches on demand. Not an error.
        unreferenced: the CIDs of blocks that nothing reaches; `gc` removes them. Not an error.
        checked_blocks: the number of blocks checked.
        strays: documents of plain Zarr that were written into its folder. Not an error.
    """

    missing: list[Damage] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    checked_blocks: int = 0
    strays: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not self.missing and not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {**asdict(self), "is_clean": self.is_clean}

    def __str__(self) -> str:
        lines = [f"missing: {damage}" for damage in self.missing]
        lines += [f"damaged: {damage}" for damage in self.damaged]
        if self.absent:
            blocks = counted(len(self.absent), "block")
            lines.append(f"absent: {blocks}, fetched when they are read")
        if self.strays:
            names = ", ".join(self.strays)
            lines.append(f"not in any branch: {names}, plain Zarr in the repository's folder")
        state = "clean" if self.is_clean else "NOT clean"
        checked = counted(self.checked_blocks, "block")
        lines.append(f"{state}: {checked} checked, {len(self.unreferenced)} unreferenced")
        return "\n".join(lines)
