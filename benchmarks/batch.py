"""What a second worker brings: the same batch with one and with two, each limited to one thread.

    python benchmarks/batch.py [--copies 4] [--size 128] [--workers 2] [--output DIR]

Prints one JSON object: {"one": {"seconds", "cpu_seconds", "per_hour"}, "many": {…, "workers"}, "ratio", …}.
The batches are small fits of copies of one public-domain portrait, through `nextgenface-batch` with all it
does: a process for each subject, checkpoints, final pictures, summary. `ratio` compares wall times, and where
other programs run says more about them than about the batch (`load` is then more than 0 at the start).
`ratio_by_cpu` is workers x CPU seconds of one / CPU seconds of many: what the ratio would be on free cores,
with what the workers cost each other in caches and memory, without what scheduling costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nextgenface.cores import available_cores

SMALL = {"textureResolution": 64, "iterStep1": 15, "iterStep2": 6, "iterStep3": 6, "rtSamples": 8}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run(photos: Path, output: Path, workers: int, size: int) -> dict[str, Any]:
    """One batch from nothing; its wall time and how many an hour that makes."""
    settings = {**SMALL, "maxResolution": size, "threads": 1}
    command = [sys.executable, "-m", "nextgenface.cli.batch", "--input", str(photos), "--output", str(output)]
    command += ["--workers", str(workers), "--quiet"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    started, cpu = time.monotonic(), cpu_of_children()
    subprocess.run(command, check=True, env={**os.environ, **ONE_THREAD})
    seconds = time.monotonic() - started
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    finished = summary["counts"]["finished"]
    return {
        "workers": workers,
        "finished": finished,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_of_children() - cpu, 2),
        "per_hour": round(3600 * finished / seconds, 1),
        "seconds_each": [round(entry["seconds"], 2) for entry in summary["subjects"]],
    }


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has started and seen end, and of theirs."""
    used = os.times()
    return used.children_user + used.children_system


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--copies", type=int, default=4, help="subjects of a batch")
    parser.add_argument("--size", type=int, default=128, help="side of the fitted picture in pixels")
    parser.add_argument("--workers", type=int, default=2, help="workers of the second batch")
    parser.add_argument("--output", type=Path, help="keep the batches here (default: thrown away)")
    options = parser.parse_args(arguments)
    from PIL import Image
    from skimage import data

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="nextgenface-batch-") as temporary:
        folder = (options.output or Path(temporary)).absolute()
        photos = folder / "photos"
        photos.mkdir(parents=True, exist_ok=True)
        for i in range(options.copies):
            Image.fromarray(data.astronaut()).save(photos / f"copy_{i}.png", compress_level=1)
        one = run(photos, folder / "one", 1, options.size)
        many = run(photos, folder / "many", options.workers, options.size)
    told = {
        "subjects": options.copies,
        "size": options.size,
        "cores": available_cores(),
        "one": one,
        "many": many,
        "load": load,
        "ratio": round(one["seconds"] / many["seconds"], 3),
        "ratio_by_cpu": round(options.workers * one["cpu_seconds"] / many["cpu_seconds"], 3),
    }
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
