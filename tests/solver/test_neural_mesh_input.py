"""The mesh method on views that cannot work, or only in part: what is said, and what is still done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.errors import NextGenFaceError
from nextgenface.events import WarningLog
from nextgenface.multiview.datasets import nds
from nextgenface.multiview.method import Request
from nextgenface.multiview.neural_shading import method as mesh_method
from nextgenface.multiview.neural_shading.hull import HullError, visual_hull
from nextgenface.multiview.neural_shading.initial import initial_mesh
from nextgenface.multiview.neural_shading.memory import memory_named, memory_warning, needed
from nextgenface.multiview.neural_shading.method import reconstruct
from nextgenface.multiview.neural_shading.optimise import target_of
from nextgenface.multiview.neural_shading.options import MeshOptions
from nextgenface.views import Bounds, View, ViewSet
from small_object import look_at, photographed

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {
    "hidden_features_size": "16", "hidden_features_layers": "1", "texture_size": "0", "color_steps": "2",
    "iterations": "4", "upsample_iterations": "", "save_frequency": "0", "visualization_frequency": "0",
}  # fmt: skip


def said(views: ViewSet, kind: str = "vh16") -> str:
    """The notes of a start."""
    return "\n".join(initial_mesh(kind, views, config=None).notes)  # type: ignore[arg-type]


def turned(view: View, degrees: float) -> View:
    """The view with its camera turned about its vertical axis."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return replace(view, camera=replace(view.camera, R=turn @ view.camera.R, t=turn @ view.camera.t))


def with_view(views: ViewSet, index: int, other: View) -> ViewSet:
    return ViewSet((*views.views[:index], other, *views.views[index + 1 :]), views.bounds)


# ---- views that contradict each other -----------------------------------------------------------------


def test_views_that_belong_together_are_left_in_peace() -> None:
    for count in (4, 8):
        assert "contradict" not in said(photographed(count)) and "leave" not in said(photographed(count))


def test_a_view_whose_camera_is_wrong_is_named() -> None:
    views = photographed(8)
    assert "view_3 contradicts the others" in said(with_view(views, 3, turned(views[3], 6)))


def test_a_view_whose_mask_shows_too_much_is_named() -> None:
    views = photographed(8)
    mask = np.zeros_like(views[3].mask)
    mask[2:-2, 2:-2] = 1
    assert "view_3: the mask shows much" in said(with_view(views, 3, replace(views[3], mask=mask)))


# ---- cameras and boxes --------------------------------------------------------------------------------


def test_cameras_on_one_side_are_named() -> None:
    ball = photographed(6)

    def stand(degrees: list[float]) -> ViewSet:
        angles = np.radians(degrees)
        places = [420 * np.array((np.sin(a), 0.1, np.cos(a))) for a in angles]
        views = [replace(ball[0], name=f"{i}", camera=look_at(p, 64, 102)) for i, p in enumerate(places)]
        return ViewSet(tuple(views), ball.bounds)

    assert "from one side, within 40 degrees" in said(stand([-20, -8, 5, 20]))
    with pytest.raises(NextGenFaceError, match="one direction"):
        said(stand([0, 0.5, 1]))


def test_a_box_beside_the_object_is_named_with_the_right_place() -> None:
    views = photographed(6)
    for low, high in (((140, 0, 0), (170, 30, 30)), ((500, 0, 0), (600, 90, 90))):
        for kind in ("vh16", "sphere4"):
            with pytest.raises(HullError, match=r"misses the object: the masks meet in \(-"):
                said(ViewSet(views.views, Bounds(low, high)), kind)


def test_what_a_mask_shows_outside_the_box_says_nothing() -> None:
    view, bounds = photographed(6)[0], photographed(6).bounds
    everything = replace(view, mask=np.ones_like(view.mask))
    speaks = target_of(everything, 1, "cpu", bounds).silhouette.view(64, 64)
    assert speaks[32, 32] == 1 and speaks[0, 0] == 0
    assert target_of(view, 1, "cpu", bounds).silhouette.view(64, 64)[0, 0] == 1  # there is nothing there
    assert target_of(replace(view, mask=None), 1, "cpu", bounds).silhouette.sum() == 0


# ---- masks --------------------------------------------------------------------------------------------


def test_without_any_mask_there_is_no_hull() -> None:
    bare = ViewSet(tuple(replace(v, mask=None) for v in photographed(6).views))
    with pytest.raises(HullError, match=r"No view has a mask.*alpha"):
        said(bare)
    with pytest.raises(HullError, match=r"No view has a mask.*alpha"):
        visual_hull(ViewSet(bare.views, photographed(6).bounds), 16)


def test_masks_of_the_whole_picture_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_method, "with_person_masks", lambda views: (list(views), []))
    views = photographed(5, 32)
    full = [replace(v, mask=np.ones_like(v.mask)) for v in views]
    nds.write(tmp_path / "ball", ViewSet((*views.views[:2], *full[2:]), views.bounds))
    log = WarningLog()
    request = Request((tmp_path / "ball",), tmp_path / "out", options={**QUICK, "initial_mesh": "sphere4"})
    reconstruct(request, log)
    assert any("view_2, view_3, view_4: no mask, and no person" in text for text in log.texts)


# ---- memory -------------------------------------------------------------------------------------------


def test_too_little_memory_is_said_before_the_work_starts() -> None:
    views, options = photographed(5), MeshOptions()
    assert memory_warning(views, options, available_gb=2 * needed(views, options) / 1e9) is None
    assert "image_scale 2" in str(memory_warning(views, options, available_gb=0.01))
    assert needed(views, MeshOptions(image_scale=2)) < needed(views, options)


def test_memory_that_runs_out_is_named() -> None:
    with pytest.raises(NextGenFaceError, match="image_scale"), memory_named():
        torch.empty(2**55, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"), memory_named():
        raise RuntimeError("something else")
