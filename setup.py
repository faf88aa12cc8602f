"""Tells setuptools of the one folder outside the package: the assets. The rest is in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

ASSETS = Path("assets")
asset_packages = ["nextgenface.assets"]
for folder in sorted(path for path in ASSETS.rglob("*") if path.is_dir()):
    asset_packages.append("nextgenface.assets." + ".".join(folder.relative_to(ASSETS).parts))

setup(packages=[*find_namespace_packages("solver", include=["nextgenface*"]), *asset_packages])
