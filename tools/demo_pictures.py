"""Close-ups of the demo's head, drawn by Cycles: as in the photo, turned, and in another light.

Run by tools/demo.py with the Python that has bpy:  demo_pictures.py SCENE.blend FOLDER
Writes photo.png, turned.png and relit.png (transparent around the head), and frame.json, the part of the
photo that they show. The scene is not changed.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import bpy
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nextgenface_addon import headless

HEIGHT = 480  # pixels of a close-up
SHAPE = 0.85  # width / height
MARGIN = 1.35  # frame / head
SAMPLES = 96
TURN, LIGHT_TURN = math.radians(32), math.radians(-65)


def frame_of_head(scene: bpy.types.Scene, head: bpy.types.Object) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the close-up as shares of the picture, of the wanted shape."""
    seen = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = [world_to_camera_view(scene, scene.camera, head.matrix_world @ v.co) for v in seen.vertices]
    width, height = scene.render.resolution_x, scene.render.resolution_y
    low_x, high_x = min(p.x for p in points) * width, max(p.x for p in points) * width
    low_y, high_y = min(p.y for p in points) * height, max(p.y for p in points) * height
    tall = MARGIN * max(high_y - low_y, (high_x - low_x) / SHAPE)
    tall = min(tall, height, width / SHAPE)
    wide = tall * SHAPE
    left = min(max((low_x + high_x - wide) / 2, 0), width - wide)
    bottom = min(max((low_y + high_y - tall) / 2, 0), height - tall)
    return left / width, (left + wide) / width, bottom / height, (bottom + tall) / height


def turn_light(world: bpy.types.World, angle: float) -> None:
    """Turn the world's picture about the vertical axis by `angle` radians."""
    tree = world.node_tree
    picture = next(node for node in tree.nodes if node.type == "TEX_ENVIRONMENT")
    place, turn = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
    turn.inputs["Rotation"].default_value[2] = angle
    tree.links.new(place.outputs["Generated"], turn.inputs["Vector"])
    tree.links.new(turn.outputs["Vector"], picture.inputs["Vector"])


def main(blend: Path, folder: Path) -> None:
    """Draw the three close-ups."""
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    scene = bpy.context.scene
    camera = scene.camera
    head = camera.parent
    headless.prepare_cycles(SAMPLES)
    left, right, bottom, top = frame_of_head(scene, head)
    scene.render.use_border = scene.render.use_crop_to_border = True
    scene.render.border_min_x, scene.render.border_max_x = left, right
    scene.render.border_min_y, scene.render.border_max_y = bottom, top
    scene.render.resolution_percentage = math.ceil(
        100 * HEIGHT / ((top - bottom) * scene.render.resolution_y)
    )
    folder.mkdir(parents=True, exist_ok=True)
    frame = {"left": left, "right": right, "top": 1 - top, "bottom": 1 - bottom}
    (folder / "frame.json").write_text(json.dumps(frame), encoding="utf-8")
    headless.render(folder / "photo.png", camera.name)

    # The camera hangs on the head: let go of it before the head turns.
    place = camera.matrix_world.copy()
    camera.parent = None
    camera.matrix_world = place
    at_rest = head.matrix_world.copy()
    middle = sum((head.matrix_world @ Vector(corner) for corner in head.bound_box), Vector()) / 8
    head.matrix_world = (
        Matrix.Translation(middle) @ Matrix.Rotation(TURN, 4, "Z") @ Matrix.Translation(-middle) @ at_rest
    )
    headless.render(folder / "turned.png", camera.name)
    head.matrix_world = at_rest
    turn_light(scene.world, LIGHT_TURN)
    headless.render(folder / "relit.png", camera.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
