"""Behaviours that the guide promises and that are easy to miss, one test each."""

from __future__ import annotations

import gc
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from nextgenface import Config, Optimizer
from nextgenface.checkpoint import load_checkpoint
from nextgenface.errors import CheckpointError, NextGenFaceError
from nextgenface.events import QuietListener
from nextgenface.images import read_exr, read_image
from nextgenface.measure import resident_mb
from nextgenface.pictures import PANELS

from tests.end_to_end.conftest import Run
from tests.end_to_end.small import SMALL, astronaut, save_photo, small_config

RESULT_FILES = {
    "photo_0.png", "render_0.png", "final_0.exr", "final_0.png", "diffuseMap_0.png", "specularMap_0.png",
    "roughnessMap_0.png", "mesh0.obj", "material0.mtl", "envMap_0.exr", "envMap_0.png", "landmarks0.png",
    "geometry.npz", "result.json",
}  # fmt: skip


def optimizer(folder: Path, config: Config | None = None) -> Optimizer:
    return Optimizer(folder, config or small_config(), listener=QuietListener())


def test_a_run_leaves_every_file_of_the_guide(run: Run) -> None:
    there = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    stages = {f"checkpoints/stage{k}_{what}" for k in (1, 2, 3) for what in ("output.pickle", "loss.png")}
    intermediate = {f"stage{k}/{name}" for k in (1, 2) for name in RESULT_FILES}
    debug = {f"debug/debug1_iter{n}_frame0.png" for n in (0, 2)}
    there = {name for name in there if not name.startswith("debug/debug2_")}
    assert there == RESULT_FILES | {"confidenceMap_0.png"} | stages | intermediate | debug
    result = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    assert list(result["stages"]) == ["pose", "photometric", "textures", "render"]
    for stage in result["stages"].values():
        assert stage["seconds"] > 0 and stage["peak_mb"] > 100
    assert result["name"] == run.photo.stem and result["photos"][0]["source"] == str(run.photo)
    assert result["photos"][0]["width"] == result["photos"][0]["height"] == 512
    assert result["metrics"]["psnr"][0] > 12


def test_debug_frames_of_stage_3_are_numbered_2(run: Run) -> None:
    assert (run.folder / "debug" / "debug2_iter0_frame0.png").is_file()


def test_the_strip_has_the_guides_panels_in_their_order(run: Run) -> None:
    assert PANELS == (
        "input", "overlay", "reconstruction", "illumination", "diffuse", "specular", "roughness"
    )  # fmt: skip
    strip = read_image(run.folder / "render_0.png")
    size = SMALL["maxResolution"]
    assert strip.shape == (size, 7 * int(str(size)), 3)
    panel = dict(zip(PANELS, np.split(strip, 7, axis=1), strict=True))
    face = panel["reconstruction"].sum(-1) > 0
    assert 0.1 < face.mean() < 0.8
    # The overlay is the input outside the face and the reconstruction well inside it.
    outside, inside = ~face, panel["diffuse"].sum(-1) > 0
    inside &= np.roll(inside, 3, 0) & np.roll(inside, -3, 0) & np.roll(inside, 3, 1) & np.roll(inside, -3, 1)
    assert np.abs(panel["overlay"] - panel["input"])[outside].mean() < 0.01
    assert np.abs(panel["overlay"] - panel["reconstruction"])[inside].mean() < 0.01
    # Roughness and specular level are grey, and the illumination is that of a grey face.
    for name in ("specular", "roughness"):
        assert np.ptp(panel[name][inside], axis=-1).mean() < 0.05
    brightest = np.percentile(panel["illumination"][inside].max(-1), 99)
    assert 0.8 < brightest < 0.97, "the light is shown with an exposure of its own, neither dark nor clipped"
    photo = panel["input"][inside].mean(0)
    assert photo[0] > photo[2], "the portrait's skin is warm, so the first panel is the photo"


def test_intermediate_stages_are_complete_results(run: Run) -> None:
    for k in (1, 2):
        result = json.loads((run.folder / f"stage{k}" / "result.json").read_text(encoding="utf-8"))
        assert result["stage"] == k and "render" in result["stages"]
        assert all(
            (run.folder / f"stage{k}" / name).is_file()
            for name in result["photos"][0]["files"].values()
            if name
        )


def test_verbose_prints_every_loss(run: Run) -> None:
    for stage in ("pose", "photometric", "textures"):
        found = re.findall(rf"^{stage} (\d+)/\d+ loss [-\d.e]+$", run.printed, re.MULTILINE)
        steps = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))["stages"][stage]["steps"]
        assert len(found) == steps > 0


