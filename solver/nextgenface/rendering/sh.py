"""Real spherical harmonics and equirectangular light maps.

Convention of the project: coefficient of (l, m) at index l(l+1)+m, no Condon-Shortley sign, polar axis
+y, theta from +y, phi = atan2(x, z). Equirectangular maps have row 0 at +y and their centre column at +z:
direction(u, v) = (sin pi v sin 2 pi u, cos pi v, -sin pi v cos 2 pi u) with u = (column + .5)/w and
v = (row + .5)/h.
"""

from __future__ import annotations

import math

import torch


def sh_basis(directions: torch.Tensor, bands: int) -> torch.Tensor:
    """The first bands^2 real spherical harmonics at unit directions.

    directions (N, 3) -> (N, bands^2), same dtype; differentiable. Orthonormal over the sphere:
    Y_l0 = K_l0 P_l(y), Y_lm = sqrt2 K_lm cos(m phi) P_lm, Y_l-m = sqrt2 K_lm sin(m phi) P_lm with
    K_lm = sqrt((2l+1)/(4 pi) (l-m)!/(l+m)!). sin^m(theta) is kept with cos(m phi), sin(m phi) as
    powers of z + i x, so that nothing divides by sin(theta) at the poles.
    """
    x, y, z = directions.unbind(-1)
    columns: list[torch.Tensor | None] = [None] * (bands * bands)
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    diagonal = 1.0  # P_mm / sin^m = (2m - 1)!!
    for m in range(bands):
        before = torch.zeros_like(y)
        current = torch.full_like(y, diagonal)
        for degree in range(m, bands):
            if degree > m:
                following = ((2 * degree - 1) * y * current - (degree + m - 1) * before) / (degree - m)
                before, current = current, following
            factor = math.factorial(degree - m) / math.factorial(degree + m)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * factor) * (math.sqrt(2.0) if m else 1.0)
            columns[degree * (degree + 1) + m] = norm * current * cosine
            if m:
                columns[degree * (degree + 1) - m] = norm * current * sine
        cosine, sine = cosine * z - sine * x, cosine * x + sine * z
        diagonal *= 2 * m + 1
    return torch.stack([column for column in columns if column is not None], dim=-1)


