"""Where in a picture a person is: MediaPipe's selfie segmentation, whose network is inside the package.

It separates people from the background, not skin from hair; the fit uses it so that the face does not grow
into the wall behind the head.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from .landmarks.search import quiet

log = logging.getLogger(__name__)


def person_mask(srgb8: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Probability of a person (H, W) in an (H, W, 3) 8-bit sRGB picture.

    None where the installed mediapipe has no segmentation inside, which the log says.
    """
    try:
        import mediapipe

        solution = mediapipe.solutions.selfie_segmentation
    except (ImportError, AttributeError):
        log.warning(
            "this mediapipe has no segmentation of people inside, so the head's silhouette is not used; the "
            "one for Python 3.11 and 3.12 has it"
        )
        return None
    with quiet(), solution.SelfieSegmentation(model_selection=0) as network:
        found = network.process(np.ascontiguousarray(srgb8)).segmentation_mask
    return None if found is None else np.array(found, np.float32)
