"""What `make gui-test` does inside Blender: it presses the panel's own buttons with simulated events.

Run by tools/gui_test.py: `blender --enable-event-simulate --python … -- OUT ZIP PHOTO PRESET CHANGES`. The
steps are a generator that a timer resumes; they yield the seconds to wait. A button is found by moving over
the sidebar and copying the command of what is under the pointer (Ctrl-C), so its place need not be known.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy

OUT, ZIP, PHOTO = (Path(item) for item in sys.argv[-5:-2])
PRESET, CHANGES = sys.argv[-2], json.loads(sys.argv[-1])
SCAN_STEP = 7
BEAT = 0.01
SHADERS = 60.0  # seconds that software drawing takes to compile EEVEE's on a busy machine

Steps = Iterator[float]


class Report:
    """What is left for tools/gui_test.py."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.measured: dict[str, str] = {}
        self.problems: list[str] = []

    def done(self, step: str) -> None:
        self.steps.append(step)
        print(f"step: {step}", flush=True)

    def expect(self, true: bool, problem: str) -> None:
        if not true:
            self.problems.append(problem)
            print(f"FAILED: {problem}", flush=True)

    def write(self) -> None:
        (OUT / "report.json").write_text(json.dumps(self.__dict__, indent=1), encoding="utf-8")


report = Report()


class Clock:
    """How long our own code keeps Blender busy at a time, and how regularly Blender comes round."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.gaps: list[float] = []
        self.last = 0.0
        self.running = False

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Measure every call of a function without arguments, or of a panel's draw(self, context)."""
        function = getattr(owner, name)

        def timed() -> Any:
            with self.measure(label):
                return function()

        def timed_draw(self_: Any, context: Any) -> Any:  # Blender counts the arguments
            with self.measure(label):
                return function(self_, context)

        setattr(owner, name, timed_draw if name == "draw" else timed)

    @contextmanager
    def measure(self, label: str) -> Iterator[None]:
        """Keep the longest time that something has taken while a job ran."""
        started = time.perf_counter()
        yield
        if self.running:
            self.longest[label] = max(self.longest.get(label, 0.0), time.perf_counter() - started)

    def beat(self) -> float:
        now = time.perf_counter()
        if self.running and self.last:
            self.gaps.append(now - self.last)
        self.last = now if self.running else 0.0
        return BEAT


clock = Clock()


def window() -> bpy.types.Window:
    return bpy.context.window_manager.windows[0]


def view() -> tuple[bpy.types.Area, bpy.types.Region]:
    """The 3D view and its sidebar."""
    area = next(area for area in window().screen.areas if area.type == "VIEW_3D")
    return area, next(region for region in area.regions if region.type == "UI")


def event(kind: str, value: str, x: int, y: int, **keys: bool) -> None:
    window().event_simulate(type=kind, value=value, x=x, y=y, **keys)


def find(command: str) -> Iterator[float]:
    """Find the button that runs a command; sets `find.place`, or raises LookupError."""
    manager = bpy.context.window_manager
    _, sidebar = view()
    for part in (0.5, 0.2, 0.93):  # buttons beside each other
        x = sidebar.x + int((sidebar.width - 20) * part)
        for y in range(sidebar.y + sidebar.height - 8, sidebar.y + 8, -SCAN_STEP):
            manager.clipboard = ""
            event("MOUSEMOVE", "NOTHING", x, y)
            yield 0.03
            event("C", "PRESS", x, y, ctrl=True)
            event("C", "RELEASE", x, y)
            yield 0.03
            if manager.clipboard.startswith(command):
                find.place = (x, y - 4)  # type: ignore[attr-defined]
                return
    raise LookupError(f"there is no button for {command} in the sidebar")


def press(command: str) -> Iterator[float]:
    """Press the button that runs a command."""
    yield from find(command)
    x, y = find.place  # type: ignore[attr-defined]
    event("MOUSEMOVE", "NOTHING", x, y)
    yield 0.1
    event("LEFTMOUSE", "PRESS", x, y)
    event("LEFTMOUSE", "RELEASE", x, y)
    yield 0.3
    away()
    yield 0.2


def away() -> None:
    """Take the pointer off the sidebar, so that no button is lit and no tooltip is shown."""
    area, _ = view()
    event("MOUSEMOVE", "NOTHING", area.x + 60, area.y + 60)


