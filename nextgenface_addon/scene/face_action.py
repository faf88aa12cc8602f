"""A recording becomes an action on a head's ARKit shape keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..problems import AddonProblem
from .live_link import Take
from .owned import PROPERTY
from .shape_keys import show_expression

_LINEAR = 1  # the number of 'LINEAR' among the interpolations of keyframes


class ActionError(AddonProblem):
    """A recording cannot be put onto a head; the message says why."""


@dataclass(frozen=True)
class ActionReport:
    """The action's name, its first and last frame, and the recorded shapes that the head lacks."""

    action: str
    first: float
    last: float
    missing: tuple[str, ...]


def apply_take(head: bpy.types.Object, take: Take, name: str, *, start: float, fps: float) -> ActionReport:
    """Put a recording onto the head's ARKit keys as an action, a key every recorded frame.

    `name` of the recording: the same one again replaces its action. `start`: frame of the scene; `fps`: the
    scene's. The photos' expressions are set to zero, as the recording counts from the neutral face. An
    action that was there before stays in the file. Raises ActionError.
    """
    keys = head.data.shape_keys if head.type == "MESH" else None
    blocks = keys.key_blocks if keys is not None else {}
    present = [i for i, shape in enumerate(take.names) if shape in blocks]
    if not present:
        raise ActionError(f"{head.name} has no ARKit shape keys. Choose a head whose face model has them.")
    show_expression(head, None)
    animation = keys.animation_data or keys.animation_data_create()
    role = f"{head.get(PROPERTY, head.name)}|take {name}"
    action = next((item for item in bpy.data.actions if item.get(PROPERTY) == role), None)
    if action is None:
        action = bpy.data.actions.new(f"{head.name} {name}")
        action[PROPERTY] = role
    if animation.action not in (None, action):
        animation.action.use_fake_user = True
    curves = _curves(action, animation)
    curves.clear()
    frames = start + take.times * fps
    points = np.empty((len(frames), 2), np.float32)
    points[:, 0] = frames
    for i in present:
        curve = curves.new(f'key_blocks["{bpy.utils.escape_identifier(take.names[i])}"].value')
        curve.keyframe_points.add(len(frames))
        points[:, 1] = take.values[:, i]
        curve.keyframe_points.foreach_set("co", points.ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(len(frames), _LINEAR, np.int32))
        curve.update()
    missing = tuple(shape for shape in take.names if shape not in blocks)
    return ActionReport(action.name, float(frames[0]), float(frames[-1]), missing)


def _curves(action: bpy.types.Action, animation: bpy.types.AnimData) -> Any:
    """The action's curves for the animated data, after making it the active action."""
    animation.action = action
    if not hasattr(action, "layers"):  # before 4.4
        return action.fcurves
    slot = next((slot for slot in action.slots if slot.target_id_type == "KEY"), None)
    slot = slot or action.slots.new(id_type="KEY", name="Face")
    animation.action_slot = slot
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True).fcurves
