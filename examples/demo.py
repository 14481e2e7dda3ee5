"""Two climate scenarios in one repository: commit, branch, merge, diff, check out by hash.

The data is two model runs of the Met Office from iris-sample-data: the air temperature over North
America from 1860 to 2099, under the scenarios A1B and E1 (low emissions). Up to 1999, both runs are
the same, so the repository stores those years once.

The output goes to the folder `demo-output`, which is recreated each time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import iris_sample_data
import matplotlib as mpl
import numpy as np
import xarray as xr

import versioned_zarr as vz

mpl.use("agg")
import matplotlib.pyplot as plt

OUTPUT = Path("demo-output")
REPOSITORY, EXPORT, PICTURE = OUTPUT / "climate.vz", OUTPUT / "e1.zarr", OUTPUT / "diff.png"
YEARS_PER_CHUNK = 20
COLOURS = {"A1B": "#c8553d", "E1": "#2a7f9e"}


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a title, and how long the step took."""
    print(f"\n{title}\n{'-' * len(title)}")
    started = time.perf_counter()
    yield
    print(f"({(time.perf_counter() - started) * 1000:.0f} ms)")


def load(scenario: str) -> xr.Dataset:
    """Load one scenario, with chunks of twenty years."""
    path = Path(iris_sample_data.path, f"{scenario}_north_america.nc")
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    with xr.open_dataset(path, decode_times=times, decode_timedelta=True) as opened:
        dataset = opened.load()
    for variable in dataset.variables.values():
        # netCDF's settings for chunks and compression do not apply to Zarr.
        kept = ("units", "calendar", "dtype", "coordinates")
        variable.encoding = {k: v for k, v in variable.encoding.items() if k in kept}
    temperature = dataset.air_temperature
    temperature.encoding["chunks"] = (YEARS_PER_CHUNK, *temperature.shape[1:])
    return dataset


def write(dataset: xr.Dataset, session: vz.Session) -> None:
    """Write a whole Dataset into a session."""
    dataset.to_zarr(session.store, mode="w")


def size_of(folder: Path) -> float:
    """The total size of a folder in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def yearly_means(dataset: xr.Dataset) -> xr.DataArray:
    """The area-weighted mean in °C."""
    weights = np.cos(np.deg2rad(dataset.latitude))
    return dataset.air_temperature.weighted(weights).mean(("latitude", "longitude")) - 273.15


def draw(a1b: xr.Dataset, e1: xr.Dataset, node: vz.NodeDiff) -> None:
    """The difference in three pictures: where, when, and which chunks it is kept in."""
    figure = plt.figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))

    last = slice(-YEARS_PER_CHUNK, None)
    gap = (e1.air_temperature - a1b.air_temperature).isel(time=last).mean("time")
    axes = left.subplots()
    mesh = axes.pcolormesh(
        gap.longitude - 360, gap.latitude, gap, cmap="viridis", shading="nearest"
    )
    axes.set(title="E1 minus A1B, mean of 2080-2099", xlabel="longitude", ylabel="latitude")
    axes.set_aspect(1.4)
    left.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.9, label="K")

    years = np.array([moment.year for moment in a1b.time.values])
    top, bottom = right.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    for name, dataset in (("A1B", a1b), ("E1", e1)):
        top.plot(years, yearly_means(dataset), color=COLOURS[name], label=name, linewidth=1.3)
    top.set(title="North America, yearly mean", ylabel="°C")
    top.legend(frameon=False)
    top.spines[["top", "right"]].set_visible(False)

    assert node.grid_shape is not None
    changed = {chunk.coordinates[0] for chunk in node.chunks_changed}
    for number in range(node.grid_shape[0]):
        start = years[0] + number * YEARS_PER_CHUNK
        colour = "#e0a030" if number in changed else "#d9dde0"
        bottom.barh(0, YEARS_PER_CHUNK - 1, left=start, color=colour, height=0.8)
    bottom.set(title="chunks: grey is shared by both, yellow differs", yticks=[], xlabel="year")
    bottom.spines[:].set_visible(False)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def find_ipfs() -> str | None:
    """IPFS's own program: on PATH, or the one that `make servers` built."""
    servers = Path(
        os.environ.get("VERSIONED_ZARR_SERVERS", Path.home() / ".cache/versioned-zarr/servers")
    )
    built = sorted(servers.glob("kubo-*/ipfs"))
    return shutil.which("ipfs") or (str(built[-1]) if built else None)


