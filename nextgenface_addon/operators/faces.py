"""Finding and numbering the faces in the photos of the list."""

# mypy: disable-error-code="valid-type"

import tempfile
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver, tasks
from ..faces import FaceFinder
from ..jobs import JobError
from ..preferences import solver_python
from ..properties import photo_input
from .photos import PhotoOperator

FINDER = "faces"


class NEXTGENFACE_OT_find_faces(PhotoOperator, bpy.types.Operator):
    """Look for the faces in all photos of the list, and show their numbers in a picture of each; takes some
    seconds"""

    bl_idname = "nextgenface.find_faces"
    bl_label = "Find Faces"
    bl_options = {"REGISTER"}

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or ("The search is running" if tasks.running(FINDER) else "")

    def work(self, context: bpy.types.Context) -> set[str]:
        scene_name = context.scene.name
        photos = [photo_input(photo) for photo in context.scene.nextgenface.photos]
        # A folder for each search: the pictures of the last one may still be on screen. Blender deletes it.
        finder = FaceFinder(Path(tempfile.mkdtemp(prefix="nextgenface-faces-", dir=bpy.app.tempdir)))
        finder.begin(solver_python(context), photos)
        tasks.run(FINDER, finder, lambda: show(scene_name, finder))
        if driver.windowless() and finder.status.state != "finished":
            raise JobError(finder.status.error or rpt_("The search for faces was stopped."))
        return {"FINISHED"}


def show(scene_name: str, finder: FaceFinder) -> None:
    """Enter what was found into the list, which may have changed meanwhile."""
    scene = bpy.data.scenes.get(scene_name)
    if scene is None:
        return
    found = {item.path: item for item in finder.answer()}
    for photo in scene.nextgenface.photos:
        item = found.get(bpy.path.abspath(photo.path))
        if item is not None:
            photo.faces_found = item.count
            photo.faces_picture = str(item.picture or "")


CLASSES = (NEXTGENFACE_OT_find_faces,)
