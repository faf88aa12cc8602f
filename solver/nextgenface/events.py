"""What a running solve tells the outside: stages, progress, previews, warnings; and how it is asked to stop.

A solve talks to one `Listener` and knows nothing about terminals, files or Blender.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

STAGE_TITLES = {
    "pose": "Pose",
    "photometric": "Light and face",
    "textures": "Textures",
    "render": "Final pictures",
}
"""Name of each stage for people, in the order in which they run."""

_BAR = "{desc:<16} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}]"

Picture = Callable[[], NDArray[np.uint8]]
"""Makes a preview only when somebody wants it: uint8 sRGB, (H, W, 3) or one per photo (n, H, W, 3)."""


class Listener(Protocol):
    """Receives what happens during a solve. Every method returns quickly and never raises on purpose."""

    def stage(self, name: str) -> None:
        """A stage begins: "pose", "photometric", "textures" or "render"."""

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Step `step` of at most `total` is done. `loss` may be NaN where there is none."""

    def preview(self, stage: str, step: int, make_picture: Picture) -> None:
        """A picture of the current state can be had by calling `make_picture`."""

    def warning(self, text: str) -> None:
        """Something was not done as asked."""

    def cancelled(self) -> bool:
        """Asked between steps: should the solve stop?"""


class NullListener:
    """Ignores everything; also the base of the other listeners, which override what they care about."""

    def stage(self, name: str) -> None:
        """Ignore the start of a stage."""

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Ignore progress."""

    def preview(self, stage: str, step: int, make_picture: Picture) -> None:
        """Ignore previews; the picture is never made."""

    def warning(self, text: str) -> None:
        """Ignore warnings."""

    def cancelled(self) -> bool:
        """Never ask for a stop."""
        return False


class Tee(NullListener):
    """Passes everything on to several listeners; one of them asking for a stop is enough."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def stage(self, name: str) -> None:
        """Pass on the start of a stage."""
        for listener in self.listeners:
            listener.stage(name)

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Pass on progress."""
        for listener in self.listeners:
            listener.progress(stage, step, total, loss)

    def preview(self, stage: str, step: int, make_picture: Picture) -> None:
        """Pass on a preview; the picture is made at most once however many listeners want it."""
        made: list[NDArray[np.uint8]] = []

        def once() -> NDArray[np.uint8]:
            if not made:
                made.append(make_picture())
            return made[0]

        for listener in self.listeners:
            listener.preview(stage, step, once)

    def warning(self, text: str) -> None:
        """Pass on a warning."""
        for listener in self.listeners:
            listener.warning(text)

    def cancelled(self) -> bool:
        """Whether any listener asks for a stop."""
        return any(listener.cancelled() for listener in self.listeners)

    def close(self) -> None:
        """Let those that keep something open on the screen finish it."""
        for listener in self.listeners:
            close = getattr(listener, "close", None)
            if close is not None:
                close()


class CancelWhen(NullListener):
    """Asks for a stop once `condition` has been true; it is asked at most every `every` seconds."""

    def __init__(self, condition: Callable[[], bool], every: float = 0.0) -> None:
        self.condition = condition
        self.every = every
        self._last = -math.inf
        self._stop = False

    def cancelled(self) -> bool:
        """Whether the condition has been met."""
        now = time.monotonic()
        if not self._stop and now - self._last >= self.every:
            self._last = now
            self._stop = bool(self.condition())
        return self._stop


class WarningLog(NullListener):
    """Keeps the warnings of a run, each once, for `result.json`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warning(self, text: str) -> None:
        """Remember a warning."""
        if text not in self.texts:
            self.texts.append(text)


class PrintListener(NullListener):
    """The guide's `verbose`: prints the loss of every step, and warnings, to a stream."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Print one line; the final pictures have no loss."""
        if stage != "render":
            print(f"{stage} {step}/{total} loss {loss:.6g}", file=self.stream or sys.stdout, flush=True)


class ListenerHandler(logging.Handler):
    """Passes warnings of the package's loggers to a listener: to the terminal, Blender and result.json."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(logging.WARNING)
        self.listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one message on."""
        self.listener.warning(record.getMessage())


@contextmanager
def logged_to(listener: Listener) -> Iterator[None]:
    """Inside the block every warning of the package's loggers goes to `listener`."""
    logger = logging.getLogger("nextgenface")
    handler = ListenerHandler(listener)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class EtaClock:
    """Guesses the seconds left in a stage from the pace of its steps.

    The first step counts only until there is another one: it compiles kernels and fills caches, which took
    fifty times as long as a step.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A stage begins."""
        self._start = time.monotonic()
        self._first: tuple[int, float] | None = None  # the first step that was told, and when

    def seconds_left(self, step: int, total: int) -> float | None:
        """Seconds until `total` at the pace so far, or None before the first step."""
        if step <= 0:
            return None
        now = time.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = (step, now)
            pace = (now - self._start) / step
        else:
            pace = (now - self._first[1]) / (step - self._first[0])
        return pace * max(total - step, 0)


