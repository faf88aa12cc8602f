"""Every Python block of the guides runs: the original one (where it is at hand) and our own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.small import ROOT, SMALL, save_photo

SPECIFICATION = (
    Path(os.environ.get("NEXTGENFACE_SHARED", ROOT.parent / "shared")) / "spec" / "nextgenface-guide.md"
)
OWN = ROOT / "docs" / "guide.md"
CAPS = {"iterStep1": 10, "iterStep2": 2, "iterStep3": 2}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(heading, code) of every Python block."""
    heading = ""
    for part in re.split(r"^(```python\n.*?^```)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```python\n"):
            yield heading, part.removeprefix("```python\n").removesuffix("```")
        else:
            found = re.findall(
                r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", part, flags=re.M | re.S), re.MULTILINE
            )
            heading = found[-1] if found else heading


def prepare(folder: Path) -> None:
    """The photos and the configuration that the guides speak of, small."""
    for name in ("s1.png", "subjects/one.png", "person_A/1.png", "person_A/2.png", "person_images/1.png"):
        save_photo(folder / "data" / "input" / name)
    (folder / "configs").mkdir()
    shipped = (ROOT / "assets" / "default.ini").read_text(encoding="utf-8")
    small = "".join(f"{key} = {value}\n" for key, value in {**SMALL, **CAPS}.items())
    (folder / "configs" / "default.ini").write_text(f"{shipped}\n{small}", encoding="utf-8")


def capped(code: str) -> str:
    """The block with small iteration counts, and the one import line that has moved."""
    for name, cap in CAPS.items():
        code = re.sub(rf"(config\.{name} = )\d+", rf"\g<1>{cap}", code)
    return code.replace("from geometry.obj_export import", "from nextgenface.geometry.obj_export import")


def run_blocks(text: str, skip: Any) -> list[str]:
    """Run the blocks in order, in one namespace; returns the headings of those that ran."""
    namespace: dict[str, Any] = {"__name__": "guide"}
    done = []
    for heading, code in blocks(text):
        if skip(code):
            continue
        exec(compile(capped(code), f"<{heading}>", "exec"), namespace)
        done.append(heading)
        # The command line would have put the first run there.
        if Path("output/checkpoints/stage3_output.pickle").exists() and not Path("output/s1").exists():
            shutil.copytree("output/checkpoints", "output/s1/checkpoints")
    return done


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason=f"the specification is not at {SPECIFICATION}")
def test_the_blocks_of_the_specification_run_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)

    def fragment(code: str) -> bool:
        # The listing of __init__, of a checkpoint's content, and the check for one certain Mitsuba variant.
        return code.startswith(("self.", "{")) or "mi.set_variant" in code

    done = run_blocks(SPECIFICATION.read_text(encoding="utf-8"), fragment)
    assert len(done) == 13, done
    assert (
        "Extracting Just the 3D Mesh" in done
        and "Multi-Image Reconstruction (Same Person, Shared Identity)" in done
    )
    for name in (
        "mesh.obj",
        "result/result.json",
        "batch/one/result.json",
        "custom/result.json",
        "person_A/render_1.png",
    ):
        assert (tmp_path / "output" / name).is_file(), name
    assert (tmp_path / "my_checkpoint.pickle").is_file()


def test_the_blocks_of_our_own_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = run_blocks(OWN.read_text(encoding="utf-8"), lambda code: False)
    assert len(done) >= 8, done


def test_our_guide_shows_every_option_command_and_name() -> None:
    from nextgenface import Optimizer, Pipeline, cli
    from nextgenface.config import options

    text = OWN.read_text(encoding="utf-8")
    missing = [name for name in options() if f"`{name}`" not in text]
    for kind in (Optimizer, Pipeline):
        public = [
            n for n in vars(kind) if not n.startswith("_") and n not in ("state", "set_parameter", "lights")
        ]
        missing += [name for name in public if name not in text]
    for module in ("reconstruct", "replay", "export"):
        parser = __import__(f"{cli.__name__}.{module}", fromlist=[module]).build_parser()
        assert parser.prog in text
        missing += [
            o
            for action in parser._actions
            for o in action.option_strings
            if o.startswith("--") and o not in text
        ]
    assert not [name for name in missing if name != "--help"], missing
