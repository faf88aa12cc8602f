"""Options of the mesh method. Names and defaults are those of the method's first implementation."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import option
from .shader import ShaderConfig


@dataclass(frozen=True)
class MeshOptions:
    """What `nextgenface-mesh` can be told. Learning rates and weights are for the normalised space."""

    input_bbox: str = option("", "file with the box around the object, 2 x 3 numbers (else the set's own)")
    initial_mesh: str = option(
        "vh32", "start: vhN (visual hull on N cells), sphereN, face (fitted to the views), or a mesh file"
    )
    image_scale: int = option(1, "work at 1/N of the pictures' resolution", low=1, high=64)
    iterations: int = option(2000, "optimisation steps", low=1)
    run_name: str = option("", "name of the result (else the data set's)")
    lr_vertices: float = option(1e-3, "step size of the vertices", low=0)
    lr_shader: float = option(1e-3, "step size of the shader", low=0)
    upsample_iterations: tuple[int, ...] = option(
        (500, 1000, 1500), "steps at which the mesh is remeshed finer", low=0
    )
    save_frequency: int = option(100, "write the mesh every N steps; 0 = only at the end", low=0)
    visualization_frequency: int = option(100, "write pictures every N steps; 0 = never", low=0)
    visualization_views: tuple[str, ...] = option(
        (), "names or numbers of the views to draw (else the first)"
    )
    weight_mask: float = option(2.0, "weight of the silhouettes", low=0)
    weight_normal: float = option(0.1, "weight of normal consistency", low=0)
    weight_laplacian: float = option(40.0, "weight of smoothness", low=0)
    weight_shading: float = option(1.0, "weight of the colours", low=0)
    shading_percentage: float = option(0.75, "share of the object's pixels that a step shades", low=0, high=1)
    hidden_features_layers: int = option(3, "hidden layers of the shader", low=0, high=16)
    hidden_features_size: int = option(
        128, "width of the shader (first implementation: 256)", low=1, high=4096
    )
    fourier_features: str = option(
        "positional", "encoding of positions", choices=("none", "gfft", "positional")
    )
    activation: str = option("relu", "activation of the shader", choices=("relu", "sine"))
    fft_scale: float = option(4.0, "spread of the frequencies of gfft", low=0)
    view_sampling_mode: str = option(
        "random", "order of the views", choices=("random", "sequential", "sequential_shuffled")
    )
    views_per_iter: int = option(1, "views in one step", low=1)
    device: str = option("auto", "auto, cpu, cuda, or a number: that CUDA device, -1 the CPU")
    seed: int = option(0, "seed; the same seed gives the same result", low=0)
    shading_samples: int = option(16384, "most pixels that a step shades in one view; 0 = no limit", low=0)
    max_faces: int = option(40000, "the mesh is never made finer than this", low=100)
    coarse_share: float = option(
        0.5, "share of the steps that are done at half the resolution", low=0, high=1
    )
    color_steps: int = option(
        300, "steps at the end that sharpen the colors on the finished surface; 0 = none", low=0
    )
    diffusion: float = option(
        30.0, "a face start only: how far the displacement of a vertex spreads, in edges squared", low=0.1
    )
    keep_unseen: bool = option(False, "keep large parts of the surface that no view sees")
    texture_size: int = option(1024, "side of the baked texture in texels; 0 = none", low=0, high=8192)

    def shader(self) -> ShaderConfig:
        """The shader these options ask for. Raises NextGenFaceError."""
        return ShaderConfig(
            self.hidden_features_layers,
            self.hidden_features_size,
            self.fourier_features,  # type: ignore[arg-type]
            self.activation,  # type: ignore[arg-type]
            self.fft_scale,
        )
