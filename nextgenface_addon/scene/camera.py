"""A camera per photo with exactly the solver's K, R and t, and the photo behind and over the picture."""

from __future__ import annotations

import bpy
from mathutils import Matrix

from .axes import METRES_PER_MM, camera_matrix, lens_settings
from .images import load_image
from .owned import PROPERTY, Owner
from .results_folder import PhotoResult

SENSOR_WIDTH = 36.0


def build_camera(
    owner: Owner, role: str, name: str, photo: PhotoResult, head: bpy.types.Object, *, pack: bool
) -> bpy.types.Object:
    """Create or update the camera of one photo, as a child of the head so that it follows when the head is
    moved.

    Its pose and lens are results: an update sets them again.
    """
    camera_object = owner.find(bpy.data.objects, role)
    if camera_object is None or camera_object.type != "CAMERA":
        data = owner.tag(bpy.data.cameras.new(name), role)
        camera_object = owner.tag(bpy.data.objects.new(name, data), role)
        data.display_size = 0.05  # the head is 0.2 m; Blender's default would dwarf it
        data.clip_start = 0.001
    data = camera_object.data
    lens, shift_x, shift_y, aspect_x, aspect_y = lens_settings(
        photo.K, photo.width, photo.height, SENSOR_WIDTH
    )
    data.type = "PERSP"
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR_WIDTH
    data.lens_unit = "MILLIMETERS"
    data.lens = lens
    data.shift_x, data.shift_y = shift_x, shift_y
    distance = float(photo.t[2]) * METRES_PER_MM
    # Near enough for a hand held close to the lens, with the ratio that the depth buffer of the viewport
    # bears.
    data.clip_start = min(0.01, max(distance * 0.01, 1e-4))
    data.clip_end = max(100.0, distance * 10.0)
    camera_object.parent = head
    camera_object.matrix_parent_inverse = Matrix.Identity(4)
    camera_object.matrix_basis = Matrix(camera_matrix(photo.R, photo.t).tolist())
    # What has to be set on the scene when this camera is looked through.
    data["nextgenface_resolution"] = [photo.width, photo.height]
    data["nextgenface_pixel_aspect"] = [aspect_x, aspect_y]
    if "photo" in photo.files:
        image = load_image(
            owner, f"{role}/photo", photo.files["photo"], "sRGB", name=f"{name} photo", pack=pack
        )
        _show_photo(data, image)
    return camera_object


def _show_photo(data: bpy.types.Camera, image: bpy.types.Image) -> None:
    """Put the photo behind the head, and once more over it, unseen until its opacity is raised."""
    present = {background.display_depth for background in data.background_images if background.image == image}
    for depth, opacity in (("BACK", 1.0), ("FRONT", 0.0)):
        if depth in present:
            continue
        background = data.background_images.new()
        background.image = image
        background.source = "IMAGE"
        background.display_depth = depth
        # Photo and frame have the same shape, also with pixels that are not square.
        background.frame_method = "STRETCH"
        background.alpha = opacity
        background.show_expanded = False
        data.show_background_images = True


def photo_overlay(camera_object: bpy.types.Object) -> bpy.types.CameraBackgroundImage | None:
    """The photo over the picture of a camera view; its `alpha` mixes from render (0) to photo (1)."""
    for background in camera_object.data.background_images:
        image = background.image
        if background.display_depth == "FRONT" and image is not None and PROPERTY in image:
            return background
    return None
