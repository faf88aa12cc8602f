"""Options of the method "texture": NeuralTexGen's names where it has them, and what goes beyond it."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import option


@dataclass(frozen=True)
class TextureOptions:
    """Everything that can be set. Names with an underscore are NeuralTexGen's."""

    tex_dim: int = option(2048, "side of the texture in texels", low=16, high=8192)
    niter: int = option(20, "steps at the full learning rate", low=0, high=100_000)
    niter_decay: int = option(40, "further steps while the rate falls to 0", low=0, high=100_000)
    lr: float = option(0.01, "learning rate of Adam; colours go from -1 to 1 there", low=0)
    beta1: float = option(0.5, "momentum of Adam", low=0, high=0.999)
    lr_policy: str = option(
        "lambda", "how the rate falls", choices=("lambda", "linear", "step", "plateau", "cosine")
    )
    lr_decay_iters: int = option(50, "steps after which lr_policy step divides by 10", low=1)
    lambda_L1: float = option(10.0, "weight of the absolute difference", low=0)
    lambda_L2: float = option(0.0, "weight of the squared difference", low=0)
    lambda_L1_Diff: float = option(20.0, "weight of the absolute difference of gradients", low=0)
    lambda_SSIM: float = option(0.0, "weight of 1 - SSIM", low=0)
    lambda_VGG: float = option(0.0, "weight of VGG content and style; needs vggWeights", low=0)
    lambda_Reg_Tex: float = option(
        30.0, "pull of the fine levels of the pyramid towards zero; NeuralTexGen: 0.1", low=0
    )
    vggWeights: str = option("", "file with the weights of VGG16 (.pth of torchvision, or .npz)")
    levels: int = option(4, "levels of the pyramid; more are added where pictures are coarse", low=1, high=9)
    exposure: bool = option(True, "find how bright each view is compared with the others")
    whiteBalance: bool = option(True, "... and its white balance")
    anglePower: float = option(
        2.0, "power of the cosine of the angle of view in a pixel's weight", low=0, high=16
    )
    specularRobust: bool = option(False, "leave highlights, which move from view to view, out of the texture")
    padding: int = option(16, "texels by which the edges of the layout are widened", low=0, high=256)
    unwrap: str = option(
        "auto",
        "new layout by xatlas: where there is none, always, or never",
        choices=("auto", "always", "never"),
    )
    masks: str = option(
        "auto", "missing masks: none, or found by MediaPipe (person)", choices=("auto", "none", "person")
    )
    format: str = option("auto", "format of the data set (docs/multiview.md)")
    image_scale: int = option(1, "reduce the pictures this many times", low=1, high=64)
    unit: str = option("mm", "unit of cameras and mesh", choices=("mm", "cm", "m"))
    up: str = option("y", "axis of cameras and mesh that points up", choices=("y", "z"))
    memory_mb: int = option(0, "memory the solver may take; 0: half of what is free", low=0)
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    seed: int = option(0, "not used by anything random here; written into the result", low=0, high=2**31 - 1)


UNUSED = (
    "name", "dataset_mode", "model", "checkpoints_dir", "batch_size", "serial_batches",
    "weighted_random_sampler", "num_threads", "max_dataset_size", "load_iter", "display_winsize",
    "display_freq", "display_ncols", "display_id", "display_server", "display_env", "display_port",
    "update_html_freq", "epoch", "epoch_count", "init_type", "init_gain", "phase", "no_html",
    "hierarchicalTex", "print_freq", "save_latest_freq", "save_epoch_freq", "save_by_iter", "suffix",
)  # fmt: skip
"""NeuralTexGen's options that mean nothing here: taken and named in a warning, so that its scripts run."""
