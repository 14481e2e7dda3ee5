"""What every repository keeps, through a proxy that now and then loses or cuts an answer."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import versioned_zarr as vz
from tests.backends.test_kubo_contracts import TestKuboRepository as KuboSuite
from tests.backends.test_lakefs_concurrency import check_a_storm, check_the_accounts
from tests.backends.test_lakefs_contracts import TestLakefsRepository as LakefsSuite
from tests.properties.test_version_control import OnKubo, OnLakefs
from tests.servers.daemon import Daemon
from tests.servers.fickle import Fickle, fickle, now_and_then
from tests.servers.lakefs import LakefsServer
from tests.torture import SEED, TIMES
from versioned_zarr.repository.repository import Repository

pytestmark = [pytest.mark.compat, pytest.mark.torture]

LOSSES = ("lost before", "lost after", "cut")
ONE_IN = 12


@pytest.fixture
def lossy_node(node: Daemon) -> Iterator[Fickle]:
    with fickle(node.rpc) as between:
        between.begin(now_and_then(LOSSES, ONE_IN, SEED))
        yield between


@pytest.fixture
def lossy_lakefs(lakefs: LakefsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fickle]:
    """Such a one is what clients find in the environment."""
    with fickle(lakefs.endpoint) as between:
        between.begin(now_and_then(LOSSES, ONE_IN, SEED))
        monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", between.url)
        monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", lakefs.access_key_id)
        monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", lakefs.secret_access_key)
        yield between


@pytest.fixture(params=["Kubo", "lakeFS"])
def lossy_url(request: pytest.FixtureRequest) -> str:
    """A place on each of them."""
    if request.param == "Kubo":
        return f"ipfs+{request.getfixturevalue('lossy_node').url}/{uuid.uuid4()}"
    request.getfixturevalue("lossy_lakefs")
    return f"lakefs://lossy-{uuid.uuid4().hex}"


class TestKuboThatLosesAnswers(KuboSuite):
    @pytest.fixture
    def url(self, lossy_node: Fickle) -> str:
        return f"ipfs+{lossy_node.url}/{uuid.uuid4()}"


class TestLakefsThatLosesAnswers(LakefsSuite):
    @pytest.fixture
    def repository(self, lossy_lakefs: Fickle) -> Repository:
        return vz.create(f"lakefs://lossy-{uuid.uuid4().hex}")

    @pytest.fixture
    def reopen(self, lossy_lakefs: Fickle, repository: Repository) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return vz.open(repository.url, verify="always")

        return reopen


def machine_settings() -> settings:
    return settings(
        max_examples=4 * TIMES,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_repository_on_a_node_is_the_model(
    lossy_node: Fickle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Machine(OnKubo):
        rpc = lossy_node.url

    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path))
    run_state_machine_as_test(Machine, settings=machine_settings())


@pytest.mark.usefixtures("lossy_lakefs")
def test_the_repository_on_lakefs_is_the_model() -> None:
    run_state_machine_as_test(OnLakefs, settings=machine_settings())


def test_no_acknowledged_commit_is_lost_in_a_storm(lossy_url: str, tmp_path: Path) -> None:
    check_a_storm(vz.create(lossy_url), tmp_path, machines=3, commits=5)


def test_the_sum_of_all_accounts_never_changes(lossy_url: str, tmp_path: Path) -> None:
    check_the_accounts(vz.create(lossy_url), tmp_path, machines=3, transfers=4)
