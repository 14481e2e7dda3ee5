"""An example for the help of each command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, str]] = {
    "branch": "vz branch warmer main~1",
    "bundle export": "vz bundle export v1 v1.car",
    "bundle import": "vz bundle import v1.car --branch received",
    "cache clear": "vz -C s3://bucket/climate cache clear",
    "cache size": "vz -C s3://bucket/climate cache size",
    "cat": "vz cat main air/temperature/zarr.json",
    "cherry-pick": "vz cherry-pick warmer --into main",
    "cid": "vz cid old.zarr",
    "clone": "vz clone s3://bucket/climate climate.vz --ref main --path air",
    "commit": 'vz commit ../new.zarr -m "Second run"',
    "completion": "vz completion bash",
    "config": "vz config --json",
    "diff": "vz diff main~3 --stat",
    "export": "vz export main@{2026-01-31} january.zarr",
    "fetch": "vz fetch origin main",
    "fsck": "vz fsck --quick",
    "gc": "vz gc --keep-reflog 7 --dry-run",
    "help": "vz help remote add",
    "import": 'vz import old.zarr --path air -m "Original data"',
    "init": "vz init climate.vz",
    "log": "vz log --graph -n 20 --path air/temperature",
    "ls": "vz ls main air -l",
    "merge": "vz merge warmer --resolve theirs",
    "mv": "vz mv air/t air/temperature",
    "publish": "vz -C ipfs+http://127.0.0.1:5001/climate publish main",
    "pull": "vz pull origin main",
    "push": "vz push origin main v1",
    "reflog": "vz reflog main -n 5",
    "remote add": "vz remote add origin s3://bucket/climate",
    "remote delete": "vz remote delete origin",
    "remote list": "vz remote list",
    "repack": "vz repack",
    "revert": "vz revert main~2",
    "rm": 'vz rm air/scratch -m "Drop the scratch array"',
    "serve": "vz serve climate.vz --ref main --port 8080",
    "sessions": "vz sessions --json",
    "show": "vz show main~1",
    "squash": 'vz squash main~5 -m "All runs of May"',
    "stats": "vz stats",
    "status": "vz -C climate.vz status",
    "tag": "vz tag v1 main~1",
    "tree": "vz tree main air",
    "undo": "vz undo main",
}
"""The example, by the words of the command."""
