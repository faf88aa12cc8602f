"""Settings that are kept with the scene.

No `from __future__ import annotations` in modules with property annotations: Blender evaluates them itself.
"""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy

from .jobs import PhotoInput
from .methods import METHODS, Method, method_named
from .option_types import Option, Value
from .options import GROUPS, OPTIONS, changed

TAKEOVER_ITEMS = (
    (
        "AUTO",
        "If the Scene is Empty",
        "Use the photo's camera, light, size and colour settings only in a scene that has none of its own",
    ),
    ("ALWAYS", "Always", "Use the photo's camera, light, size and colour settings"),
    ("NEVER", "Never", "Only add the camera and the light; leave the scene's own in place"),
)

ROTATE_ITEMS = (
    ("0", "Upright", "As the file says"),
    ("90", "90° Clockwise", "Turn the photo clockwise"),
    ("180", "180°", "Turn the photo upside down"),
    ("270", "90° Counterclockwise", "Turn the photo counterclockwise"),
)

# From 4.5 a path has to say that it may begin with //, which stands for the file's own folder.
RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()

DEVICE_ITEMS = (
    ("auto", "Automatic", "The graphics card where it can be used, else the processor"),
    ("cpu", "Processor", "Slower, works everywhere"),
    ("cuda", "Graphics Card", "An NVIDIA card with CUDA; the processor is used, with a warning, without one"),
)


class NextGenFacePhoto(bpy.types.PropertyGroup):
    """One photo to reconstruct from."""

    path: bpy.props.StringProperty(
        name="Photo", description="Image file with a face", subtype="FILE_PATH", options=RELATIVE
    )
    enabled: bpy.props.BoolProperty(
        name="Use",
        description="Reconstruct from this photo; switched off, it only stays in the list",
        default=True,
    )
    rotate: bpy.props.EnumProperty(
        name="Rotate",
        description="Turn a photo that lies on its side; a face is only found when it is about upright",
        items=ROTATE_ITEMS,
    )
    face: bpy.props.IntProperty(
        name="Face",
        description="Which face of the photo, 1 is the largest; Find Faces shows their numbers",
        default=1,
        min=1,
        max=100,
    )
    focal35: bpy.props.FloatProperty(
        name="Lens (35 mm)",
        description="35 mm equivalent focal length of the lens. 0: as the photo's EXIF says, else estimated. "
        "Enter it when the head comes out too flat or too deep",
        default=0.0,
        min=0.0,
        max=2000.0,
        precision=0,
    )
    faces_found: bpy.props.IntProperty(
        name="Faces Found", description="How many faces Find Faces has found", default=-1, options={"HIDDEN"}
    )
    faces_picture: bpy.props.StringProperty(
        name="Picture with Numbers", subtype="FILE_PATH", options={"HIDDEN"}
    )


def _property(option: Option) -> object:
    """Blender's property for one option of the table."""
    common = {"name": option.label, "description": option.tip}
    if option.choices:
        return bpy.props.EnumProperty(items=option.choices, default=option.default, **common)
    if isinstance(option.default, bool):
        return bpy.props.BoolProperty(default=option.default, **common)
    if isinstance(option.default, str):
        relative = RELATIVE if option.subtype != "NONE" else set()
        return bpy.props.StringProperty(
            default=option.default, subtype=option.subtype, options=relative, **common
        )
    limits = {"min": option.low, "max": option.high}
    if isinstance(option.default, int):
        whole = {name: int(limit) for name, limit in limits.items() if limit is not None}
        return bpy.props.IntProperty(default=option.default, **whole, **common)
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return bpy.props.FloatProperty(default=option.default, precision=option.digits, **given, **common)


class NextGenFaceOptions(bpy.types.PropertyGroup):
    """The solver's options, made from the table in `options`, by key."""

    __annotations__ = {key: _property(option) for key, option in OPTIONS.items()}


class ImportChoices:
    """How results come into the scene: mixin of the panel's settings and of the operator that imports."""

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


