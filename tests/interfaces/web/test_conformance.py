"""`vz serve` before the suite gateway-conformance: what fails there is known, and why.

The suite's own tests of the path and the trustless gateway are run against a repository in a folder
and one on a Kubo node. A failure that the tables below do not name fails here, and so does one that
they name and that is none.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("click")

import versioned_zarr as vz
from tests.interfaces.web.served import serving_by_command
from tests.servers.conformance import Outcome, Suite, owner, read
from versioned_zarr.errors import InvalidCidError

pytestmark = [pytest.mark.compat, pytest.mark.slow]

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "serve.md"


class Expected(NamedTuple):
    """Failures that are meant to be.

    Attributes:
        pattern: matches the names of checks; of each test that has such checks, one fails.
        reason: why, as the guide words it.
    """

    pattern: str
    reason: str


IPNS = "`/ipns`, IPNS records"
CODECS = "DAG-JSON, DAG-CBOR"
PAGES = "`index.html`"
NAMES = "`..` in a name"
RANGES = "several ranges at once"
LOOKS = "the HTML of Kubo's own list"
REFUSED = "a CAR that `import_car` refuses"

EVERYWHERE = [
    Expected("TestGatewayCacheWithIPNS/*", IPNS),
    Expected("TestGatewayIPNSPath/*_succeeds*", IPNS),
    Expected("TestGatewayIPNSRecord/*", IPNS),
    Expected("TestGatewayIPNSRecordWithSubpath/*", IPNS),
    Expected("TestGatewayJSONCborAndIPNS/*", IPNS),
    Expected("TestRedirectCanonicalIPNS/*", IPNS),
    Expected("TestNativeDag/Cache_control_*", CODECS),
    Expected("TestNativeDag/GET_*", CODECS),
    Expected("TestNativeDag/HEAD_*_explicit_format_*", CODECS),
    Expected("TestPathing/*", CODECS),
    Expected("TestPlainCodec/*", CODECS),
    Expected("TestTrustlessCarPathing/*_DAG-CBOR_as_root_*", CODECS),
    # Listed as any directory is, not sent as the page in it: so it has a list's headers.
    Expected("TestGatewayCache/*_dir_with_index.html_succeeds/Header_Cache-Control", PAGES),
    Expected("TestGatewayCache/*_dir_with_index.html_succeeds/Header_Etag", PAGES),
    # A name that holds a way out of the directory, even if it comes back in.
    Expected("TestTar/*_relative_paths_inside_root_*", NAMES),
    # The whole value is an answer that RFC 9110, 14.2 allows.
    Expected("TestGatewayUnixFSFileRanges/*_multiple_range_request_*", RANGES),
    # Classes, absolute links, and a name of a file that is encoded twice, which would be saved so.
    Expected("TestUnixFSDirectoryListing/*_dir_listing_HTML_response_*/Body", LOOKS),
]
IN_A_FOLDER = [
    *EVERYWHERE,
    Expected("TestGatewaySymlink/*", REFUSED),  # symlink.car
    Expected("TestGatewayUnixFSFileRanges/*_missing_a_block_*", REFUSED),  # …-missing-block.car
    Expected("TestTrustlessCarEntityBytes/*_missing_a_block_*", REFUSED),
    Expected("TestTrustlessCarDagScopeEntity/*_DAG-CBOR_with_Links_*", REFUSED),
]
EXPECTED = {"on a node": EVERYWHERE, "in a folder": IN_A_FOLDER}

CARS_REFUSED = {
    "path_gateway_dag/dag-cbor-traversal.car": "a CID of another kind",
    "path_gateway_dag/dag-json-traversal.car": "a CID of another kind",
    "path_gateway_dag/plain-cbor-that-can-be-dag-cbor.car": "a CID of another kind",
    "path_gateway_dag/plain-cbor-that-can-be-dag-json.car": "a CID of another kind",
    "path_gateway_dag/plain-cbor.car": "a CID of another kind",
    "path_gateway_dag/plain-json.car": "a CID of another kind",
    "path_gateway_unixfs/symlink.car": "in a CIDv0",
    "redirects_file/redirects.car": "in a CIDv0",
    "subdomain_gateway/fixtures.car": "in a CIDv0",
    "trustless_gateway_car/dir-with-dag-cbor-with-links.car": "a CID of another kind",
    "trustless_gateway_car/file-3k-and-3-blocks-missing-block.car": "in a CIDv0",
}


def differences(found: Outcome, expected: Sequence[Expected]) -> list[str]:
    """What failed and is not expected, and what is expected and did not fail."""
    told = [
        f"fails: {check}{found.excerpt(check)}"
        for check in sorted(found.failures)
        if not any(fnmatchcase(check, each.pattern) for each in expected)
    ]
    for pattern, _ in expected:
        of_test = "/".join(pattern.split("/")[:2])
        named = {name for name in found.tests if fnmatchcase(name, of_test)}
        failing = {owner(check) for check in found.failures if fnmatchcase(check, pattern)}
        told += [f"passes, and is expected to fail: {name}" for name in sorted(named - failing)]
        if not named:
            told.append(f"no test is called {of_test}")
    return told


def counted(found: Outcome, expected: Sequence[Expected]) -> dict[str, int]:
    """How many tests pass, and how many fail for each reason."""
    counts = Counter({each.reason: 0 for each in expected})
    for name in {owner(check) for check in found.failures}:
        counts[next(each.reason for each in expected if _is_of(name, each))] += 1
    return {"pass": sum(found.tests.values()), **counts}


def _is_of(name: str, expected: Expected) -> bool:
    return fnmatchcase(name, "/".join(expected.pattern.split("/")[:2]))


def imported(suite: Suite, url: str) -> None:
    """Make a repository in a folder with the fixtures that it takes."""
    repository = vz.create(url)
    refused = {}
    for name, car in suite.cars().items():
        try:
            repository.import_car(car)
        except InvalidCidError as error:
            refused[name] = str(error)
    assert refused.keys() == CARS_REFUSED.keys()
    assert all(why in refused[name] for name, why in CARS_REFUSED.items())


@pytest.fixture(scope="module", params=EXPECTED)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def outcome(
    place: str,
    conformance: Suite,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """How the suite ends for a repository at the place."""
    folder = tmp_path_factory.mktemp("conformance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERSIONED_ZARR_HOME", str(folder / "home"))
        if place == "in a folder":
            url = str(folder / "r.vz")
            imported(conformance, url)
        else:
            node = request.getfixturevalue("node")
            url = f"{node.url}/{uuid.uuid4()}"
            vz.create(url)
            for car in conformance.cars().values():
                node.ipfs("dag", "import", "--pin-roots=false", str(car))
        with serving_by_command(url, folder, "--cors", "*") as address:
            found = conformance.run(address)
    return found


def test_what_fails_is_what_is_meant_to(outcome: Outcome, place: str) -> None:
    told = differences(outcome, EXPECTED[place])
    assert not told, "\n".join(told)


def test_the_guide_says_how_many_pass_and_why_others_do_not(outcome: Outcome, place: str) -> None:
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    column = list(EXPECTED).index(place)
    told = {words: int(numbers[column]) for words, *numbers in rows}
    assert told == {REFUSED: 0, **counted(outcome, EXPECTED[place]), "all": len(outcome.tests)}


SAID = """\
\x16--- PASS: TestA/one/Status_code (0.00s)
\x16--- FAIL: TestA/one/Body (0.00s)
\x16--- FAIL: TestA/one (0.00s)
\x16--- PASS: TestA/two/Body (0.00s)
\x16--- FAIL: TestA/two (0.00s)
    --- FAIL: TestA/told (0.00s)
\x16--- SKIP: TestA/three (0.00s)
\x16--- PASS: TestA/four (0.00s)
\x16--- FAIL: TestA (0.00s)
"""


def test_what_the_suite_says_is_read() -> None:
    found = read(SAID)
    assert found.tests == {"TestA/one": False, "TestA/two": False, "TestA/four": True}
    assert found.failures == {"TestA/one/Body", "TestA/two"}
    one, two = Expected("TestA/one/Body", "1"), Expected("TestA/two*", "2")
    assert differences(found, [one, two]) == []
    assert counted(found, [one, two]) == {"pass": 1, "1": 1, "2": 1}
    assert differences(found, [one]) == ["fails: TestA/two"]
    (told,) = differences(found, [one, two, Expected("TestA/four", "3")])
    assert told == "passes, and is expected to fail: TestA/four"
    assert differences(found, [one, two, Expected("TestB/*", "3")]) == ["no test is called TestB/*"]
    assert differences(found, [two, Expected("TestA/one/Status_code", "1")]) == [
        "fails: TestA/one/Body",
        "passes, and is expected to fail: TestA/one",
    ]
