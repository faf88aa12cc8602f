"""A whole reconstruction with a face model of another format: from its file to a results folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nextgenface.cli import reconstruct
from nextgenface.facemodel.registry import load_place
from nextgenface.images import read_image

from tests.end_to_end.small import save_photo, small_arguments
from tests.solver.model_files import write_gnm
from tests.solver.sampled_face import source


def test_a_photo_becomes_a_head_of_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source()  # the built-in model stays where it is; completed models are kept apart
    monkeypatch.setattr("nextgenface.facemodel.stored.user_data_dir", lambda: tmp_path / "home")
    place = tmp_path / "gnm"
    write_gnm(place, spacing=9.0, sizes=(6, 5))
    photo = save_photo(tmp_path / "portrait.png")
    arguments = ["--input", str(photo), "--output", str(tmp_path / "out"), "--quiet"]
    assert reconstruct.main([*arguments, *small_arguments(model=str(place))]) == 0
    folder = tmp_path / "out" / "portrait"
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    model = load_place(place)
    assert result["stage"] == 3
    assert result["model"] == {"name": "gnm-head", "hash": model.hash}
    with np.load(folder / "geometry.npz", allow_pickle=False) as geometry:
        assert geometry["neutral_vertices"].shape == (model.vertex_count, 3)
        assert np.array_equal(geometry["faces"], model.faces)
        np.testing.assert_allclose(geometry["uv"], model.uv, atol=1e-6)
        assert geometry["blendshape_names"].tolist() == list(model.blendshape_names)
    missing = [name for name in result["photos"][0]["files"].values() if not (folder / name).is_file()]
    assert missing == []
    # The eyeballs of the model are in the picture: sclera is less red than the skin around it.
    diffuse = read_image(folder / "diffuseMap_0.png")[..., :3]
    size = len(diffuse)
    column, row = model.uv[:, 0] * size, (1 - model.uv[:, 1]) * size
    at = diffuse[row.astype(int).clip(0, size - 1), column.astype(int).clip(0, size - 1)]
    sclera = (model.regions["eyes"] > 0.5) & (model.regions["iris"] < 0.5)
    cheeks = model.regions["cheeks"] > 0.5
    redness = [float((at[where, 0] - at[where, 2]).mean()) for where in (sclera, cheeks)]
    assert sclera.any() and redness[0] < redness[1] - 0.05, redness
