"""Checkpoints of NextFace and NextGenFace: recognised, converted, and opened with the model they need."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.checkpoint import load_checkpoint, restore_state
from nextgenface.config import Config
from nextgenface.errors import CheckpointError
from nextgenface.events import NullListener
from nextgenface.export import open_state
from nextgenface.facemodel.formats.basel import DERIVED_LAYOUT
from nextgenface.facemodel.model import FaceModel
from nextgenface.fitting.surface import shape_vertices
from nextgenface.foreign import BASEL_SIZES, needed_model, program, with_its_model

from tests.solver.tiny import random_state, records, tiny_model


def reference_model() -> FaceModel:
    """A model with an expression mean, half of it inside the expression basis."""
    model = tiny_model()
    mean = 3.0 * model.expression_basis[0] + 0.02 * model.shape_basis[0]
    return replace(model, expression_mean=mean.astype(np.float32))


def saved_by(
    program_name: str, path: Path, *, sizes: tuple[int, int, int] = (4, 5, 3), stage: int = 3
) -> Path:
    """A checkpoint as that program writes it: un-whitened coefficients, swapped light, its own maps."""
    shape, albedo, expression = sizes
    state = random_state(tiny_model(shape, expression, albedo, side=16), stage=stage)
    content: dict[str, object] = {
        "vShapeCoeff": state.shape.numpy(),
        "vAlbedoCoeff": state.albedo.numpy(),
        "vExpCoeff": state.expression.numpy(),
        "vRotation": state.rotation.numpy(),
        "vTranslation": state.translation.numpy(),
        "vFocals": state.focals.numpy(),
        "vShCoeffs": np.zeros((1, 81, 3), np.float32),
        "screenWidth": 100,
        "screenHeight": 80,
        "sharedIdentity": False,
    }
    if stage == 3:
        content["vEnhancedDiffuse"] = np.full((1, 8, 8, 3), 0.4, np.float32)
        content["vEnhancedSpecular"] = np.full((1, 8, 8, 3), 0.028, np.float32)
        content["vEnhancedRoughness"] = np.full((1, 8, 8, 1), 0.4, np.float32)
    written = pickle.dumps(content, protocol=2)
    core = b"cnumpy._core." if program_name == "NextGenFace" else b"cnumpy.core."
    for name in (b"cnumpy._core.", b"cnumpy.core."):
        written = written.replace(name, core)
    path.write_bytes(written)
    return path


@pytest.mark.parametrize(("writer", "roughness"), [("NextFace", 0.4**0.25), ("NextGenFace", 0.4)])
def test_maps_take_our_meaning(tmp_path: Path, writer: str, roughness: float) -> None:
    path = saved_by(writer, tmp_path / "stage3_output.pickle")
    assert program(path) == writer
    said: list[str] = []
    state = restore_state(load_checkpoint(path), tiny_model(), records(), (96, 96), say=said.append)
    assert state.stage == 3 and state.roughness is not None and state.specular is not None
    assert float(state.roughness.mean()) == pytest.approx(roughness, rel=1e-5)
    assert float(state.specular.mean()) == pytest.approx(0.35, rel=1e-5)  # F0 0.028
    assert any(writer in text for text in said) and any("maps" in text for text in said)


def test_the_face_is_the_one_of_a_model_without_an_expression_mean(tmp_path: Path) -> None:
    model = reference_model()
    checkpoint = load_checkpoint(saved_by("NextFace", tmp_path / "c.pickle", stage=2))
    state = restore_state(checkpoint, model, records(), (96, 96))
    a = checkpoint.arrays
    theirs = model.shape_mean + np.tensordot(a["vShapeCoeff"][0], model.shape_basis, 1)
    theirs = theirs + np.tensordot(a["vExpCoeff"][0], model.expression_basis, 1)
    ours = shape_vertices(model, state, 0)
    # The rest is what no expression can undo: the part of the mean outside the basis.
    assert np.linalg.norm(ours - theirs, axis=1).max() < 0.02
    assert np.linalg.norm(theirs - model.shape_mean, axis=1).mean() > 0.3


def test_coefficients_follow_a_turned_basis(tmp_path: Path) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    model = tiny_model()
    basis = np.einsum("jk,kvc->jvc", turn, model.shape_basis).astype(np.float32)
    turned = replace(model, shape_basis=basis, native={"shape": turn.astype(np.float32)})
    path = saved_by("NextFace", tmp_path / "c.pickle", stage=2)
    states = [restore_state(load_checkpoint(path), m, records(), (96, 96)) for m in (model, turned)]
    faces = [shape_vertices(m, s, 0) for m, s in zip((model, turned), states, strict=True)]
    np.testing.assert_allclose(faces[0], faces[1], atol=1e-3)
    assert not torch.allclose(states[0].shape, states[1].shape)


def test_maps_of_another_layout_are_left_out_and_said(tmp_path: Path) -> None:
    model = replace(tiny_model(), notes=(DERIVED_LAYOUT,))
    said: list[str] = []
    path = saved_by("NextFace", tmp_path / "c.pickle")
    state = restore_state(load_checkpoint(path), model, records(), (96, 96), say=said.append)
    assert state.diffuse is None and state.stage == 2
    assert any("uvParametrization" in text for text in said)


@pytest.mark.parametrize(("sizes", "trimmed"), [(BASEL_SIZES, False), ((80, 80, 80), True)])
def test_the_basel_model_is_chosen_unless_the_user_chose(
    tmp_path: Path, sizes: tuple[int, int, int], trimmed: bool
) -> None:
    arrays = {
        name: np.zeros((1, size), np.float32)
        for name, size in zip(("vShapeCoeff", "vAlbedoCoeff", "vExpCoeff"), sizes, strict=True)
    }
    config, said = with_its_model(Config(), arrays)
    assert (config.model, config.trimPca) == ("bfm", trimmed) and "model = bfm" in said
    mine = Config()
    mine.set("model", "builtin")
    assert with_its_model(mine, arrays) == (mine, "")
    assert "trimPca" in needed_model(arrays) if trimmed else "AlbedoMM" in needed_model(arrays)


def test_without_the_model_the_message_says_which_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEXTGENFACE_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    path = saved_by("NextFace", tmp_path / "stage2_output.pickle", sizes=(199, 145, 100), stage=2)
    with pytest.raises(CheckpointError, match="Basel Face Model 2017 with AlbedoMM.*bfm2017.html"):
        open_state(load_checkpoint(path), Config(), records(), NullListener())
    with pytest.raises(
        CheckpointError, match=r"does not fit the face model tiny.*It needs the Basel Face Model"
    ):
        restore_state(load_checkpoint(path), tiny_model(), records(), (96, 96))
