"""Vertex numbers of the 468-point face template (MediaPipe's canonical face) that carry a meaning.

"Right" is the subject's right: x < 0, the left of a frontal picture. Left-hand numbers come from the
mirror table, so only one side is written down.
"""

from __future__ import annotations

# Closed loop along the free lid edges: outer corner, upper lid, inner corner, lower lid.
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
# Rows of skin around the eye, outwards from the lids: upper crease row and lower bag row.
RIGHT_UPPER_CREASE = (30, 29, 27, 28, 56)
RIGHT_LOWER_CREASE = (110, 24, 23, 22, 26)

# Rows of the lips from the middle to the subject's right corner.
UPPER_LIP_ROWS = ((0, 37, 39, 40, 185), (11, 72, 73, 74, 184), (12, 38, 41, 42, 183), (13, 82, 81, 80, 191))
LOWER_LIP_ROWS = ((17, 84, 181, 91, 146), (16, 85, 180, 90, 77), (15, 86, 179, 89, 96), (14, 87, 178, 88, 95))
# Corner of the mouth from the outer to the inner contour.
RIGHT_MOUTH_CORNER = (61, 76, 62, 78)

LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip

RIGHT_BROW_UPPER = (70, 63, 105, 66, 107)
RIGHT_BROW_LOWER = (46, 53, 52, 65, 55)
RIGHT_NOSTRIL = (240, 98, 97, 2, 60, 75)
RIGHT_ALAR_CREASE = (129, 64, 98)
JAW_LINE = (58, 172, 136, 150, 149, 176, 148, 152)

NOSE_TIP, CHIN, FOREHEAD, UPPER_LIP_SKIN = 4, 152, 151, 164