class NextGenFaceSettings(ImportChoices, bpy.types.PropertyGroup):
    """What the panel asks for."""

    photos: bpy.props.CollectionProperty(type=NextGenFacePhoto)
    active_photo: bpy.props.IntProperty(name="Active Photo", default=0, min=0)
    method: bpy.props.EnumProperty(
        name="Method",
        description="What is made, and from what",
        items=[(method.name, method.label, method.description) for method in METHODS],
    )
    dataset: bpy.props.StringProperty(
        name="Data Set",
        description="Folder with pictures from all sides and their cameras",
        subtype="DIR_PATH",
        options=RELATIVE,
    )
    mesh: bpy.props.StringProperty(
        name="Mesh",
        description="Mesh that the method starts from. Empty: the data set's own",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    output: bpy.props.StringProperty(
        name="Output",
        description="Folder for the results; each job gets a folder in it. Empty: the default folder in the "
        "preferences, else a folder beside the .blend file, else beside the first photo",
        subtype="DIR_PATH",
        options=RELATIVE,
    )
    shared_identity: bpy.props.BoolProperty(
        name="Same Person",
        description="All photos show one person, who gets one head, with a camera and an expression each. "
        "Off: each photo is a person with a head of their own",
        default=True,
    )
    device: bpy.props.EnumProperty(name="Device", description="Where to compute", items=DEVICE_ITEMS)
    preset: bpy.props.StringProperty(name="Preset", description="The preset used last", default="Default")
    options: bpy.props.PointerProperty(type=NextGenFaceOptions)
    config: bpy.props.StringProperty(
        name="Settings File",
        description="An .ini file with solver options; what is set here in the panel beats it. Empty: none",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    auto_import: bpy.props.BoolProperty(
        name="Import When Finished",
        description="Bring the result into the scene as soon as it is there",
        default=True,
    )


# Functions instead of methods: Blender 4.2 as a module ends with a crash where a PropertyGroup has a method.


def photo_input(photo: NextGenFacePhoto) -> PhotoInput:
    """What the solver is told about a photo of the list."""
    return PhotoInput(
        Path(bpy.path.abspath(photo.path)),
        rotate=int(photo.rotate),
        face=photo.face if photo.face > 1 else 0,
        focal35=float(f"{photo.focal35:.6g}"),
    )


def active_photo(settings: NextGenFaceSettings) -> NextGenFacePhoto | None:
    """The photo that is selected in the list, None when the list is empty."""
    photos = settings.photos
    return photos[min(settings.active_photo, len(photos) - 1)] if photos else None


def option_values(settings: NextGenFaceSettings) -> dict[str, Value]:
    """The options that are not at their defaults."""
    return changed({name: getattr(settings.options, name) for name in OPTIONS})


def apply_options(settings: NextGenFaceSettings, values: dict[str, Value]) -> None:
    """Set these options, and all others to their defaults."""
    for name, option in OPTIONS.items():
        setattr(settings.options, name, values.get(name, option.default))


def chosen_method(settings: NextGenFaceSettings) -> Method:
    """The method that is chosen."""
    return method_named(settings.method)


def solver_options(settings: NextGenFaceSettings) -> dict[str, Value]:
    """What the solver is told: the device, and the method's options that are not at their defaults."""
    groups = chosen_method(settings).option_groups
    wanted = {option.key: option.name for g in GROUPS if g.name in groups for option in g.options}
    chosen = {
        wanted[key]: bpy.path.abspath(value) if OPTIONS[key].subtype != "NONE" else value
        for key, value in option_values(settings).items()
        if key in wanted
    }
    return {"device": settings.device, **chosen}


CLASSES = (NextGenFacePhoto, NextGenFaceOptions, NextGenFaceSettings)


def register() -> None:
    bpy.types.Scene.nextgenface = bpy.props.PointerProperty(type=NextGenFaceSettings)


def unregister() -> None:
    del bpy.types.Scene.nextgenface
