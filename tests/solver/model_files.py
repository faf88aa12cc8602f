"""Face models of other formats, written byte for byte as those formats are, from the built-in model's data.

The built-in face is sampled anew (other vertices, other triangles, other units and origins), so that a
face is
a face, and its statistics are turned into what each format stores. Nothing of a distributed model is in here.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from nextgenface.facemodel.derive.meshes import closest_points

from tests.solver.sampled_face import Sampled, head_mesh, mask_mesh, named, source

JAW_PIVOT = np.array([0.0, -8.0, -45.0])  # mm

# ---- Basel Face Model 2017 and AlbedoMM ------------------------------------------------------------------

NAMED_POINTS = {
    "center.nose.tip": 4, "center.chin.tip": 152, "center.lips.upper.outer": 0, "center.lips.lower.outer": 17,
    "right.lips.corner": 61, "left.lips.corner": 291, "right.eye.corner_outer": 33,
    "right.eye.corner_inner": 133, "left.eye.corner_outer": 263, "left.eye.corner_inner": 362,
    "right.eye.top": 159, "right.eye.bottom": 145, "left.eye.top": 386, "left.eye.bottom": 374,
}  # fmt: skip


def write_basel(
    folder: Path,
    *,
    vertices: int = 2400,
    sizes: tuple[int, int, int] = (12, 8, 10),
    albedo: bool = True,
    landmarks: str = "named",
    variant: str = "face12_nomouth",
) -> Sampled:
    """model2017-1_…h5 and albedoModel2020_…h5; sizes: shape, expression, albedo components.

    landmarks: "named" (the file's own list), "nextface" (landmark_62*.txt beside it) or "none".
    """
    mesh = mask_mesh(vertices)
    face = source()
    mean = mesh.take(face.shape_mean)
    shape = mesh.modes(face.shape_basis, face.shape_variance, sizes[0], 1)
    expression = mesh.modes(face.expression_basis, face.expression_variance, sizes[1], 2)
    smile = 0.3 * mesh.take(named("mouthSmile_L"))
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"model2017-1_{variant}.h5", "w") as file:
        for name, modes, centre in (("shape", shape, mean), ("expression", expression, smile)):
            group = file.create_group(f"{name}/model")
            group["mean"] = centre.reshape(-1).astype(np.float32)
            group["pcaBasis"] = modes.vectors.reshape(len(modes), -1).T.astype(np.float32)
            group["pcaVariance"] = modes.variance
            group["noiseVariance"] = np.zeros(1, np.float32)
        file["shape/representer/cells"] = mesh.faces.T.astype(np.int32)
        file["shape/representer/points"] = mean.T.astype(np.float32)
        if landmarks == "named":
            points = [
                {
                    "id": name,
                    "coordinates": face.shape_mean[face.landmarks["mediapipe"][mark]].astype(float).tolist(),
                }
                for name, mark in NAMED_POINTS.items()
            ]
            file.create_dataset("metadata/landmarks/json", data=np.array([json.dumps(points).encode()]))
    if landmarks == "nextface":
        for name, scheme in (("landmark_62.txt", "ibug68"), ("landmark_62_mp.txt", "mediapipe")):
            table = face.landmarks[scheme]
            chosen = range(68) if scheme == "ibug68" else [*NAMED_POINTS.values(), 1, 5, 105, 334, 9, 168]
            rows = [
                (k, int(np.linalg.norm(mean - face.shape_mean[table[k]], axis=1).argmin())) for k in chosen
            ]
            (folder / name).write_text("".join(f"{k}\t{v}\n" for k, v in rows))
    if albedo:
        diffuse = mesh.modes(face.diffuse_basis, face.diffuse_variance, sizes[2], 3)
        gloss = 0.3 * mesh.modes(face.diffuse_basis, face.diffuse_variance, sizes[2], 4).vectors * 0.05
        with h5py.File(folder / f"albedoModel2020_{variant.split('_')[0]}_albedoPart.h5", "w") as file:
            for name, centre, basis in (
                ("diffuseAlbedo", mesh.take(face.diffuse_mean), diffuse.vectors),
                ("specularAlbedo", 0.08 * mesh.take(face.specular_mean), gloss),
            ):
                group = file.create_group(f"{name}/model")
                group["mean"] = centre.reshape(-1).astype(np.float32)
                group["pcaBasis"] = basis.reshape(len(basis), -1).T.astype(np.float32)
                group["pcaVariance"] = diffuse.variance
    return mesh


# ---- FLAME -----------------------------------------------------------------------------------------------


def flame_content(mesh: Sampled, shapes: int = 300, expressions: int = 100) -> dict[str, Any]:
    """FLAME's dictionary: metres, components times their standard deviation, five joints."""
    face = source()
    mean = mesh.take(face.shape_mean)
    count = len(mean)
    origin = np.array([0.0, 25.0, -30.0])
    eyes = [mean[mesh.eyes & (mean[:, 0] > 0)], mean[mesh.eyes & (mean[:, 0] < 0)]]
    joints = np.array([[0, -120.0, -60], [0, -110.0, -55], JAW_PIVOT, *(e.mean(0) - [0, 0, 6] for e in eyes)])
    regressor = np.zeros((5, count))
    for row, joint in enumerate(joints):
        near = np.linalg.norm(mean - joint, axis=1).argsort()[:12]
        system = np.c_[mean[near], np.ones(12)].T
        regressor[row, near] = np.linalg.lstsq(system, np.r_[joint, 1.0], rcond=None)[0]
    jaw = np.linalg.norm(mesh.take(named("jawOpen")), axis=1)
    weights = np.zeros((count, 5))
    weights[:, 2] = np.clip(jaw / np.quantile(jaw, 0.97), 0, 1)
    for joint, side in ((3, mean[:, 0] > 0), (4, mean[:, 0] < 0)):
        weights[mesh.eyes & side] = 0
        weights[mesh.eyes & side, joint] = 1
    weights[:, 1] = 1 - weights.sum(1)
    # As in FLAME, the first few dozen components are nearly all of it.
    shape = mesh.modes(face.shape_basis[:30], face.shape_variance[:30], shapes, 5)
    # The jaw is a joint of its own: FLAME's expressions hardly open it.
    expression = mesh.modes(face.expression_basis[6:18], face.expression_variance[6:18], expressions, 6)
    dirs = [m.vectors * np.sqrt(m.variance)[:, None, None] for m in (shape, expression)]
    return {
        "v_template": (mean + origin) / 1000,
        "f": mesh.faces.astype(np.uint32),
        "shapedirs": np.moveaxis(np.concatenate(dirs), 0, 2).astype(np.float64) / 1000,
        "posedirs": np.zeros((count, 3, 36)),
        "J_regressor": sp.csc_matrix(regressor),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_flame(
    folder: Path, *, spacing: float = 5.0, kind: str = "chumpy", components: tuple[int, int] = (304, 12)
) -> Sampled:
    """kind: "chumpy" (FLAME 2020's pickle of Python 2), "pickle" (2023) or "npz". Landmark embedding
    beside it."""
    mesh = head_mesh(spacing, teeth=False, seed=3)
    content = flame_content(mesh, 300, components[0] + components[1] - 300)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "npz":
        content["J_regressor"] = content["J_regressor"].toarray()
        np.savez(
            folder / "flame2023_Open.npz", **{k: v for k, v in content.items() if not k.startswith("bs_")}
        )
    elif kind == "pickle":
        content["J_regressor"] = content["J_regressor"].toarray()
        (folder / "flame2023.pkl").write_bytes(pickle.dumps(content, protocol=4))
    else:
        with _chumpy() as array_type:
            content["shapedirs"] = array_type(content["shapedirs"])
            (folder / "generic_model.pkl").write_bytes(pickle.dumps(content, protocol=2))
    _write_embedding(folder / "landmark_embedding.npy", mesh)
    return mesh


class _chumpy:
    """A stand-in for the package chumpy, so that pickles name its class as FLAME 2020 does."""

    def __enter__(self) -> type:
        def keep(self: Any, x: np.ndarray) -> None:
            self.x = x

        package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
        module.Ch = type("Ch", (), {"__init__": keep, "__module__": "chumpy.ch"})  # type: ignore[attr-defined]
        sys.modules.update({"chumpy": package, "chumpy.ch": module})
        return module.Ch

    def __exit__(self, *_: object) -> None:
        for name in ("chumpy", "chumpy.ch"):
            sys.modules.pop(name, None)


def _write_embedding(path: Path, mesh: Sampled) -> None:
    face = source()
    mean = mesh.take(face.shape_mean)
    skin = mesh.faces[~mesh.eyes[mesh.faces].any(1)]
    found, weights, _ = closest_points(face.shape_mean[face.landmarks["ibug68"]].astype(float), mean, skin)
    np.save(
        path,
        np.array(
            {
                "full_lmk_faces_idx": found[None].astype(np.int32),
                "full_lmk_bary_coords": weights[None],
                "static_lmk_faces_idx": found[17:].astype(np.uint32),
                "static_lmk_bary_coords": weights[17:],
            },
            dtype=object,
        ),
        allow_pickle=True,
    )


# ---- ICT-FaceKit -----------------------------------------------------------------------------------------


def write_ict(
    folder: Path, *, spacing: float = 5.0, identities: int = 8, expressions: int | None = None
) -> Sampled:
    """FaceXModel/*.obj in centimetres, with materials and texture coordinates per corner."""
    mesh = head_mesh(spacing, teeth=True, seed=4)
    face = source()
    target = folder / "FaceXModel"
    target.mkdir(parents=True, exist_ok=True)
    mean = mesh.take(face.shape_mean)
    offset = np.array([0.0, -1.5, 2.0])
    uv = mesh.take(face.uv)
    eye_faces, teeth_faces = mesh.eyes[mesh.faces].any(1), mesh.teeth[mesh.faces].any(1)
    blocks = [("M_Face", mesh.faces[~(eye_faces | teeth_faces)])]
    for name, positive in (("M_ScleraLeft", True), ("M_ScleraRight", False)):
        blocks.append((name, mesh.faces[eye_faces & ((mean[mesh.faces[:, 0], 0] > 0) == positive)]))
    blocks.append(("M_Teeth", mesh.faces[teeth_faces]))
    # Something transparent in front of the eye, as the published model has it.
    lash = len(mean) + np.arange(3)
    tail = "".join(f"vt {u:.6f} {v:.6f}\n" for u, v in [*uv, *np.zeros((3, 2))])
    for name, faces in [*blocks, ("M_EyeLashes", lash[None])]:
        tail += f"usemtl {name}\n" + "".join(
            "f " + " ".join(f"{i + 1}/{i + 1}" for i in row) + "\n" for row in faces.tolist()
        )

    def write(name: str, points: np.ndarray, whole: bool = False) -> None:
        points = np.concatenate([points, points[:3] + [0, 0, 15]]) / 10 + offset
        text = "mtllib ICTFaceModelMaterial.mtl\n" + "".join(
            f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in points
        )
        (target / f"{name}.obj").write_text(text + (tail if whole else ""))

    write("generic_neutral_mesh", mean, whole=True)
    modes = mesh.modes(face.shape_basis, face.shape_variance, identities, 7)
    for k, (vector, variance) in enumerate(zip(modes.vectors, modes.variance, strict=True)):
        write(f"identity{k:03d}", mean + np.sqrt(variance) * vector)
    names = (
        face.blendshape_names
        if expressions is None
        else face.blendshape_names[:: len(face.blendshape_names) // expressions]
    )
    for name in names:
        write(name, mean + mesh.take(named(name)))
    return mesh


# ---- GNM Head v3 -----------------------------------------------------------------------------------------


def write_gnm(folder: Path, *, spacing: float = 5.0, sizes: tuple[int, int] = (14, 10)) -> Sampled:
    """gnm_head.npz in metres with every array of GNM 3.0."""
    mesh = head_mesh(spacing, teeth=True, seed=5)
    face = source()
    mean = mesh.take(face.shape_mean)
    count = len(mean)
    # An iris behind each cornea, which is not seen: a copy of the eyeballs, pulled in by a millimetre.
    eyes = np.nonzero(mesh.eyes)[0]
    total = count + len(eyes)

    def extended(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values[..., eyes, :]], axis=-2)

    inner = mean[eyes] - [0, 0, 1.0]
    points = (np.concatenate([mean, inner]) + [0, 40.0, 10.0]) / 1000
    number = np.full(count, -1)
    number[eyes] = count + np.arange(len(eyes))
    inside = number[mesh.faces[mesh.eyes[mesh.faces].all(1)]]
    faces = np.concatenate([mesh.faces, inside])
    uv = extended(mesh.take(face.uv))
    shape = mesh.modes(face.shape_basis, face.shape_variance, sizes[0], 8)
    expression = mesh.modes(face.expression_basis, face.expression_variance, sizes[1], 9)
    groups = {
        "skin": np.r_[~(mesh.eyes | mesh.teeth), np.zeros(len(eyes), bool)],
        "left_eye": np.r_[mesh.eyes & (mean[:, 0] > 0), inner[:, 0] > 0],
        "right_eye": np.r_[mesh.eyes & (mean[:, 0] < 0), inner[:, 0] < 0],
        "eye_exteriors": np.r_[mesh.eyes, np.zeros(len(eyes), bool)],
        "eye_interiors": np.r_[np.zeros(count, bool), np.ones(len(eyes), bool)],
        "teeth": np.r_[mesh.teeth, np.zeros(len(eyes), bool)],
    }
    joints = np.array(
        [[0, -100.0, -40], [0, 0.0, -40], *(mean[mesh.eyes & (mean[:, 0] * s > 0)].mean(0) for s in (1, -1))]
    )
    skinning = np.zeros((4, total))
    skinning[2], skinning[3] = groups["left_eye"], groups["right_eye"]
    skinning[1] = 1 - skinning.sum(0)
    np.savez(
        _made(folder) / "gnm_head.npz",
        version="3.0",
        variant="head",
        template_vertex_positions=points.astype(np.float32),
        template_joint_positions=((joints + [0, 40.0, 10.0]) / 1000).astype(np.float32),
        vertex_identity_basis=(
            extended(shape.vectors * np.sqrt(shape.variance)[:, None, None]) / 1000
        ).astype(np.float32),
        joint_identity_basis=np.zeros((sizes[0], 4, 3), np.float32),
        expression_basis=(
            extended(expression.vectors * np.sqrt(expression.variance)[:, None, None]) / 1000
        ).astype(np.float32),
        identity_names=np.array([f"head_{k:03d}" for k in range(sizes[0])]),
        joint_names=np.array(["neck", "head", "left_eye", "right_eye"]),
        expression_names=np.array([f"lower_face_region_{k:03d}" for k in range(sizes[1])]),
        joint_parent_indices=np.array([0, 0, 1, 1]),
        skinning_weights=skinning.astype(np.float32),
        quads=np.zeros((0, 4), np.int32),
        triangles=faces.astype(np.int32),
        quad_uvs=np.zeros((0, 4, 2), np.float32),
        triangle_uvs=uv[faces].astype(np.float32),
        mesh_component_names=np.array(["skin", "eyes", "teeth"]),
        mirror_indices=np.arange(total),
        joint_regressor=np.zeros((4, total), np.float32),
        pose_correctives_regressor=np.zeros((36, 3 * total), np.float32),
        bone_aligned_template_joint_orientations=np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)),
        vertex_groups=np.stack(list(groups.values())).astype(np.float32),
        vertex_group_names=np.array(list(groups)),
    )
    return mesh


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


WRITERS: dict[str, Callable[..., Sampled]] = {
    "bfm": write_basel,
    "flame": write_flame,
    "ict": write_ict,
    "gnm": write_gnm,
}
