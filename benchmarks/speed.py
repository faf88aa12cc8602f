"""How long one stage-2 step takes, against the reference's way; prints one JSON object.

    python benchmarks/speed.py [--size 512] [--repeats 5] [--threads N] [--only-deferred]

{"deferred": {"ms", "reference_way_ms", "ratio", …},
 "raytraced": {"same_step": {"ms", "ratio"}, "same_step_with_outlines": …, "stage_2_step": …},
 "final_picture": {"seconds", "samples", "noise"}, …}

All ways fit the same picture: a random head of the face model in use, turned by 15 degrees, path-traced
under soft light. The steps alternate and medians are reported, so that other work on the machine slows all.
Deferred `ms` is a step at full resolution with its share of what the stage does between steps (solving the
light, tracing shadows). `same_step` is the reference's step with our ray tracer in it (8 samples per pixel,
one bounce); `stage_2_step` a whole step of stage 2 with `engine = raytraced`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys

from nextgenface.cli.common import share_cores


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="side of the picture in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="steps measured of each way")
    parser.add_argument("--only-deferred", action="store_true", help="leave the reference's way out")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 = as the solver chooses")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("nextgenface").setLevel(logging.WARNING)
    share_cores()  # as the commands do, before torch starts its threads
    import torch
    from nextgenface.config import Config
    from nextgenface.rendering.llvm import activate, select_variant
    from speed_steps import make_case, measure

    torch.set_num_threads(options.threads or Config().threadCount())
    variant = select_variant("cpu")
    mi = activate(variant)
    mi.set_log_level(mi.LogLevel.Error)  # its warnings would go to stdout, between the JSON
    case = make_case(options.size)
    print(json.dumps(measure(case, variant, options.repeats, not options.only_deferred), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
