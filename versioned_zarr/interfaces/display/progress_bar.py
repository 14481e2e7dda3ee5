"""Progress bars of notebooks and IPython: what an operation shows if it takes longer than 2 s.

Outside IPython, nothing is shown: scripts pass `progress`, and the command `vz` has its own bars.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.interfaces.display import html
from versioned_zarr.terminal_text import escaped_line

SILENT_S: Final = 2.0
"""An operation shows nothing for so long."""
_EVERY_S: Final = 0.2
_WIDTH_PX, _WIDTH = 260, 24


def shell() -> Any:
    """The IPython shell of this process; None outside IPython."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


@contextmanager
def shown_progress(label: str) -> Iterator[OnProgress | None]:
    """A bar for an operation, or None outside IPython.

    It appears after `SILENT_S`, is drawn at most five times a second, and remains with the total
    when the operation ends, or says that it failed or was interrupted.

    Args:
        label: what is done, such as "pushing".
    """
    here = shell()
    if here is None:
        yield None
        return
    bar = _NotebookBar(label) if hasattr(here, "kernel") else _TerminalBar(label)
    try:
        yield bar
    except Exception:
        bar.end("failed")
        raise
    except BaseException:
        bar.end("interrupted; run it again to resume")
        raise
    bar.end("")


class _Bar:
    """Decides when to draw; subclasses draw. If that fails, nothing is drawn any more."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._is_broken = False
        self._start_s = self._drawn_s = time.monotonic()
        self._is_shown = False
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        now_s = time.monotonic()
        if now_s - self._start_s >= SILENT_S and now_s - self._drawn_s >= _EVERY_S:
            self._drawn_s, self._is_shown = now_s, True
            self._try_to_draw(progress, self._rest_s(progress, now_s), "")

    def _rest_s(self, progress: Progress, now_s: float) -> float | None:
        share = _share(progress)
        return None if not share else (now_s - self._start_s) * (1 - share) / share

    def end(self, why: str) -> None:
        """Draw the last state, if anything was drawn."""
        if self._is_shown and self._last is not None:
            self._try_to_draw(
                self._last, None, why or f"done in {_duration(time.monotonic() - self._start_s)}"
            )

    def _try_to_draw(self, progress: Progress, rest_s: float | None, end: str) -> None:
        """Draw; the operation continues if its terminal or notebook is gone."""
        if not self._is_broken:
            try:
                self.draw(progress, rest_s, end)
            except Exception:  # noqa: BLE001 - whatever a display raises
                self._is_broken = True

    def draw(self, progress: Progress, rest_s: float | None, end: str) -> None:
        """Draw a state.

        Args:
            progress: the state.
            rest_s: the time that is left, in seconds, if known.
            end: how it ended; empty while it runs.
        """
        raise NotImplementedError


class _NotebookBar(_Bar):
    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._handle: Any = None

    def draw(self, progress: Progress, rest_s: float | None, end: str) -> None:
        from IPython import display as notebook

        shows: Any = notebook  # published without types
        picture = shows.HTML(bar_html(self.label, progress, rest_s, end))
        if self._handle is None:
            self._handle = shows.display(picture, display_id=True)
        else:
            self._handle.update(picture)


class _TerminalBar(_Bar):
    def draw(self, progress: Progress, rest_s: float | None, end: str) -> None:
        share = _share(progress)
        full = round(_WIDTH * (share or 0))
        bar = "█" * full + "·" * (_WIDTH - full)
        line = f"{self.label} {bar} {_counts(progress)}{_after(rest_s, end)}"
        ends = "\n" if end else ""
        sys.stderr.write(f"\r\x1b[K{escaped_line(line)}{ends}")
        sys.stderr.flush()


def bar_html(label: str, progress: Progress, rest_s: float | None, end: str) -> str:
    """A bar as HTML: what is done, how much of how much, and how long it takes."""
    share = _share(progress)
    track = (
        f"display:inline-block;width:{_WIDTH_PX}px;height:10px;border-radius:5px;overflow:hidden"
    )
    fill = f"display:block;height:10px;width:{100 * (share or 0):.1f}%;background:{html.BLUE}"
    return html.block(
        label,
        " ",
        html.element(
            "span",
            html.element("span", html.Markup("&#8203;"), style=fill),
            style=f"{track};background:rgba(128,128,128,0.3);vertical-align:middle",
        ),
        " ",
        html.faint(f"{_counts(progress)}{_after(rest_s, end)}"),
    )


def _share(progress: Progress) -> float | None:
    """The part that is done, from 0 to 1; by bytes where their total is known."""
    if progress.total_bytes:
        return min(1.0, progress.done_bytes / progress.total_bytes)
    return min(1.0, progress.done / progress.total) if progress.total else None


def _counts(progress: Progress) -> str:
    parts = []
    if progress.unit != "bytes":
        total = "" if progress.total is None else f" of {progress.total:,}"
        parts.append(f"{progress.done:,}{total} {progress.unit}")
    if progress.total_bytes is not None or progress.done_bytes:
        total = "" if progress.total_bytes is None else f" of {html.size(progress.total_bytes)}"
        parts.append(f"{html.size(progress.done_bytes)}{total}")
    return ", ".join(parts)


def _after(rest_s: float | None, end: str) -> str:
    if end:
        return f", {end}"
    return "" if rest_s is None else f", {_duration(rest_s)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
