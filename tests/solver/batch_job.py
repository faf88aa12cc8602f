"""A job that takes no time, for tests of what a batch does with jobs. Run as `python batch_job.py FOLDER`.

What happens stands in the photo: "fine", or one of the functions below. Every start is one line in
`starts.txt` beside the results folder: the folder's name and the stages that were skipped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[-1])
STEP_SECONDS = 0.02


def event(**values: object) -> None:
    with open(FOLDER / "events.jsonl", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(values) + "\n")


def checkpoint() -> None:
    (FOLDER / "checkpoints").mkdir(exist_ok=True)
    (FOLDER / "checkpoints" / "stage1_output.pickle").write_bytes(b"x")


def fine() -> int:
    event(event="progress", stage="pose", step=1, total=1)
    result = {
        "metrics": {"psnr": [30.0, 32.0], "coverage": [None]},
        "stages": {"pose": {"seconds": 0.25, "peak_mb": 100}},
        "warnings": ["a warning"],
        "photos": [{"files": {"photo": None, "final_png": None}}],
    }
    (FOLDER / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return 0


def corrupt() -> int:
    event(event="error", text="the photo is damaged; export it again", kind="PhotoError")
    return 2


def bug() -> int:
    raise RuntimeError("a fault of the program")


def killed() -> int:
    """Killed in the middle of every run that does not go on from a checkpoint."""
    if not JOB.get("checkpoint"):
        checkpoint()
        os.kill(os.getpid(), signal.SIGKILL)
    return fine()


def crashes() -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def bad_checkpoint() -> int:
    """Like `killed`, but its checkpoint cannot be used."""
    if JOB.get("checkpoint"):
        event(event="error", text="damaged", kind="CheckpointError")
        return 2
    if (FOLDER / "checkpoints").exists():
        return fine()
    return killed()


def slow(steps: int = 400) -> int:
    """Many steps, which a stop can come between."""
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    for step in range(steps):
        event(event="progress", stage="pose", step=step, total=steps)
        time.sleep(STEP_SECONDS)
        if step == 1:
            checkpoint()
        if asked:
            event(event="error", text="Stopped.", kind="Cancelled")
            return 130
        if JOB.get("checkpoint"):
            break
    return fine()


def stop_file() -> int:
    """As if somebody had put one into the folder."""
    (FOLDER / "stop").touch()
    return 130


def half_a_second() -> int:
    return slow(25)


def with_gpu() -> int:
    """Half a second on a GPU; `gpu` in the folder tells which, and from when to when."""
    begun = time.time()
    code = slow(25)
    told = [os.environ.get("CUDA_VISIBLE_DEVICES"), begun, time.time()]
    (FOLDER / "gpu").write_text(json.dumps(told), encoding="utf-8")
    return code


def hangs() -> int:
    """Nothing happens, and nothing but a kill ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return 0


def silent() -> int:
    return 0


JOB = json.loads((FOLDER / "job.json").read_text(encoding="utf-8"))

if __name__ == "__main__":
    with open(FOLDER.parent / "starts.txt", "a", encoding="utf-8") as starts:
        starts.write(f"{FOLDER.name} {JOB.get('skip', [])}\n")
    behaviour = Path(JOB["input"][0]).read_text().split()[0]
    sys.exit(globals()[behaviour]())
