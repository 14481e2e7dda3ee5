"""Run the benchmarks: `python -m benchmarks [PART ...] [--rounds N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    arrays,
    cluster,
    growth,
    ipfs,
    lakefs,
    latency,
    nodes,
    objects,
    scale,
    shared,
    transfer,
)
from benchmarks.timing import Result

PARTS = {
    "arrays": arrays.run,
    "scale": scale.run,
    "transfer": transfer.run,
    "ipfs": ipfs.run,
    "lakefs": lakefs.run,
    "objects": objects.run,
    "shared": shared.run,
    "cluster": cluster.run,
    "latency": latency.run,
    "growth": growth.run,
    "nodes": nodes.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmark-results.json"))
    options = parser.parse_args()
    results: list[Result] = []
    for name in options.parts or PARTS:
        for result in PARTS[name](options.rounds):
            results.append(result)
            show(result)
    packages = {name: version(name) for name in ("zarr", "icechunk", "numpy")}
    machine = {"python": sys.version.split()[0], "machine": platform.machine(), **packages}
    document = {
        "machine": machine,
        "results": [{**asdict(result), "is_met": result.is_met} for result in results],
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {options.json}")


def show(result: Result) -> None:
    target = "" if result.target is None else f"target ≤ {result.target:.3g}"
    mark = {None: " ", True: "✓", False: "✗"}[result.is_met]
    print(f"{mark} {result.name:58} {result.value:10.3g} {result.unit:8} {target}", flush=True)


if __name__ == "__main__":
    main()
