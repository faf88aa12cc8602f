"""Are specular level and roughness recovered? A head of our own model with known maps; prints one JSON.

    python benchmarks/gloss.py [--size 512] [--engine deferred] [--seeds 1 2] [--set key=value …]

Every person gets a random identity, and smooth random changes of specular level and roughness on top of the
model's, twice as large as what the model knows about skin. The path tracer photographs the head under four
small lamps. The solver gets the photo, its landmarks and its lens ("from_photo"), or shape, pose and light as
well ("light_known"), so that only the skin is left to find.

{"light_known": {"lit": {"specular", "roughness"}, "highlights": …, "prior": …}, "from_photo": …, "seeds": …}

Values are correlations with the truth over the vertices of skin: `lit` those that the photo shows and direct
light reaches; `highlights` the third of them where the specular layer gives most of the light; `prior` what
the model's own maps reach on `lit`, without any photo. Weights are areas in the photo.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import Any

from nextgenface.cli.common import share_cores

LOOSENED = ("weightSpecularSymmetryReg", "weightSpecularConsistencyReg", "weightRoughnessSymmetryReg")
LOOSENING = 0.08
"""These heads' gloss varies more than the regularisers' defaults believe. On real photos so loose a fit takes
shading for gloss and the maps get blotchy, so the defaults stay as they are."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="side of the photo and the maps")
    parser.add_argument("--only-known", action="store_true", help="leave the whole solve out")
    parser.add_argument("--engine", default="deferred", help="deferred, raytraced or hybrid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one person each")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the solver"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("nextgenface").setLevel(logging.WARNING)
    share_cores()  # as the commands do, before torch starts its threads
    import torch
    from gloss_head import from_photo, light_known, make_head
    from nextgenface.config import Config
    from nextgenface.rendering.llvm import activate, select_variant

    config = Config()
    torch.set_num_threads(config.threadCount())
    mi = activate(select_variant("cpu"))
    mi.set_log_level(mi.LogLevel.Error)  # its messages would go to stdout, between the JSON
    config.maxResolution = config.textureResolution = options.size
    config.engine = options.engine
    for name in LOOSENED:
        config.set(name, str(LOOSENING * getattr(config, name)))
    for setting in options.set:
        key, _, value = setting.partition("=")
        config.set(key.strip(), value)
    ways = {"light_known": light_known} | ({} if options.only_known else {"from_photo": from_photo})
    found: dict[str, dict[str, Any]] = {name: {} for name in ways}
    for seed in options.seeds:
        head = make_head(config, seed)
        for name, way in ways.items():
            started = time.monotonic()
            found[name][str(seed)] = way(head, config)
            spent = time.monotonic() - started
            logging.info("seed %d, %s: %s (%.0f s)", seed, name, json.dumps(found[name][str(seed)]), spent)
    report: dict[str, Any] = {name: _mean(list(seeds.values())) for name, seeds in found.items()}
    report |= {"seeds": found, "engine": options.engine, "size": options.size}
    print(json.dumps(report, indent=1))
    return 0


def _mean(seeds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean correlations over the persons."""
    return {
        where: {
            name: round(sum(one[where][name] for one in seeds) / len(seeds), 3)
            for name in ("specular", "roughness")
        }
        for where in ("lit", "highlights", "prior")
    }


if __name__ == "__main__":
    sys.exit(main())