def test_debug_frequency_0_and_silence_are_the_quiet_defaults(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = optimizer(tmp_path)
    one.setImage(photo)
    one.runStep1()
    one.runStep2()
    assert not (tmp_path / "debug").exists() and capsys.readouterr().out == ""


def test_save_output_after_stage_2_writes_the_statistical_textures(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path)
    one.setImage(run.photo)
    one.loadParameters(run.folder / "checkpoints" / "stage2_output.pickle")
    assert one.vEnhancedDiffuse is None and one.vEnhancedSpecular is None and one.vEnhancedRoughness is None
    one.saveOutput(samples=2)
    model = one.pipeline.morphableModel
    expected = model.generateTextureFromAlbedo(model.computeDiffuseAlbedo(one.pipeline.vAlbedoCoeff))[0]
    written = read_image(tmp_path / "diffuseMap_0.png")
    linear = np.where(written <= 0.04045, written / 12.92, ((written + 0.055) / 1.055) ** 2.4)
    inside = (expected > 0.02).all(-1).numpy() & (expected < 0.9).all(-1).numpy()
    assert np.abs(linear - expected.detach().numpy())[inside].max() < 0.01
    same = read_image(run.folder / "stage2" / "diffuseMap_0.png")
    np.testing.assert_array_equal(written, same)


def test_load_parameters_leaves_the_tensors_requiring_gradients(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path)
    one.setImage(run.photo)
    one.loadParameters(run.folder / "checkpoints" / "stage3_output.pickle")
    for name in (
        "vShapeCoeff",
        "vAlbedoCoeff",
        "vExpCoeff",
        "vRotation",
        "vTranslation",
        "vFocals",
        "vShCoeffs",
    ):
        tensor = getattr(one.pipeline, name)
        assert tensor.requires_grad and tensor.is_leaf, name
    loss = one.landmarkLoss(one.pipeline.transformVertices())
    loss = loss + one.regStatModel(one.pipeline.vShapeCoeff, one.pipeline.morphableModel.shapePcaVar)
    loss.backward()
    assert float(one.pipeline.vFocals.grad.abs().sum()) > 0
    assert float(loss.detach()) < 400, "the landmarks of a fitted face are within some pixels"
    assert one.vEnhancedDiffuse is not None and one.vEnhancedDiffuse.shape == (1, 64, 64, 3)
    one.debugFrame(one.pipeline.render(), one.inputImage, one.vEnhancedDiffuse, outputPrefix=tmp_path / "d/x")
    assert read_image(tmp_path / "d" / "x_frame0.png").shape == (128, 4 * 128, 3)
    one.initCameraPos()
    assert one.pipeline.vRotation.detach().flatten().tolist() == pytest.approx([np.pi, 0, 0])
    start = float(one.landmarkLoss(one.pipeline.transformVertices()).detach())
    assert float(loss.detach()) < start < 2000, "stage 1 starts near the landmarks"
    assert one.framesNumber == 1 and one.inputImage.shape == (1, 128, 128, 3) and len(one.landmarks) == 1


def test_parameters_that_were_saved_come_back(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path)
    one.setImage(run.photo)
    one.loadParameters(run.folder / "checkpoints" / "stage2_output.pickle")
    one.saveParameters(tmp_path / "mine.pickle")
    before = pickle.loads((run.folder / "checkpoints" / "stage2_output.pickle").read_bytes())
    after = pickle.loads((tmp_path / "mine.pickle").read_bytes())
    for key, value in before.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, after[key])
    for key in ("environment", "principal", "gloss"):
        np.testing.assert_array_equal(before["nextgenface"][key], after["nextgenface"][key], err_msg=key)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_going_on_after_a_stage_gives_the_same_result(tmp_path: Path, run: Run, stage: int) -> None:
    one = optimizer(tmp_path)
    one.run(
        run.photo,
        checkpoint=run.folder / "checkpoints" / f"stage{stage}_output.pickle",
        doStep1=False,
        doStep2=stage < 2,
        doStep3=stage < 3,
    )
    if stage < 3:
        expected = load_checkpoint(run.folder / "checkpoints" / "stage3_output.pickle")
        found = load_checkpoint(tmp_path / "checkpoints" / "stage3_output.pickle")
        for key, value in expected.arrays.items():
            np.testing.assert_array_equal(value, found.arrays[key], err_msg=key)
        assert expected.info is not None and found.info is not None
        for key in ("environment", "gloss", "displacement", "confidence"):
            np.testing.assert_array_equal(expected.info[key], found.info[key], err_msg=key)
    np.testing.assert_array_equal(read_exr(tmp_path / "final_0.exr"), read_exr(run.folder / "final_0.exr"))


def test_another_seed_is_another_final_picture_of_the_same_face(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path, small_config(seed=5))
    last = run.folder / "checkpoints" / "stage3_output.pickle"
    one.run(run.photo, checkpoint=last, doStep1=False, doStep2=False, doStep3=False)
    a, b = read_exr(tmp_path / "final_0.exr"), read_exr(run.folder / "final_0.exr")
    assert not np.array_equal(a, b) and np.abs(a.mean() - b.mean()) < 0.05 * b.mean()