def picture(name: str, what: str = "screen") -> Iterator[float]:
    """Ask for a picture of the screen, the 3D view, or the sidebar."""
    area, sidebar = view()
    box = {"screen": None, "view": area, "sidebar": sidebar}[what]
    height = window().height
    place = None if box is None else [box.x, height - box.y - box.height, box.width, box.height]
    overlay = area.spaces.active.overlay
    shown = overlay.show_overlays
    overlay.show_overlays = shown and what != "sidebar"  # nothing but the panel
    area.tag_redraw()
    yield 0.5
    request = OUT / "picture.json"
    temporary = request.with_suffix(".tmp")
    temporary.write_text(json.dumps({"name": name + ".png", "area": place}), encoding="utf-8")
    temporary.replace(request)
    while request.exists():
        yield 0.1
    overlay.show_overlays = shown


def until(true: Callable[[], bool], seconds: float, what: str) -> Iterator[float]:
    """Wait for something; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")
        yield 0.1


def addon() -> Any:
    """The installed add-on's package."""
    return sys.modules["bl_ext.user_default.nextgenface.nextgenface_addon"]


def session() -> Any:
    return addon().session.current()


def settings() -> Any:
    return bpy.context.scene.nextgenface


def steps() -> Steps:
    """Everything an artist does, in order."""
    yield from install()
    yield from show_sidebar()
    yield from picture("panel_before", "sidebar")
    with bpy.context.temp_override(window=window()):
        bpy.ops.nextgenface.add_photos(directory=str(PHOTO.parent), files=[{"name": PHOTO.name}])
        bpy.ops.nextgenface.apply_preset(name=PRESET)
    for change in CHANGES:
        name, _, number = change.partition("=")
        setattr(settings().options, name, type(getattr(settings().options, name))(float(number)))
    yield 2.0  # the thumbnail is made meanwhile
    yield from picture("panel_photo", "sidebar")
    report.done("a photo is in the list")
    yield from start_and_cancel()
    yield from resume_and_import()
    yield from look_and_mix()
    yield from relight_and_pose()
    with bpy.context.temp_override(window=window()):
        bpy.ops.wm.save_as_mainfile(filepath=str(OUT / "scene.blend"))
    report.done("saved")


def install() -> Steps:
    bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
    yield 1.0
    report.expect("bl_ext.user_default.nextgenface" in bpy.context.preferences.addons, "not enabled")
    clock.wrap(addon().driver, "step", "reading the job's events")
    for cls in addon().registration.CLASSES:
        if issubclass(cls, bpy.types.Panel) and cls.bl_space_type == "VIEW_3D":
            clock.wrap(cls, "draw", "drawing a panel")
    bpy.app.timers.register(clock.beat)
    report.done("installed and enabled")


def show_sidebar() -> Steps:
    area, sidebar = view()
    area.spaces.active.show_region_ui = True
    yield 1.0
    for _ in range(20):
        try:
            sidebar.active_panel_category = "NextGenFace"
            break
        except AttributeError:  # the tabs are not there before the first drawing
            yield 0.3
    bpy.ops.object.select_all(action="DESELECT")
    area.spaces.active.overlay.show_cursor = area.spaces.active.overlay.show_floor = False
    away()
    yield 1.0
    yield from measure_idle(area)


def measure_idle(area: bpy.types.Area) -> Steps:
    """How regularly Blender comes round here without a job, drawn as often as with one."""
    clock.running = True
    for _ in range(25):
        area.tag_redraw()
        yield 0.2
    clock.running = False
    tell_gaps("no job")


