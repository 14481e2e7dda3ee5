"""The options of a place are the keywords of its backend, and who misspells one is told them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.kubo.kubo_backend import KuboBackend
from versioned_zarr.backends.lakefs.lakefs_backend import LakefsBackend
from versioned_zarr.backends.objectstore.obstore_backend import ObstoreBackend
from versioned_zarr.engine.open_options import Options, ServerOptions

PLACES: list[tuple[str, type]] = [
    ("ipfs+http://127.0.0.1:1/x", KuboBackend),
    ("ipfs+https://me:s3cret@127.0.0.1:1/x", KuboBackend),
    ("ipfs+/ip4/127.0.0.1/tcp/1/x", KuboBackend),
    ("lakefs://x", LakefsBackend),
    ("s3://x/y", ObstoreBackend),
]
CALLS: list[Callable[..., object]] = [vz.open, vz.create, vz.open_or_create]


def keywords(backend: type) -> dict[str, Any]:
    """The options of a backend with their types, None left out."""
    hints = get_type_hints(backend.__init__)
    found = {}
    for name, each in inspect.signature(backend).parameters.items():
        if each.kind is each.KEYWORD_ONLY:
            types = [one for one in get_args(hints[name]) if one is not type(None)]
            found[name] = types[0] if type(None) in get_args(hints[name]) else hints[name]
    return found


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("url", "backend"), PLACES)
def test_an_option_that_is_unknown_is_told_with_those_that_are_known(
    call: Callable[..., object], url: str, backend: type
) -> None:
    with pytest.raises(vz.InvalidInputError) as caught:
        call(url, colour="red", time_out=1)
    said = str(caught.value)
    assert "does not accept colour, time_out; it accepts" in said
    assert said.rpartition("it accepts ")[2].split(", ") == list(keywords(backend))
    assert "s3cret" not in said


def test_an_option_of_another_place_is_unknown() -> None:
    with pytest.raises(vz.InvalidInputError, match="does not accept token; it accepts endpoint"):
        vz.open("lakefs://x", token="t")
    with pytest.raises(vz.InvalidInputError, match="does not accept endpoint; it accepts headers"):
        vz.open("ipfs+http://127.0.0.1:1/x", endpoint="http://127.0.0.1:1", cache_bytes=0)


@pytest.mark.parametrize("call", CALLS)
def test_a_place_on_no_server_takes_none(call: Callable[..., object], tmp_path: Path) -> None:
    path = tmp_path / "r.vz"
    for url in (path, path.as_uri(), "memory://options"):
        with pytest.raises(
            vz.InvalidInputError, match="does not accept token; it accepts no options"
        ):
            call(url, token="t")
    assert not path.exists()


@pytest.mark.parametrize(
    ("option", "advice"),
    [("branch", "'ref' in xarray"), ("mode", "sessions write"), ("exist_ok", "'open_or_create'")],
)
def test_an_option_that_people_guess_is_answered(option: str, advice: str) -> None:
    with pytest.raises(vz.InvalidInputError, match=f"not accept {option}; it accepts .*{advice}"):
        vz.create("memory://guessed-options", **{option: "main"})


def test_a_scheme_that_is_unknown_is_told_whatever_the_options() -> None:
    with pytest.raises(vz.InvalidUrlError, match="unknown scheme 'ftp'"):
        vz.open("ftp://127.0.0.1/x", token="t")


def test_each_option_has_one_type_and_a_line_that_says_what_it_is() -> None:
    known: dict[str, Any] = {}
    for _, backend in PLACES:
        for name, kind in keywords(backend).items():
            assert known.setdefault(name, kind) == kind
    known["shared"] = bool  # of a folder: it chooses the backend
    assert known == get_type_hints(Options)
    described = f"{inspect.getdoc(ServerOptions)}\n{inspect.getdoc(Options)}"
    assert all(f"    {name}: " in described for name in known)
