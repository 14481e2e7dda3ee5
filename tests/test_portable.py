"""Only the modules for POSIX use what Windows lacks; without it all else works.

What Windows lacks is taken from the package, in processes of their own: `without_posix`.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layers import MODULES, NAME, ROOT, imported, nodes
from tests.without_posix import MODULES as POSIX_MODULES
from tests.without_posix import NAMES

POSIX = {f"{NAME}.backends.local.posix", f"{NAME}.interfaces.files.descriptor_folder"}
"""The modules that a system without what they use does not import."""
GUARDED = {
    (f"{NAME}.backends.local.state_dir", "os.getuid"),
    (f"{NAME}.blocks.file_reader", "os.sysconf"),
    (f"{NAME}.fork_local", "os.register_at_fork"),
    (f"{NAME}.history.commit_object", "os.getuid"),
}
"""What is used behind a `hasattr`."""
OPTIONAL = {"aiohttp", "blake3", "click", "cryptography", "dask", "httpx", "lakefs_sdk"} | {
    *("multiformats", "rich", "starlette", "uvicorn", "xarray", "yaml", "ipykernel"),
}


def run(script: str, *arguments: str, has_msvcrt: bool = True) -> str:
    """What a script prints in a process whose package has no POSIX."""
    start = f"from tests.without_posix import install; install(has_msvcrt={has_msvcrt})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + script, *arguments],
        check=False,
        cwd=ROOT.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


def used(module: str) -> set[str]:
    """The POSIX-only modules and names of modules that a module of the package uses."""
    names = imported(module)
    dotted = {
        f"{names[node.value.id]}.{node.attr}"
        for node in nodes(module)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    }
    found = {*names.values(), *dotted}
    return {
        name
        for name in found
        if (parts := name.split("."))[0] in POSIX_MODULES
        or (len(parts) > 1 and parts[1] in NAMES.get(parts[0], ()))
    }


def test_only_the_modules_for_posix_name_what_windows_lacks() -> None:
    found = {(module, name) for module in MODULES for name in used(module)}
    assert {pair for pair in found if pair[0] not in POSIX} == GUARDED
    assert {module for module, _ in found} >= POSIX


def test_what_is_not_on_every_system_is_asked_for_first() -> None:
    for module, name in GUARDED:
        asked = [
            ast.unparse(node)
            for node in nodes(module)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr"
        ]
        assert f"hasattr(os, '{name.partition('.')[2]}')" in asked


@pytest.mark.slow
def test_the_types_of_windows_have_all_that_other_modules_use(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    command = ("-m", "mypy", "--platform=win32", f"--cache-dir={tmp_path}", NAME)
    done = subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=500,
    )
    wrong = re.findall(r"^(\S+?)\.py:\d+: error: (.*)", done.stdout, re.MULTILINE)
    assert {path.replace("/", ".") for path, _ in wrong} == POSIX, done.stdout + done.stderr


@pytest.mark.parametrize("has_msvcrt", [True, False])
def test_all_other_modules_are_imported(has_msvcrt: bool) -> None:
    script = """if True:
        import importlib, sys
        for module in sys.argv[1:]:
            try:
                importlib.import_module(module)
            except (AttributeError, ImportError) as error:
                print(module, (error.name or "").partition(".")[0])
    """
    modules = [module for module in MODULES if not module.endswith(".__main__")]
    lines = run(script, *modules, has_msvcrt=has_msvcrt).splitlines()
    failed = dict(line.split() for line in lines)
    assert {failed.pop(module) for module in POSIX} == {"O_DIRECTORY", "fcntl"}
    if not has_msvcrt:
        assert failed.pop(f"{NAME}.backends.local.windows") in {"_winapi", "msvcrt"}
    assert {name for name in failed.values() if name not in OPTIONAL} == set()


def test_without_locks_a_folder_is_read_and_memory_is_written(tmp_path: Path) -> None:
    import versioned_zarr as vz

    with vz.create(tmp_path / "r.vz").session(message="x") as session:
        session.write("a", b"1" * 3_000_000)
    script = """if True:
        import sys
        import versioned_zarr as vz
        from versioned_zarr.backends.local import system
        folder, memory = vz.open(sys.argv[1]), vz.create("memory://r")
        assert folder.checkout().read("a") == b"1" * 3_000_000
        try:
            folder.session().write("b", b"2")
        except vz.StorageError as error:
            assert "no file locks" in str(error), error
        else:
            raise AssertionError("written without a lock")
        with memory.session(message="y") as session:
            session.write("b", b"2")
        assert memory.checkout().read("b") == b"2"
        assert "@" in memory.branches["main"].author
        print(system.lock.__module__)
    """
    lines = run(script, str(tmp_path / "r.vz"), has_msvcrt=False).split()
    assert lines == [f"{NAME}.backends.local.plain"]


def test_what_was_written_on_windows_is_read_here_and_the_reverse(tmp_path: Path) -> None:
    import versioned_zarr as vz

    value = os.urandom(5_000_000)
    with vz.create(tmp_path / "r.vz").session(message="here") as session:
        session.write("here", value)
    script = """if True:
        import sys
        import versioned_zarr as vz
        repository = vz.open(sys.argv[1])
        snapshot = repository.checkout()
        with repository.session(message="there") as session:
            session.write("there/value", snapshot.read("here"))
        repository.checkout().to_folder(sys.argv[2])
        for _ in range(2):  # the second replaces the first
            repository.export_car("main", sys.argv[3])
        print(vz.cid_of_folder(sys.argv[2]), repository.fsck().is_clean)
        session = repository.session()  # left open
        session.write("left", b"1")
    """
    out = tmp_path / "out"
    cid, is_clean = run(script, str(tmp_path / "r.vz"), str(out), str(tmp_path / "x.car")).split()
    assert is_clean == "True"
    repository = vz.open(tmp_path / "r.vz")
    assert bytes(repository.checkout().read("there/value")) == value
    assert repository.checkout().cid == cid
    assert (out / "there" / "value").read_bytes() == value
    assert repository.fsck().is_clean


LOCKER = """if True:
    import sys, time
    from versioned_zarr.backends.local import LocalStorage
    with LocalStorage(sys.argv[1]).lock("name", shared=sys.argv[2] == "shared") as is_held:
        print(is_held, flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_a_lock_of_windows_holds_between_processes_and_ends_with_them(
    tmp_path: Path, kind: str
) -> None:
    start = "from tests.without_posix import install; install()\n"
    with subprocess.Popen(
        [sys.executable, "-c", start + LOCKER, str(tmp_path), kind],
        cwd=ROOT.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        look = """if True:
            import sys
            from versioned_zarr.backends.local import LocalStorage
            storage = LocalStorage(sys.argv[1])
            for shared in (True, False):
                with storage.lock("name", shared=shared, wait=False) as is_held:
                    print(is_held)
        """
        expected = ["True" if kind == "shared" else "False", "False"]
        assert run(look, str(tmp_path)).split() == expected
        holder.kill()
        holder.wait()
        assert run(look, str(tmp_path)).split() == ["True", "True"]


def test_appends_of_many_processes_are_not_mixed_on_windows(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from versioned_zarr.backends.local import LocalStorage
        log = LocalStorage(sys.argv[1]).open_log("log", create=True)
        record = sys.argv[2].encode() * 1000
        for _ in range(300):
            end = log.append(record)
            assert log.read(end - 1000, end) == record
    """
    start = "from tests.without_posix import install; install()\n"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", start + script, str(tmp_path), letter], cwd=ROOT.parent
        )
        for letter in "abc"
    ]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    text = (tmp_path / "log").read_bytes()
    pieces = [text[at : at + 1000] for at in range(0, len(text), 1000)]
    assert len(pieces) == 900
    assert all(len(set(piece)) == 1 for piece in pieces)


SUITES = {
    "memory": ("backends/test_contracts.py", "-k", "Memory"),
    "folder": ("backends/test_contracts.py", "-k", "Folder"),
    # Which files cannot be mapped is no question, nor whether a process of a number lives.
    "errors": ("backends/test_local.py", "-k", "not mapped"),
    "exports": ("interfaces/test_transfer.py", "-k", "not killed_export"),
    "object stores": ("backends/objectstore/test_object_store_contracts.py", "-k", "Memory"),
    "shared folders": (
        "backends/sharedfolder/test_shared_folder_contracts.py",
        "-k",
        "not WithoutLinks",
    ),
    "Kubo": ("backends/test_kubo_contracts.py",),
    "lakeFS": ("backends/test_lakefs_contracts.py",),
}
MARKS = {"memory": (), "Kubo": pytest.mark.compat, "lakeFS": pytest.mark.compat}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in SUITES]
)
def test_contracts_are_kept(name: str, tmp_path: Path) -> None:
    script = """if True:
        import pytest, sys
        code = pytest.main(sys.argv[1:])
        from versioned_zarr.backends.local import system
        assert system.lock.__module__ == "versioned_zarr.backends.local.windows"
        sys.exit(code)
    """
    tests = [f"tests/{each}" if each.endswith(".py") else each for each in SUITES[name]]
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={tmp_path / 'in'}")
    said = run(script, *options, *tests)
    if " passed" not in said:
        pytest.skip(said[-500:])
