"""Face models that people have: what they are, whose they are, where they come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """One entry of the catalogue. `download` is None where the makers ask for a form or an account."""

    name: str
    title: str
    kind: str  # the format's NAME
    licence: str
    page: str
    files: str  # which files are needed, for people
    commercial: bool
    download: Download | None = None


@dataclass(frozen=True)
class Download:
    """Where a model that may be fetched lies, and how what arrives is checked.

    `huggingface`: one file of a repository; its SHA-256 is asked of the hub. `github`: the files of a
    folder at
    a commit; each must have the object id that git gives it at that commit.
    """

    service: str  # "huggingface" or "github"
    repository: str  # owner/name
    revision: str
    path: str
    megabytes: int


KNOWN: tuple[KnownModel, ...] = (
    KnownModel(
        "bfm",
        "Basel Face Model 2017 with AlbedoMM",
        "Basel Face Model",
        "BFM: research only, form of the University of Basel; AlbedoMM: see its page",
        "https://faces.dmi.unibas.ch/bfm/bfm2017.html",
        "model2017-1_face12_nomouth.h5 and albedoModel2020_face12_albedoPart.h5 "
        "(https://github.com/waps101/AlbedoMM/releases)",
        commercial=False,
    ),
    KnownModel(
        "flame2023-open",
        "FLAME 2023 Open",
        "FLAME",
        "CC-BY-4.0, account at MPI needed",
        "https://flame.is.tue.mpg.de",
        "flame2023_Open.pkl (or .npz); landmark_embedding.npy and FLAME_texture.npz where you have them",
        commercial=True,
    ),
    KnownModel(
        "flame2020",
        "FLAME 2020 and 2023",
        "FLAME",
        "research only, account at MPI needed",
        "https://flame.is.tue.mpg.de",
        "generic_model.pkl or flame2023.pkl; landmark_embedding.npy and FLAME_texture.npz where you have "
        "them",
        commercial=False,
    ),
    KnownModel(
        "ict",
        "ICT-FaceKit, light model",
        "ICT-FaceKit",
        "MIT",
        "https://github.com/ICT-VGL/ICT-FaceKit",
        "the folder FaceXModel with its OBJ files",
        commercial=True,
        download=Download("github", "ICT-VGL/ICT-FaceKit", "master", "FaceXModel", 520),
    ),
    KnownModel(
        "gnm",
        "GNM Head v3",
        "GNM Head",
        "Apache-2.0",
        "https://github.com/google/GNM",
        "gnm_head.npz",
        commercial=True,
        download=Download("huggingface", "google/gnm-v3", "main", "v3_0/gnm_head.npz", 60),
    ),
)


def known(name: str) -> KnownModel | None:
    """The catalogue's entry of a name, None when there is none."""
    return next((entry for entry in KNOWN if entry.name == name), None)