class DebugFrames(NullListener):
    """The guide's debug frames: `debug/debug{1,2}_iter{N}_frame{i}.png`, every `frequency` steps.

    `debug1` is stage 2 and `debug2` stage 3, as the guide numbers them. A frequency of 0 writes nothing.
    """

    NUMBERS = {"photometric": 1, "textures": 2}

    def __init__(self, folder: Path, frequency: int) -> None:
        self.folder = folder
        self.frequency = frequency

    def preview(self, stage: str, step: int, make_picture: Picture) -> None:
        """Write the frames of this step when it is their turn."""
        if self.frequency <= 0 or stage not in self.NUMBERS or step % self.frequency:
            return
        pictures = make_picture()
        for i, picture in enumerate(pictures if pictures.ndim == 4 else pictures[None]):
            write_picture(self.folder / f"debug{self.NUMBERS[stage]}_iter{step}_frame{i}.png", picture)


class JsonlListener(NullListener):
    """Appends one JSON object a line to a file or stream, flushed at once (see docs/architecture.md).

    Previews go to `preview_path` (replaced atomically, at most every `preview_seconds`); without a path no
    preview is made. Progress is written at most every `progress_seconds`, the last step of a stage always.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        preview_path: Path | None = None,
        preview_seconds: float = 2.0,
        progress_seconds: float = 0.1,
    ) -> None:
        self.stream = stream
        self.preview_path = preview_path
        self.preview_seconds = preview_seconds
        self.progress_seconds = progress_seconds
        self._clock = EtaClock()
        self._stage = ""
        self._last_progress = -math.inf
        self._last_preview = -math.inf

    def write(self, event: str, **values: Any) -> None:
        """Append one event. Numbers that JSON does not know (NaN, infinity) become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        line = json.dumps({"event": event, **clean, "time": round(time.time(), 3)}, ensure_ascii=False)
        self.stream.write(line + "\n")
        self.stream.flush()

    def stage(self, name: str) -> None:
        """Write the start of a stage."""
        self._stage = name
        self._clock.restart()
        self._last_progress = -math.inf
        self.write("stage", stage=name)

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Write progress with the time left."""
        now = time.monotonic()
        if step < total and now - self._last_progress < self.progress_seconds:
            return
        self._last_progress = now
        eta = self._clock.seconds_left(step, total)
        self.write(
            "progress",
            stage=stage,
            step=step,
            total=total,
            loss=float(loss),
            eta=None if eta is None else round(eta, 1),
        )

    def preview(self, stage: str, step: int, make_picture: Picture) -> None:
        """Write the preview picture when the last one is old enough, and say where it is."""
        now = time.monotonic()
        if self.preview_path is None or now - self._last_preview < self.preview_seconds:
            return
        self._last_preview = now
        pictures = make_picture()
        write_picture(self.preview_path, pictures[0] if pictures.ndim == 4 else pictures)
        self.write("preview", stage=stage, step=step, path=self.preview_path.name)

    def warning(self, text: str) -> None:
        """Write a warning."""
        self.write("warning", text=text)


class BarListener(NullListener):
    """A progress bar on the terminal: stage, step, loss, time left. Warnings appear above it."""

    def __init__(self, stream: IO[str] | None = None, *, interval: float = 0.1) -> None:
        self.stream = stream or sys.stderr
        self.interval = interval  # seconds between redraws
        self._bar: Any = None
        self._title = ""

    def stage(self, name: str) -> None:
        """Finish the bar of the last stage; the new one appears with its first step."""
        if self._bar is not None:
            # The total was a cap; a stage that has converged is complete.
            self._bar.total = self._bar.n
            self._bar.refresh()
        self.close()
        self._title = STAGE_TITLES.get(name, name)

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """Move the bar."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=total,
                desc=self._title or stage,
                file=self.stream,
                leave=True,
                mininterval=self.interval,
                bar_format=_BAR,
            )
        self._bar.total = total
        if math.isfinite(loss):
            self._bar.set_postfix_str(f"{'noise' if stage == 'render' else 'loss'} {loss:.4g}", refresh=False)
        self._bar.update(step - self._bar.n)

    def warning(self, text: str) -> None:
        """Print a warning without tearing the bar."""
        from tqdm import tqdm

        tqdm.write(f"warning: {text}", file=self.stream)

    def close(self) -> None:
        """Finish the bar on screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class QuietListener(NullListener):
    """Only warnings, one line each."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr

    def warning(self, text: str) -> None:
        """Print a warning."""
        print(f"warning: {text}", file=self.stream, flush=True)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an 8-bit picture (H, W, 3) so that a reader never sees half of it."""
    from PIL import Image

    from .files import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")