def tell_gaps(when: str) -> None:
    """Report the pauses between two turns of Blender's event loop, and forget them."""
    gaps = sorted(clock.gaps) or [0.0]
    some = {"median": gaps[len(gaps) // 2], "99 of 100": gaps[int(len(gaps) * 0.99)], "longest": gaps[-1]}
    text = ", ".join(f"{name} {value * 1000:.0f}" for name, value in some.items())
    report.measured[f"pauses between turns of Blender, {when} (ms)"] = text
    clock.gaps.clear()
    clock.longest.clear()


def start_and_cancel() -> Steps:
    yield from press("bpy.ops.nextgenface.run")
    yield from until(lambda: session().running, 20, "the start")
    started = time.monotonic()
    clock.running = True
    report.done("Reconstruct was pressed")
    yield from until(
        lambda: session().status.stage == "photometric" and session().status.fraction > 0, 400, "stage 2"
    )
    report.measured["seconds to stage 2"] = f"{time.monotonic() - started:.1f}"
    yield from until(lambda: bool(session().status.preview), 400, "a preview")
    yield from until(lambda: session().status.step >= 10, 600, "step 10")
    yield from picture("panel_running", "sidebar")
    report.done("progress and preview are shown")
    yield from press("bpy.ops.nextgenface.cancel")
    report.expect(session().job.cancelling or session().status.done, "Cancel was pressed without effect")
    pressed = time.monotonic()
    yield from until(lambda: session().status.done, 30, "the stop")
    report.measured["seconds from Cancel to the end of the job"] = f"{time.monotonic() - pressed:.1f}"
    report.expect(session().status.state == "cancelled", f"the job is {session().status.state}")
    checkpoint = session().job.folder / "checkpoints" / "stage1_output.pickle"
    report.expect(checkpoint.is_file(), "the checkpoint of stage 1 was not kept")
    yield 1.0
    yield from picture("panel_cancelled", "sidebar")
    report.done("cancelled with a checkpoint")


def resume_and_import() -> Steps:
    yield from press("bpy.ops.nextgenface.resume_job")
    yield from until(lambda: session().running, 20, "the resumed start")
    report.done("Resume was pressed")
    started = time.monotonic()
    yield from until(lambda: session().status.stage == "textures", 1500, "stage 3")
    yield from until(lambda: session().status.stage == "render", 1500, "the final pictures")
    yield 1.0
    clock.running = False  # what follows is the import itself
    yield from until(lambda: session().status.done, 300, "the end")
    report.measured["seconds from Resume to the result"] = f"{time.monotonic() - started:.1f}"
    report.expect(session().status.state == "finished", f"{session().status.state}: {session().status.error}")
    yield from until(lambda: "astronaut" in bpy.data.objects, 20, "the import")
    for label, spent in clock.longest.items():
        report.measured[f"longest time {label} (ms)"] = f"{spent * 1000:.1f}"
        report.expect(spent < 0.1, f"{label} took {spent * 1000:.0f} ms at a time")
    tell_gaps("with a job")
    report.done("finished and imported by itself")


def look_and_mix() -> Steps:
    area, _ = view()
    report.expect(
        bpy.context.scene.camera.name == "astronaut camera", "the scene has not taken the photo's view"
    )
    report.expect(area.spaces.active.region_3d.view_perspective == "CAMERA", "the view is not the camera's")
    yield SHADERS
    yield from picture("panel_after", "sidebar")
    yield from picture("result", "view")
    area.spaces.active.region_3d.view_perspective = "PERSP"
    bpy.context.scene.world = None
    yield from press('bpy.ops.nextgenface.look_through(camera="astronaut camera")')
    report.expect(
        area.spaces.active.region_3d.view_perspective == "CAMERA", "Look through photo: no camera view"
    )
    report.expect(bpy.context.scene.world is not None, "Look through photo: the light is not back")
    report.done("looked through the photo")
    overlay = addon().scene.camera.photo_overlay(bpy.context.scene.camera)
    overlay.alpha = 0.5
    yield 3.0
    yield from picture("mix", "view")
    overlay.alpha = 0.0
    report.done("mixed photo and render")


def relight_and_pose() -> Steps:
    area, _ = view()
    space = area.spaces.active
    controls = addon().scene.relight.light_controls(bpy.context.scene.world)
    controls.rotation.default_value[2] = 1.6
    head = bpy.data.objects["astronaut"]
    with bpy.context.temp_override(window=window()):
        bpy.ops.nextgenface.show_expression()
    for name, value in (("jawOpen", 0.6), ("mouthSmileLeft", 0.6), ("mouthSmileRight", 0.6)):
        head.data.shape_keys.key_blocks[name].value = value
    space.overlay.show_overlays = False
    space.region_3d.view_perspective = "PERSP"
    space.lens = 85.0
    space.clip_start = 0.01
    from mathutils import Euler

    space.region_3d.view_location = (0.0, -0.03, 0.0)
    space.region_3d.view_distance = 0.95
    space.region_3d.view_rotation = Euler((1.5, 0.0, 0.6)).to_quaternion()
    yield 6.0
    yield from picture("relit", "view")
    report.done("turned the light and moved ARKit keys")


def tick() -> float | None:
    """Resume the steps; at their end, or at the first failure, leave the report and quit."""
    try:
        return next(running)
    except StopIteration:
        pass
    except Exception as problem:
        report.problems.append(f"{type(problem).__name__}: {problem}")
        traceback.print_exc()
    report.write()
    bpy.ops.wm.quit_blender()
    return None


bpy.context.preferences.view.show_splash = False
bpy.context.preferences.view.show_tooltips = False
running = steps()
bpy.app.timers.register(tick, first_interval=3.0)
