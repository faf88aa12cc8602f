"""Settings that are kept with the scene.

No `from __future__ import annotations` in modules with property annotations: Blender evaluates them itself.
"""

# mypy: disable-error-code="valid-type"

import bpy

TAKEOVER_ITEMS = (
    (
        "AUTO",
        "If the Scene is Empty",
        "Use the photo's camera, light, size and colour settings only in a scene that has none of its own",
    ),
    ("ALWAYS", "Always", "Use the photo's camera, light, size and colour settings"),
    ("NEVER", "Never", "Only add the camera and the light; leave the scene's own in place"),
)


class NextGenFacePhoto(bpy.types.PropertyGroup):
    """One photo to reconstruct from."""

    path: bpy.props.StringProperty(name="Photo", description="Image file with a face", subtype="FILE_PATH")


class NextGenFaceSettings(bpy.types.PropertyGroup):
    """What the panel asks for."""

    photos: bpy.props.CollectionProperty(type=NextGenFacePhoto)
    active_photo: bpy.props.IntProperty(name="Active Photo", default=0, min=0)
    output: bpy.props.StringProperty(
        name="Output",
        description="Folder for the results; each photo gets a folder in it. Empty: "
        "a folder beside the .blend file, or beside the first photo",
        subtype="DIR_PATH",
    )
    shared_identity: bpy.props.BoolProperty(
        name="Same Person",
        description="All photos show one person, who gets one head, with a camera and an expression for each",
        default=True,
    )
    config: bpy.props.StringProperty(
        name="Settings File",
        description="An .ini file with solver options. Empty: the defaults",
        subtype="FILE_PATH",
    )
    pack: bpy.props.BoolProperty(
        name="Pack Images",
        description="Keep the images in the .blend file instead of linking to them",
        default=True,
    )
    takeover: bpy.props.EnumProperty(
        name="Use Photo's View", description="When the scene takes the photo's view", items=TAKEOVER_ITEMS
    )
    show_world: bpy.props.BoolProperty(
        name="Show Light",
        description="Show the light's map behind the head; otherwise the background is transparent",
        default=False,
    )


CLASSES = (NextGenFacePhoto, NextGenFaceSettings)


def register() -> None:
    bpy.types.Scene.nextgenface = bpy.props.PointerProperty(type=NextGenFaceSettings)


def unregister() -> None:
    del bpy.types.Scene.nextgenface