def equirect_directions(
    height: int, width: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> torch.Tensor:
    """Unit directions (height, width, 3) of the pixel centres of an equirectangular map."""
    theta = (torch.arange(height, dtype=torch.float64) + 0.5) / height * math.pi
    turn = (torch.arange(width, dtype=torch.float64) + 0.5) / width * 2 * math.pi
    sine = theta.sin()[:, None]
    directions = torch.stack(
        [sine * turn.sin(), theta.cos()[:, None].expand(height, width), -sine * turn.cos()], dim=-1
    )
    return directions.to(dtype=dtype, device=device)


def solid_angles(
    height: int, width: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> torch.Tensor:
    """Solid angle (height,) in steradian of a pixel of each row; height x width of them make 4 pi exactly."""
    edges = (torch.arange(height + 1, dtype=torch.float64) / height * math.pi).cos()
    return ((edges[:-1] - edges[1:]) * (2 * math.pi / width)).to(dtype=dtype, device=device)


def project_to_sh(environment: torch.Tensor, bands: int) -> torch.Tensor:
    """Coefficients (bands^2, C) of an equirectangular map (h, w, C): integral of map x Y over the sphere."""
    height, width = environment.shape[:2]
    basis = sh_basis(
        equirect_directions(height, width, dtype=environment.dtype, device=environment.device).reshape(-1, 3),
        bands,
    ).reshape(height, width, -1)
    weights = solid_angles(height, width, dtype=environment.dtype, device=environment.device)
    return torch.einsum("hwk,hwc,h->kc", basis, environment, weights)


def sh_to_environment(
    coefficients: torch.Tensor, height: int, width: int, *, clamp: bool = True
) -> torch.Tensor:
    """The map (..., height, width, C) of coefficients (..., bands^2, C); clamp cuts off negative light."""
    bands = math.isqrt(coefficients.shape[-2])
    if bands * bands != coefficients.shape[-2]:
        raise ValueError(
            f"{coefficients.shape[-2]} spherical-harmonics coefficients are no whole number of bands"
        )
    directions = equirect_directions(height, width, dtype=coefficients.dtype, device=coefficients.device)
    values = torch.einsum("nk,...kc->...nc", sh_basis(directions.reshape(-1, 3), bands), coefficients)
    values = values.reshape(*coefficients.shape[:-2], height, width, coefficients.shape[-1])
    return values.clamp_min(0.0) if clamp else values


def sample_environment(environment: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Bilinear look-up of a map (h, w, C) at unit directions (..., 3) -> (..., C).

    Wraps around in longitude, clamps at the poles.
    """
    height, width = environment.shape[:2]
    x, y, z = directions.unbind(-1)
    # A point on the axis has no longitude; any will do.
    column = torch.remainder(torch.atan2(x, -z) / (2 * math.pi), 1.0) * width - 0.5
    row = (torch.acos(y.clamp(-1, 1)) / math.pi * height - 0.5).clamp(0, height - 1)
    left, top = column.floor(), row.floor()
    u, v = (column - left)[..., None], (row - top)[..., None]
    c0, c1 = left.long() % width, (left.long() + 1) % width
    r0 = top.long()
    r1 = (r0 + 1).clamp_max(height - 1)
    upper = environment[r0, c0] * (1 - u) + environment[r0, c1] * u
    lower = environment[r1, c0] * (1 - u) + environment[r1, c1] * u
    return upper * (1 - v) + lower * v


def rotate_environment(environment: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """The same light seen in turned axes, resampled bilinearly at the same size.

    rotation (3, 3) takes directions from the map's axes to the new ones: light from d then comes from R d.
    """
    height, width = environment.shape[:2]
    directions = equirect_directions(height, width, dtype=environment.dtype, device=environment.device)
    # d_old = R^T d_new; rows of directions times R.
    return sample_environment(environment, directions @ rotation.to(directions))


def smoothing_window(
    bands: int, kind: str = "gaussian", width: float = 4.0, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Factors (bands^2,) that damp ringing in a map made of few bands.

    "gaussian": exp(-l(l+1) / (2 width^2)), a Gaussian blur on the sphere (heat kernel) of about 1/width
    radian. "sinc": sin(pi l/width)/(pi l/width),
    0 from l = width on (Lanczos).
    """
    degrees = torch.cat(
        [torch.full((2 * degree + 1,), degree, dtype=torch.float64) for degree in range(bands)]
    )
    if kind == "gaussian":
        factors = torch.exp(-degrees * (degrees + 1) / (2 * width * width))
    elif kind == "sinc":
        factors = torch.where(degrees < width, torch.sinc(degrees / width), torch.zeros_like(degrees))
    else:
        raise ValueError(f"Unknown smoothing window '{kind}': use 'gaussian' or 'sinc'")
    return factors.to(dtype)


def legacy_environment(coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """LEGACY, for checkpoints of NextFace and its ports only: the light map those programs lit the face with.

    coefficients (bands^2, C) -> (height, width, C), row 0 at +y of *their camera space* (image down). They
    include the Condon-Shortley sign and swap the angles: theta runs along the columns, phi along the rows.
    Such a map is not rotation-equivariant and has a seam; nothing new should use it.
    """
    bands = math.isqrt(coefficients.shape[0])
    theta = (torch.arange(width, dtype=coefficients.dtype) + 0.5) / width * math.pi
    phi = (torch.arange(height, dtype=coefficients.dtype) + 0.5) / height * 2 * math.pi
    sine, cosine = theta.sin()[None, :], theta.cos()[None, :].expand(height, width)
    directions = torch.stack([sine * phi.sin()[:, None], cosine, sine * phi.cos()[:, None]], dim=-1)
    order = torch.cat([torch.arange(-degree, degree + 1) for degree in range(bands)])
    sign = torch.where(order % 2 == 0, 1.0, -1.0).to(coefficients.dtype)
    basis = sh_basis(directions.reshape(-1, 3), bands) * sign
    return (basis @ coefficients.cpu()).reshape(height, width, -1).clamp_min(0.0).to(coefficients.device)
