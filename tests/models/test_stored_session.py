"""A gc beside a stored session loses nothing, and each rule of the protocol is needed."""

from __future__ import annotations

import pytest

from tests.models.stored_session import Rules, explore
from tests.torture import TIMES

MIXES = ("WG", "WVG", "WCG", "WEG", "WCEG", "WVCG", "WCKG", "WGH")
LONG = ("WVCEG", "WCKEG", "WCEGH", "WVCGH")


@pytest.mark.parametrize("processes", MIXES)
def test_no_interleaving_loses_anything(processes: str) -> None:
    states, lost = explore(processes, Rules())
    assert lost is None
    assert states > 20


@pytest.mark.parametrize("rule", Rules._fields)
def test_without_a_rule_something_is_lost(rule: str) -> None:
    rules = Rules()._replace(**{rule: False})
    assert any(explore(processes, rules)[1] is not None for processes in MIXES)


@pytest.mark.torture
@pytest.mark.skipif(TIMES == 1, reason="takes a minute; make torture does it")
@pytest.mark.parametrize("processes", LONG)
def test_more_processes_lose_nothing_either(processes: str) -> None:
    assert explore(processes, Rules())[1] is None
