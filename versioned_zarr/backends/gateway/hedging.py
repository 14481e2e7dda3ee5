"""Hedged requests: the order of gateways, and when a second one is asked.

Independent of blocks: an errand is a function that queries one gateway and raises its error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeAlias

from versioned_zarr.backends.gateway.client import (
    AbsentError,
    Gateway,
    GatewayError,
    StoppedError,
)
from versioned_zarr.backends.gateway.defaults import GATEWAYS_VARIABLE, HEDGE_S
from versioned_zarr.errors import BlockNotFoundError, StorageError

_TRIES = 4
_LONGEST_NAP_S = 0.5


class Attempt:
    """An errand at one gateway.

    Attributes:
        gateway: the gateway.
        stop: set when another gateway was faster.
        has_begun: whether it has returned a valid block.
        error: why it failed; None while it runs or if it succeeded.
        is_done: whether it has ended.
    """

    def __init__(self, gateway: Gateway, said: SimpleQueue[Attempt]) -> None:
        self.gateway = gateway
        self.stop = threading.Event()
        self.has_begun = self.is_done = False
        self.error: BaseException | None = None
        self._said = said

    def begin(self) -> None:
        """Record that a first valid block has arrived."""
        if not self.has_begun:
            self.has_begun = True
            self._said.put(self)

    def run(self, errand: Errand) -> None:
        """Run the errand to its end."""
        try:
            errand(self)
        except BaseException as error:  # noqa: BLE001 - raised again by waiting threads
            self.error = error
        self.is_done = True
        self._said.put(self)


Errand: TypeAlias = Callable[[Attempt], None]


class Gateways:
    """Gateways that serve the same blocks. Thread-safe.

    Args:
        urls: their base URLs, in order of preference.
        timeout_s: how long a gateway may be silent, and how long to wait if all ask for a delay,
            in seconds.
        hedge_s: see `HEDGE_S`.
    """

    def __init__(self, urls: Sequence[str], timeout_s: float, hedge_s: float = HEDGE_S) -> None:
        self.all = tuple(Gateway(url, timeout_s) for url in urls)
        self._timeout_s, self._hedge_s = timeout_s, hedge_s
        self._preferred = self.all[0]

    def __repr__(self) -> str:
        return f"Gateways({[gateway.name for gateway in self.all]})"

    def ask(self, errand: Errand, text: str) -> None:
        """Run an errand at one gateway, and at another if that one is slow or fails.

        Args:
            errand: the function, which raises a GatewayError on failure; may run in parallel.
            text: the CID that is requested.

        Raises:
            BlockNotFoundError: every gateway says that it does not have it.
            StorageError: all failed; the message lists the error of each gateway.
        """
        _Race(self, errand, text, time.monotonic() + self._timeout_s).run()

    def ranked(self, others: Sequence[Gateway]) -> list[Gateway]:
        """The gateways in the order in which they are used."""
        now = time.monotonic()
        return sorted(
            others,
            key=lambda each: (max(0.0, each.aside_until - now), each is not self._preferred),
        )

    def prefer(self, gateway: Gateway) -> None:
        """Prefer this gateway from now on."""
        self._preferred = gateway

    @property
    def hedge_s(self) -> float:
        """The number of seconds without a first block after which another gateway is asked, too."""
        return self._hedge_s


class _Race:
    """One errand, until one gateway has completed it."""

    def __init__(self, gateways: Gateways, errand: Errand, text: str, deadline: float) -> None:
        self._gateways, self._errand, self._text = gateways, errand, text
        self._deadline = deadline
        self._said: SimpleQueue[Attempt] = SimpleQueue()
        self._running: list[Attempt] = []
        self._left = dict.fromkeys(gateways.all, _TRIES)
        self._reasons: dict[Gateway, GatewayError] = {}

    def run(self) -> None:
        try:
            while True:
                if not any(attempt.has_begun for attempt in self._running):
                    self._start_next()
                if not self._running:
                    raise self._failure()
                attempt = self._hear()
                if attempt is None:
                    continue
                if not attempt.is_done:
                    self._stop_others(attempt)
                    self._gateways.prefer(attempt.gateway)
                elif self._is_won(attempt):
                    return
        finally:
            for attempt in self._running:
                attempt.stop.set()

    def _start_next(self) -> None:
        gateway = self._next()
        if gateway is None:
            return
        if not self._running:
            self._wait_for(gateway)
        self._left[gateway] -= 1
        attempt = Attempt(gateway, self._said)
        self._running.append(attempt)
        if len(self._gateways.all) == 1:
            attempt.run(self._errand)  # no other gateway
        else:
            threading.Thread(
                target=attempt.run, args=(self._errand,), daemon=True, name="gateway"
            ).start()

    def _next(self) -> Gateway | None:
        busy = {attempt.gateway for attempt in self._running}
        left = [each for each, tries in self._left.items() if tries and each not in busy]
        now = time.monotonic()
        for gateway in self._gateways.ranked(left):
            if gateway.aside_until <= now:
                return gateway
            if not busy and not (gateway.must_wait and gateway.aside_until > self._deadline):
                return gateway
            if not busy:
                pause_s = gateway.aside_until - now
                self._reasons.setdefault(
                    gateway, GatewayError(f"asked for no requests for {pause_s:.0f} more seconds")
                )
        return None

    def _wait_for(self, gateway: Gateway) -> None:
        while gateway.must_wait and (left_s := gateway.aside_until - time.monotonic()) > 0:
            time.sleep(min(left_s, _LONGEST_NAP_S))

    def _hear(self) -> Attempt | None:
        """The next attempt that reports something; None if it is time to ask another gateway."""
        has_begun = any(attempt.has_begun for attempt in self._running)
        try:
            may_ask_more = not has_begun and self._next() is not None
            return self._said.get(timeout=self._gateways.hedge_s if may_ask_more else None)
        except Empty:
            return None

    def _stop_others(self, first: Attempt) -> None:
        for attempt in self._running:
            if attempt is not first and not attempt.has_begun:
                attempt.stop.set()

    def _is_won(self, attempt: Attempt) -> bool:
        if attempt not in self._running:
            return False
        self._running.remove(attempt)
        gateway, error = attempt.gateway, attempt.error
        if error is None:
            gateway.did_well()
            self._gateways.prefer(gateway)
            return True
        if isinstance(error, StoppedError):
            self._left[gateway] += 1
        elif isinstance(error, GatewayError):
            gateway.did_badly(error)
            self._reasons[gateway] = error
            if not error.may_pass:
                self._left[gateway] = 0
        else:
            raise error
        return False

    def _failure(self) -> StorageError | BlockNotFoundError:
        reasons = "; ".join(
            f"{gateway.name} {self._reasons[gateway]}"
            if gateway in self._reasons
            else f"{gateway.name} was not asked"
            for gateway in self._gateways.all
        )
        where = ", ".join(gateway.name for gateway in self._gateways.all)
        told = f"pass gateways= or set ${GATEWAYS_VARIABLE} to try other gateways"
        if all(isinstance(reason, AbsentError) for reason in self._reasons.values()):
            return BlockNotFoundError(
                f"no gateway has block {self._text}: {reasons}; {told}, or start sharing it",
                cid=self._text,
            )
        return StorageError(
            f"no gateway returned block {self._text}: {reasons}; {told}",
            where=where,
        )