def ask_ipfs(program: str, words: list[str]) -> str:
    """What IPFS prints, offline and with a throw-away home."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"IPFS_PATH": home, "HOME": home}

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [program, "--offline", *arguments],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
            return done.stdout.strip()

        run("init", "--profile=test")
        return run(*words)


def commit_both(a1b: xr.Dataset, e1: xr.Dataset) -> tuple[vz.Repository, vz.Commit]:
    """The first three chapters; the repository, and the commit of A1B in it."""
    with step("1. Commit the scenario A1B to the branch main"):
        repo = vz.create(REPOSITORY)
        with repo.session("main") as session:
            write(a1b, session)
            first = session.commit("A1B: the scenario of rapid growth")
        print(f"{first}\n\nkept: {size_of(REPOSITORY):.2f} MB")

    with step("2. Make a branch, and commit E1 there"):
        repo.branches.create("e1", at="main")
        with repo.session("e1") as session:
            write(e1, session)
            second = session.commit("E1: emissions kept low")
        print(f"{second}\n\nkept: {size_of(REPOSITORY):.2f} MB, as 140 of 240 years are the same")

    with step("3. Describe the data on main, and merge that into the branch"):
        with repo.session("main", message="Say where the data come from") as session:
            about = xr.Dataset(attrs={"institution": "Met Office"})
            about.to_zarr(session.store, mode="a")
        repo.merge("main", into="e1")
        print(repo.log("e1"))
    return repo, first


def compare(repo: vz.Repository) -> None:
    """Both branches side by side, in words and as a picture."""
    with step("4. What differs between main and e1"):
        diff = repo.diff("main", "e1")
        print(diff)
        before, after = repo.checkout("main"), repo.checkout("e1")
        draw(before.to_xarray(), after.to_xarray(), diff.arrays["air_temperature"])
        print(f"\npicture: {PICTURE}")


def prove(repo: vz.Repository, first: vz.Commit, a1b: xr.Dataset) -> None:
    """What a hash names is what was written, and whoever writes the same gets the same hash."""
    with step("5. Get A1B back by its hash, and prove that it is the same"):
        snapshot = repo.checkout(first.tree)
        xr.testing.assert_identical(snapshot.to_xarray().load(), a1b)
        print(f"{snapshot.cid}\nholds what the netCDF file holds;")
        elsewhere = vz.create(f"memory://demo-{os.getpid()}")
        with elsewhere.session("main") as session:
            write(a1b, session)
            again = session.commit("The same data in another repository")
        assert again.tree == first.tree
        print("written again into another repository, the same data have the same hash")


def export(snapshot: vz.Snapshot) -> None:
    """A plain Zarr folder, which IPFS names as we do."""
    with step("6. Export E1 as a plain Zarr folder; IPFS calls it the same"):
        snapshot.to_folder(str(EXPORT))
        words = ["add", "-r", "-Q", "--hidden", "--cid-version=1", "--chunker=size-1048576"]
        print(f"$ ipfs {' '.join(words)} {EXPORT}")
        program = find_ipfs()
        if program is None:
            print(f"would print {snapshot.cid};")
            print("there is no ipfs here to ask: `make servers` builds one")
            return
        answer = ask_ipfs(program, [*words, "--only-hash", str(EXPORT)])
        assert answer == snapshot.cid, answer
        print(f"{answer}\nis what IPFS says, and the hash of our snapshot")


def main() -> None:
    """Tell the story."""
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    shutil.rmtree(EXPORT, ignore_errors=True)
    OUTPUT.mkdir(exist_ok=True)
    a1b, e1 = load("A1B"), load("E1")
    repo, first = commit_both(a1b, e1)
    compare(repo)
    prove(repo, first, a1b)
    export(repo.checkout("e1"))
    with step("7. Check every byte"):
        report = repo.fsck()
        print(report)
        assert report.is_clean
    print(f"\nThe repository is a folder, {REPOSITORY}. To look into it:")
    print(f"    .venv/bin/vz -C {REPOSITORY} log --graph e1")


if __name__ == "__main__":
    main()
