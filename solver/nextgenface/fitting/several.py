"""Stage 2 for several photos of one person: geometry from one skin seen by many cameras.

Landmarks of different photos do not agree with each other well enough to measure depth, and shading tells
shape only as well as the light is known. What the photos share is the skin itself: its details are matched
between the photos (`matching`) and shape, expressions, poses and lenses are adjusted to them together
(`bundle`), coarse to fine, with the light solved again in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..events import Listener
from ..rendering.deferred import vertex_normals
from .bundle import Bundle
from .contours import signed_distance
from .loop import Outcome, run_steps
from .matching import RESOLUTION, SCALES, find_matches
from .photoset import EFFECTIVE_PIXELS, PHOTO_SIGMA
from .texels import Texels

if TYPE_CHECKING:
    from .photometric import PhotometricProblem

ROUNDS = (0, 0, 1, 1, 2, 2, 2)  # scale of each round of matching and adjusting
JUDGED = 4  # the round in which outliers are looked for: the first at the finest scale
LIGHT_ROUNDS = 4  # of light and skin colour at full resolution, at the end
FACING = (0.2, 0.6)  # cosines between which a landmark is a guess, and is seen
AROUND_MM = 6.0  # of a landmark, where the turn of the face is looked at
LEAST_MATCHES = 200  # in half of the photos; with fewer, skin says too little and shading has to help
OUTLIER_SHARE = 0.5  # of the other photos' agreement: below this a photo is called an outlier


def fit_several(
    problem: PhotometricProblem, listener: Listener, first: int, total: int, notes: list[str]
) -> Outcome[dict[str, Tensor]] | None:
    """Fit the photos of one person together; what the user should know is added to `notes`.

    Returns None, with nothing changed but the light, when the photos have too little detail in common.
    """
    device = problem.z_shape.device
    texels = Texels(problem.model, RESOLUTION, device)
    problem.trace()
    problem.solve_lights(0, rounds=2)
    counts = sorted(len(found.points) for found in find_matches(problem, texels, SCALES[0]))
    middle = counts[len(counts) // 2]
    if middle < LEAST_MATCHES:
        notes.append(
            f"The photos have too little visible skin in common to be matched ({middle} places in "
            f"the middle photo, {LEAST_MATCHES} are needed): the shape comes from shading alone."
        )
        return None
    for photo in problem.photos:
        photo.signed = signed_distance(photo.view, device)
    sure = [photo.mark_weight for photo in problem.photos]
    bundle = Bundle(problem)

    def step(i: int) -> float:
        if i < len(ROUNDS):
            trust_seen_landmarks(problem, sure)
            matches = find_matches(problem, texels, SCALES[ROUNDS[i]])
            if i == JUDGED:
                notes.extend(judge_photos(problem, [found.agreement for found in matches]))
            bundle.adjust(matches)
            if i + 1 == len(ROUNDS) or ROUNDS[i + 1] != ROUNDS[i]:
                problem.trace()
                problem.solve_lights(1)
        else:
            problem.solve_lights(2)
        return sum(photo_errors(problem)) / len(problem.photos)

    rounds = len(ROUNDS) + LIGHT_ROUNDS
    cap = min(rounds, problem.config.iterStep2)
    outcome = run_steps(
        "photometric", cap, step, problem.snapshot, listener, settle=cap - 1,
        preview=lambda i: listener.preview("photometric", i, problem.preview), preview_every=1,
        first=first, total=total,
    )  # fmt: skip
    outcome.converged = cap == rounds
    return outcome


@torch.no_grad()
def photo_errors(problem: PhotometricProblem) -> list[float]:
    """Root-mean-square difference of each photo and its picture, in code values, where they show skin."""
    losses = [
        float(problem.photo_loss(k, photo.targets[1], problem.vertices(k)))
        for k, photo in enumerate(problem.photos)
    ]
    return [math.sqrt(6 * loss / EFFECTIVE_PIXELS) * PHOTO_SIGMA for loss in losses]


@torch.no_grad()
def trust_seen_landmarks(problem: PhotometricProblem, sure: list[Tensor]) -> None:
    """Weigh each photo's landmarks (`sure`: their own weights) by how the face around them is turned.

    A detector places points on the far side of a turned face, too; those are guesses. The skin around a point
    decides, not its own normal: the rims of lips and lids face anywhere.
    """
    w = problem.white
    for k, photo in enumerate(problem.photos):
        camera = problem.pose(k).camera_space(problem.vertices(k))
        points = camera[photo.mark_vertices]
        near = torch.exp(-0.5 * (torch.cdist(points, camera) / AROUND_MM) ** 2) * w.skin
        normals = tf.normalize(near @ vertex_normals(camera, w.faces), dim=1)
        facing = -(normals * tf.normalize(points, dim=1)).sum(1)
        photo.mark_weight = sure[k] * ((facing - FACING[0]) / (FACING[1] - FACING[0])).clamp(0, 1)


def judge_photos(problem: PhotometricProblem, agreements: list[float]) -> list[str]:
    """Sentences about photos whose skin agrees with the others' far less than theirs among each other.

    `agreements`: share of each photo's skin that matched the others'. With the option
    `outlierPhotos = leaveOut` such photos lose their say in shape and maps. It takes three photos to know
    which one is wrong.
    """
    notes = []
    errors = photo_errors(problem)
    out = problem.config.outlierPhotos == "leaveOut"
    advice = "If it shows another person or a covered face, take it away or set outlierPhotos = leaveOut."
    for k, photo in enumerate(problem.photos):
        others = sorted(agreements[:k] + agreements[k + 1 :])
        if len(others) < 2 or agreements[k] >= OUTLIER_SHARE * others[len(others) // 2]:
            continue
        photo.trust = 0.0 if out else 1.0
        notes.append(
            f"The photo {photo.view.name} agrees with the others on {agreements[k]:.0%} of the skin, they "
            f"among each other on {others[len(others) // 2]:.0%}; its residual is {errors[k]:.3f}. "
            + ("It has no say in the shared shape and maps." if out else advice)
        )
    return notes
