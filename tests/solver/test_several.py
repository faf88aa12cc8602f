"""Several photos of one person adjusted together: shape, cameras, lenses, outlines, outliers."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from nextgenface.events import NullListener
from nextgenface.fitting import several
from nextgenface.fitting.bundle import Bundle, shared_lenses
from nextgenface.fitting.contours import find_contour, signed_distance
from nextgenface.fitting.matching import Matches
from nextgenface.fitting.photometric import PhotometricProblem, fit_photometric
from nextgenface.fitting.several import judge_photos, trust_seen_landmarks
from nextgenface.fitting.state import FaceState
from nextgenface.fitting.whitened import whiten
from nextgenface.landmarks.types import Landmarks
from nextgenface.photos import lens_from_exif
from nextgenface.views import FaceView
from PIL import ExifTags

from tests.solver.small_face import (
    BACKGROUND,
    Truth,
    example,
    photograph,
    quick_config,
    shape_error,
    small_model,
)
from tests.solver.small_fit import posed_state

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")

YAWS = (0.0, 0.6, -0.6)


@lru_cache(maxsize=1)
def scene() -> tuple[list[Truth], list[FaceView]]:
    """Three photos of one person whose landmarks are off by a pixel or so; nobody knows the lens."""
    truths = [example(small_model(), yaw=yaw, seed=3) for yaw in YAWS]
    views = []
    for k, truth in enumerate(truths):
        view = photograph(small_model(), truth)
        wrong = view.landmarks.points + np.random.default_rng(k).normal(0, 1.0, view.landmarks.points.shape)
        marks = Landmarks("mediapipe", view.landmarks.indices, wrong, None, view.landmarks.weights)
        person = (np.abs(view.image - BACKGROUND).max(-1) > 1e-6).astype(np.float32)
        view = replace(view, name=f"photo {k}", landmarks=marks, person=person)
        views.append(replace(view, focal=view.focal * 0.8, focal_prior_sigma=0.15))
    return truths, views


@lru_cache(maxsize=1)
def posed() -> FaceState:
    return posed_state(scene()[1], shared=True)


def problem(views: list[FaceView] | None = None, **settings: object) -> PhotometricProblem:
    views = scene()[1] if views is None else views
    members = list(range(len(views)))
    return PhotometricProblem(small_model(), views, posed(), members, quick_config(**settings))


def true_matches(truth: Truth, *, sigma: float = 0.2) -> Matches:
    """Every third triangle that faces the camera, where it really is."""
    white = whiten(small_model(), "cpu")
    vertices = truth.vertices(white)
    camera = truth.pose.camera_space(vertices)
    corners = white.faces[::3]
    normals = torch.linalg.cross(
        camera[corners[:, 1]] - camera[corners[:, 0]], camera[corners[:, 2]] - camera[corners[:, 0]]
    )
    corners = corners[(normals * camera[corners[:, 0]]).sum(1) < 0]
    weights = torch.full((len(corners), 3), 1 / 3)
    points = truth.pose.screen((camera[corners] * weights[..., None]).sum(1))
    root = (torch.eye(2) / sigma).expand(len(corners), 2, 2)
    return Matches(corners, weights, points, root, 1.0)


def error(p: PhotometricProblem, k: int = 0) -> float:
    truth = scene()[0][k].vertices(whiten(small_model(), "cpu"))
    return shape_error(p.vertices(k).detach().numpy(), truth.numpy())


def test_matches_give_shape_and_lenses_that_landmarks_do_not() -> None:
    p = problem()
    before = error(p)
    Bundle(p).adjust([true_matches(truth) for truth in scene()[0]])
    assert error(p) < 0.35 * before
    for photo, truth in zip(p.photos, scene()[0], strict=True):
        assert float(photo.focal / truth.pose.focal) == pytest.approx(1.0, abs=0.06)


def test_a_known_lens_stays() -> None:
    views = [replace(view, focal_prior_sigma=0.0) for view in scene()[1]]
    p = problem(views)
    before = [float(photo.focal) for photo in p.photos]
    Bundle(p).adjust([true_matches(truth) for truth in scene()[0]])
    assert [float(photo.focal) for photo in p.photos] == before


def test_photos_of_one_lens_share_what_is_found() -> None:
    names = ["zoom at 35", "zoom at 70", "zoom at 35"]
    views = [replace(view, lens=name) for view, name in zip(scene()[1], names, strict=True)]
    p = problem(views)
    assert shared_lenses(p) == [0, -1, 0]
    Bundle(p).adjust([true_matches(truth) for truth in scene()[0]])
    ratios = [float(photo.focal) / photo.view.focal for photo in p.photos]
    assert ratios[0] == pytest.approx(ratios[2], rel=1e-5)
    assert ratios[0] == pytest.approx(1 / 0.8, rel=0.06)


def test_order_of_photos_does_not_matter() -> None:
    p, q = problem(), problem()
    q.photos = q.photos[::-1]
    with torch.no_grad():
        q.z_expression.copy_(q.z_expression.flip(0))
    matches = [true_matches(truth) for truth in scene()[0]]
    Bundle(p).adjust(matches)
    Bundle(q).adjust(matches[::-1])
    torch.testing.assert_close(p.z_shape, q.z_shape, rtol=0, atol=0.02)


def test_a_photo_without_a_say_leaves_the_shape_alone() -> None:
    p, q = problem(), problem()
    matches = [true_matches(truth) for truth in scene()[0]]
    wrong = replace(matches[2], points=matches[2].points * 1.3)
    p.photos[2].trust = q.photos[2].trust = 0.0
    Bundle(p).adjust(matches)
    Bundle(q).adjust([*matches[:2], wrong])
    torch.testing.assert_close(p.z_shape, q.z_shape, rtol=0, atol=0.05)


def test_the_outline_is_where_the_person_ends() -> None:
    p = problem()
    Bundle(p).adjust([true_matches(truth) for truth in scene()[0]])
    for k, photo in list(enumerate(p.photos))[1:]:  # the small face is a mask: turned, it has an outline
        photo.signed = signed_distance(photo.view, torch.device("cpu"))
        contour = find_contour(p, k)
        pose = p.pose(k)
        screen = pose.screen(pose.camera_space(p.vertices(k)))[contour.vertices].detach()
        distance, slope = contour.distance(screen)
        assert len(contour.vertices) > 5
        assert distance.abs().median() < 1.0
        ahead, _ = contour.distance(screen + 2 * slope)
        assert (ahead - distance).median() == pytest.approx(2.0, abs=0.5)
    nobody = replace(scene()[1][0], person=None)
    assert signed_distance(nobody, torch.device("cpu")) is None


def test_outlines_alone_pull_the_face_to_the_person() -> None:
    p = problem()
    Bundle(p).adjust([true_matches(truth) for truth in scene()[0]])
    for k, photo in enumerate(p.photos):
        photo.signed = signed_distance(photo.view, torch.device("cpu"))
        photo.mark_weight = photo.mark_weight * 0.0
        with torch.no_grad():
            p.shift[k, 0] += 3.0
    empty = [replace(m, corners=m.corners[:0], weights=m.weights[:0], points=m.points[:0], root=m.root[:0])
             for m in (true_matches(truth) for truth in scene()[0])]  # fmt: skip
    off = [float(find_contour(p, k).distance(_outline(p, k))[0].abs().mean()) for k in (1, 2)]
    Bundle(p).adjust(empty)
    now = [float(find_contour(p, k).distance(_outline(p, k))[0].abs().mean()) for k in (1, 2)]
    assert sum(now) < 0.6 * sum(off)


def _outline(p: PhotometricProblem, k: int) -> torch.Tensor:
    pose = p.pose(k)
    return pose.screen(pose.camera_space(p.vertices(k)))[find_contour(p, k).vertices].detach()


def test_landmarks_on_the_far_side_are_not_trusted() -> None:
    p = problem()
    trust_seen_landmarks(p, [photo.mark_weight for photo in p.photos])
    frontal, turned = (p.photos[k].mark_weight for k in (0, 1))
    assert (turned == 0).sum() > (frontal == 0).sum() + 20


def test_an_outlier_is_named_and_loses_its_say_when_asked() -> None:
    p = problem()
    p.trace()
    assert judge_photos(p, [0.7, 0.6, 0.65]) == []
    notes = judge_photos(p, [0.7, 0.6, 0.1])
    assert len(notes) == 1 and "photo 2" in notes[0] and "10%" in notes[0] and "residual" in notes[0]
    assert [photo.trust for photo in p.photos] == [1.0, 1.0, 1.0]
    q = problem(outlierPhotos="leaveOut")
    q.trace()
    assert "no say" in judge_photos(q, [0.7, 0.6, 0.1])[0]
    assert [photo.trust for photo in q.photos] == [1.0, 1.0, 0.0]


def test_photos_without_common_detail_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "LEAST_MATCHES", 10**6)
    state, report = fit_photometric(
        small_model(), scene()[1], posed(), quick_config(iterStep2=3), NullListener()
    )
    assert report.steps == 3 and state.stage == 2
    assert any("too little visible skin" in note for note in report.notes)


@pytest.mark.parametrize(
    "changes, same",
    [({}, True), ({ExifTags.Base.FocalLength: 70.0}, False), ({ExifTags.Base.Model: "Other"}, False)],
)
def test_lenses_have_names(changes: dict[int, object], same: bool) -> None:
    tags = {ExifTags.Base.Make: "Maker", ExifTags.Base.Model: "One", ExifTags.Base.FocalLength: 35.0}
    one, other = lens_from_exif(tags, 400, 300), lens_from_exif({**tags, **changes}, 300, 400)
    assert one is not None and (one == other) is same
    assert lens_from_exif(tags, 200, 200) != one
    assert lens_from_exif({ExifTags.Base.Model: "One"}, 400, 300) is None
