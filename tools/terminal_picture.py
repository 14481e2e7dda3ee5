"""Draws docs/images/terminal.svg: a few commands of `vz`, and what they print.

Runs the commands in a folder of its own, with colors, and lets rich draw the text. The drawing asks
for no font from a network. Run it again when the output of these commands changes:

    .venvs/py313-zarr/bin/python tools/terminal_picture.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import versioned_zarr as vz

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
WIDTH = 92
COMMANDS = (
    "vz log --graph",
    "vz diff main~1 --values",
    "vz blame air/temperature",
)
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" \
xmlns="http://www.w3.org/2000/svg" role="img" aria-label="vz log, diff and blame in a terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def make_repository(path: Path) -> None:
    """Three commits, one of them on a branch that is merged."""
    repository = vz.create(path)
    values = np.full((240, 18, 36), 280.0, "f4")
    with repository.session("main", message="Reanalysis") as session:
        air = zarr.create_group(session, path="air")
        names = ("time", "lat", "lon")
        air.create_array("temperature", data=values, chunks=(24, 18, 36), dimension_names=names)
    repository.branches.create("calibration")
    with repository.session("calibration", message="New calibration") as session:
        zarr.open_array(session, path="air/temperature")[216:] = values[216:] + 0.5
    with repository.session("main", message="Add units") as session:
        zarr.open_array(session, path="air/temperature").attrs["units"] = "K"
    repository.merge("calibration", into="main")


def main() -> None:
    """Run the commands, and draw."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
    with tempfile.TemporaryDirectory() as name:
        os.environ["VERSIONED_ZARR_AUTHOR"] = "Ada Lovelace"
        make_repository(Path(name, "climate.vz"))
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
        for command in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "versioned_zarr.cli", *command.split()[1:]],
                cwd=Path(name, "climate.vz"),
                env={**environment, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
            )
            console.print(Text(f"$ {command}", "bold"))
            console.print(Text.from_ansi(done.stdout.rstrip()))
            console.print()
    drawn = console.export_svg(
        title="climate.vz", theme=MONOKAI, code_format=FORMAT, unique_id="vz"
    )
    PICTURE.write_text(drawn, "utf-8")
    print(f"drawn: {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