def test_with_shared_identity_all_frames_use_the_maps_of_index_0(tmp_path: Path) -> None:
    folder = tmp_path / "person"
    save_photo(folder / "a2.png")
    save_photo(folder / "a10.png", (astronaut() * 0.7).astype(np.uint8))
    save_photo(folder / "b no face.png", np.full((200, 200, 3), 128, np.uint8))
    one = optimizer(tmp_path / "out", small_config(iterStep2=2, iterStep3=2))
    one.run(folder, sharedIdentity=True)
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["shared_identity"] and result["name"] == "out"
    assert [photo["name"] for photo in result["photos"]] == ["a2", "a10"], (
        "natural order, faceless photo left out"
    )
    assert any("no face" in text and "left out" in text for text in result["warnings"])
    assert {photo["files"]["diffuse"] for photo in result["photos"]} == {"diffuseMap_0.png"}
    assert (
        not (tmp_path / "out" / "diffuseMap_1.png").exists() and (tmp_path / "out" / "render_1.png").exists()
    )
    assert one.getTextureIndex(1) == 0 and one.pipeline.vShapeCoeff.shape[0] == 1
    assert one.pipeline.vExpCoeff.shape[0] == 2
    data = pickle.loads((tmp_path / "out" / "checkpoints" / "stage3_output.pickle").read_bytes())
    assert data["sharedIdentity"] is True and data["vEnhancedDiffuse"].shape[0] == 1


def test_without_it_n_photos_are_n_people_in_one_folder(tmp_path: Path) -> None:
    photos = [save_photo(tmp_path / f"{k}.png") for k in "ab"]
    one = optimizer(tmp_path / "out")
    one.setImage(photos)
    one.runStep1()
    one.saveOutput(samples=2)
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert [photo["geometry"] for photo in result["photos"]] == ["geometry.npz", "geometry_1.npz"]
    assert (tmp_path / "out" / "diffuseMap_1.png").exists() and one.getTextureIndex(1) == 1
    assert one.pipeline.vShapeCoeff.shape[0] == 2


def test_one_config_serves_many_optimizers_without_growing_memory(tmp_path: Path, photo: Path) -> None:
    config = small_config()
    before_values = config.toDict()
    used = []
    for k in range(5):
        one = optimizer(tmp_path / str(k), config)
        one.setImage(photo)
        one.runStep1()
        del one
        gc.collect()
        used.append(resident_mb())
    assert config.toDict() == before_values
    assert used[-1] - used[1] < 40, used


def test_trim_pca_fits_fewer_components(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path, small_config(trimPca=True))
    one.setImage(run.photo)
    one.runStep1()
    one.runStep2()
    full = load_checkpoint(run.folder / "checkpoints" / "stage1_output.pickle").arrays
    trimmed = load_checkpoint(tmp_path / "checkpoints" / "stage2_output.pickle").arrays
    for key in ("vShapeCoeff", "vAlbedoCoeff", "vExpCoeff"):
        assert trimmed[key].shape[1] <= 80 and trimmed[key].shape[1] <= full[key].shape[1]
    assert trimmed["vShapeCoeff"].shape[1] < full["vShapeCoeff"].shape[1]
    with pytest.raises(CheckpointError, match="trimPca"):
        one.loadParameters(run.folder / "checkpoints" / "stage2_output.pickle")


def test_overrides_by_attribute_and_by_ini_agree(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "my.ini").write_text("".join(f"{k} = {v}\n" for k, v in SMALL.items()), encoding="utf-8")
    by_file = Config()
    by_file.fillFromDicFile(tmp_path / "my.ini")
    by_attribute = small_config()
    assert by_file.toDict() == by_attribute.toDict()
    for name, config in (("file", by_file), ("attribute", by_attribute)):
        one = optimizer(tmp_path / name, config)
        one.setImage(photo)
        one.runStep1()
    arrays = [
        load_checkpoint(tmp_path / name / "checkpoints" / "stage1_output.pickle").arrays
        for name in ("file", "attribute")
    ]
    for key, value in arrays[0].items():
        np.testing.assert_array_equal(value, arrays[1][key])


def test_stages_without_a_photo_say_what_to_do(tmp_path: Path) -> None:
    one = optimizer(tmp_path)
    for call in (one.runStep1, one.saveOutput, lambda: one.saveParameters(tmp_path / "x.pickle")):
        with pytest.raises(NextGenFaceError, match="setImage"):
            call()


def test_a_loss_curve_can_be_drawn(tmp_path: Path) -> None:
    optimizer(tmp_path).plotLoss([3.0, 2.0, 1.5], 2, tmp_path / "loss.png")
    assert read_image(tmp_path / "loss.png").ndim == 3


def test_a_prefix_goes_before_every_name(tmp_path: Path, run: Run) -> None:
    one = optimizer(tmp_path)
    one.setImage(run.photo)
    one.loadParameters(run.folder / "checkpoints" / "stage1_output.pickle")
    path = one.saveOutput(2, tmp_path / "elsewhere", prefix="stage1_")
    assert path == tmp_path / "elsewhere" / "stage1_result.json"
    assert {p.name for p in path.parent.iterdir()} == {f"stage1_{name}" for name in RESULT_FILES}
    assert "stage1_diffuseMap_0.png" in (path.parent / "stage1_material0.mtl").read_text()
