"""Stands in for `nextgenface.job`: does to its job folder what the test wrote into `set.behaviour`.

"wait:STAGE" waits in that stage until it is asked to stop, by a signal, by the stop file, or because the
process `parent_pid` has ended; "long step:STAGE" only hears the second signal. "exit:N" ends with that code.
A checkpoint is left after each finished stage. Where the job says nothing FAKE_BEHAVIOUR does; the folder
FAKE_RESULT is copied as the result.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

STAGES = ("pose", "photometric", "textures", "render")

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
behaviour = job["set"].get("behaviour", os.environ.get("FAKE_BEHAVIOUR", ""))
stopped = False


def stop(number: int, frame: object) -> None:
    global stopped
    if stopped:  # as the solver does: the second time ends the step
        raise KeyboardInterrupt
    stopped = True


def parent_gone() -> bool:
    parent = job["parent_pid"]
    if parent is None:
        return False
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return True
    return os.getppid() == 1


if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif behaviour == "loading":  # as while a library is imported: nobody looks at signals
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)
else:
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

target = "/dev/full" if behaviour == "full disk" else folder / "events.jsonl"
with open(target, "ab", buffering=0) as events:

    def tell(**event: object) -> None:
        events.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")

    def wait_until_stopped() -> None:
        end = time.monotonic() + 60
        while not (stopped or (folder / "stop").exists() or parent_gone()) and time.monotonic() < end:
            time.sleep(0.02)
        tell(event="error", text="Stopped.", kind="Cancelled")
        sys.exit(130)

    if behaviour == "garbage":
        events.write(b'\xff\xfe not json\n[1, 2]\n{"event": 3}\n\n{"event": "progress", "step": "x"}\n')
        events.write(b'{"event": "progress", "stage": "pose", "step": 1e400, "total": %d}\n' % 10**400)
        events.write(b'{"event": "preview", "path": "\\u0000"}\n{"event": "stage", "stage": ["pose"]}\n')
        events.write(b"[" * 100000 + b"\n")
    if behaviour == "long line":
        events.write(b"x" * 8_000_000 + b"\n")
    if behaviour == "flood":
        for step in range(60000):
            tell(event="progress", stage="pose", step=step, total=60000, loss=1.0)
    for number, stage in enumerate(STAGES, start=1):
        if number in job["skip"]:
            continue
        tell(event="stage", stage=stage)
        tell(event="progress", stage=stage, step=1, total=2, loss=0.5, eta=3.0)
        if behaviour == "wait:" + stage:
            wait_until_stopped()
        if behaviour == "long step:" + stage:
            try:
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    time.sleep(0.5)
            except KeyboardInterrupt:
                tell(event="error", text="Stopped.", kind="Cancelled")
                sys.exit(130)
        if stage == "pose":
            tell(event="warning", text="Brille erkannt: größer")
            half = json.dumps({"event": "progress", "stage": stage, "step": 2, "total": 2}).encode()
            events.write(half[:20])
            time.sleep(0.1)
            events.write(half[20:] + b"\n")
            time.sleep(0.1)
        if number < 4:
            checkpoint = Path(job["output"]) / "checkpoints" / f"stage{number}_output.pickle"
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_bytes(b"")
    if behaviour == "deaf":
        time.sleep(60)
    if behaviour == "user_error":
        tell(event="error", text="No face in photo.png. Use another photo.", kind="NoFaceError")
        sys.exit(2)
    if behaviour.startswith("exit:"):
        print("Traceback: out of luck", file=sys.stderr, flush=True)
        os._exit(int(behaviour.removeprefix("exit:")))
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if "FAKE_RESULT" in os.environ:
        shutil.copytree(os.environ["FAKE_RESULT"], folder, dirs_exist_ok=True)
    elif behaviour != "no_result":
        (folder / "result.json").write_text("{}")
    tell(event="done", result="result.json")
