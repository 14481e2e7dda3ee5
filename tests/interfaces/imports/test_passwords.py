"""No import tells a password: neither its message nor what caused it."""

from __future__ import annotations

import socket
import traceback
import uuid
from collections.abc import Iterator

import pytest

import versioned_zarr as vz


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a server that does not answer, with a user and a password."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens
        yield f"http://ada:hunter2@127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("name", ["x.tif", "x.nc", "x.grib", "x.n5", "x.zip", "x", "[::1/x"])
@pytest.mark.parametrize("format_name", [None, "netcdf", "n5", "grib", "zarr"])
def test_no_import_tells_a_password(nobody: str, name: str, format_name: str | None) -> None:
    pytest.importorskip("cfgrib")
    repository = vz.create(f"memory://passwords-{uuid.uuid4()}")
    url = f"{nobody}/{name}" if name[0] != "[" else f"http://ada:hunter2@{name}"
    with pytest.raises(vz.VersionedZarrError) as caught:
        vz.import_from(repository, url, format=format_name)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value.__cause__))
    assert "hunter2" not in str(caught.value)
    shown = traceback.TracebackException.from_exception(caught.value)
    assert "hunter2" not in "".join(shown.format_exception_only())
    for each in (shown.__cause__, None if shown.__suppress_context__ else shown.__context__):
        assert each is None or "hunter2" not in "".join(each.format())
