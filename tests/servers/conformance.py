"""The suite gateway-conformance: its fixtures, and which of its tests a gateway passes.

Knows how the built suite is called and what it prints; what should pass is the test's business.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.programs import find_program, missing

VERSION = "0.13.2"
SPECS = "path-gateway,trustless-gateway"
_SHOWN_CHARACTERS = 4000
# Only a line that begins with this control character is the framework's own (go tool test2json).
_RESULT = re.compile(r"^\x16--- (PASS|FAIL|SKIP): (\S+) \(", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        tests: whether each test that ran passed, by `Function/test`. Skipped ones are left out.
        failures: the checks that failed, as `Function/test/check`, or the test itself where none of
            its checks failed alone.
        said: all that the suite printed.
    """

    tests: Mapping[str, bool]
    failures: frozenset[str]
    said: str = field(repr=False)

    def excerpt(self, check: str) -> str:
        """What the suite printed of a check: the request, the answer, and what was wanted."""
        _, _, after = self.said.partition(f"=== RUN   {check}\n")
        return after.partition("\x16---")[0][:_SHOWN_CHARACTERS]


@dataclass(frozen=True)
class Suite:
    """The built suite.

    Attributes:
        binary: the program; its fixtures lie beside it.
    """

    binary: Path

    def cars(self) -> dict[str, Path]:
        """The CAR files that a gateway should serve, by their paths among the fixtures."""
        fixtures = self.binary.with_name("fixtures")
        return {str(car.relative_to(fixtures)): car for car in sorted(fixtures.rglob("*.car"))}

    def run(self, gateway: str) -> Outcome:
        """Test the gateway at a URL.

        Raises:
            RuntimeError: the suite did not come to its end.
        """
        done = subprocess.run(
            [self.binary, "-test.v=test2json", f"-specs={SPECS}"],
            cwd=self.binary.parent,
            env={"GATEWAY_URL": gateway, "GATEWAY_CONFORMANCE_HOME": str(self.binary.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=500,
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"the suite broke off: {done.stdout[-4000:]}")
        return read(done.stdout)


def read(said: str) -> Outcome:
    """Read what the suite printed."""
    verdicts = {name: verdict for verdict, name in _RESULT.findall(said)}
    failed = {name for name, verdict in verdicts.items() if verdict == "FAIL"}
    above = {name.rpartition("/")[0] for name in failed}
    tests = {
        name: verdict == "PASS"
        for name, verdict in verdicts.items()
        if name.count("/") == 1 and verdict != "SKIP"
    }
    return Outcome(tests, frozenset(failed - above), said)


def owner(check: str) -> str:
    """The test that a check belongs to."""
    return "/".join(check.split("/")[:2])


@pytest.fixture(scope="session")
def conformance() -> Suite:
    """The built suite; without it, or where its download was refused, the test is skipped."""
    folder = f"gateway-conformance-{VERSION}"
    binary = find_program("VERSIONED_ZARR_CONFORMANCE", folder, "gateway-conformance")
    if not binary.is_file():
        missing(f"no gateway-conformance at {binary}", binary.with_name("refused"))
    return Suite(binary)
