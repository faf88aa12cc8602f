"""Stands in for `nextgenface.job`: does to its job folder what the test wrote into `set.behaviour`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
behaviour = job["set"].get("behaviour", "")
stopped = False


def stop(number: int, frame: object) -> None:
    global stopped
    stopped = True


if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGINT, stop)

with open(folder / "events.jsonl", "ab", buffering=0) as events:

    def tell(**event: object) -> None:
        events.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")

    tell(event="stage", stage="pose")
    if behaviour == "garbage":
        events.write(b'\xff\xfe not json\n[1, 2]\n{"event": 3}\n\n{"event": "progress", "step": "x"}\n')
    if behaviour == "flood":
        for step in range(60000):
            tell(event="progress", stage="pose", step=step, total=60000, loss=1.0)
    tell(event="progress", stage="pose", step=1, total=2, loss=0.5, eta=3.0)
    tell(event="warning", text="Brille erkannt: größer")
    tell(event="stage", stage="textures")
    half = json.dumps({"event": "progress", "stage": "textures", "step": 1, "total": 2}).encode()
    events.write(half[:20])
    time.sleep(0.15)
    events.write(half[20:] + b"\n")
    if behaviour in ("slow", "deaf"):
        end = time.monotonic() + 60
        while not stopped and time.monotonic() < end:
            time.sleep(0.02)
        sys.exit(130)
    if behaviour == "user_error":
        tell(event="error", text="No face in photo.png. Use another photo.", kind="NoFaceError")
        sys.exit(2)
    if behaviour == "crash":
        print("Traceback: out of luck", file=sys.stderr, flush=True)
        os._exit(7)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour != "no_result":
        (folder / "result.json").write_text("{}")
    tell(event="done", result="result.json")
