"""The guide's `Optimizer`: photos in, a results folder out, with every stage callable on its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import Config
from ..errors import NextGenFaceError
from ..events import (
    BarListener,
    DebugFrames,
    Listener,
    PrintListener,
    QuietListener,
    Tee,
    WarningLog,
    logged_to,
)
from ..files import prepare_output
from ..images import write_png
from ..photos import PhotoChoice
from ..results import Output, remove_result, write_results
from ..session import Session, gather_photos
from .pipeline import Pipeline
from .state import FaceState, initial_state

PathLike = str | os.PathLike[str]


class Optimizer:
    """Reconstructs the faces in one photo, or in several, into one folder.

    `config` is read, never changed, and may serve many optimizers. `listener` receives progress and warnings
    and may ask for a stop (see `nextgenface.events`); without one there is a progress bar on a terminal and
    only warnings elsewhere. Raises OutputError when `outputDir` cannot be written to, ModelError when the
    face model cannot be used.
    """

    def __init__(self, outputDir: PathLike, config: Config, *, listener: Listener | None = None) -> None:
        self.config = config
        self.outputDir = Path(outputDir).expanduser().absolute()
        prepare_output(self.outputDir)
        if listener is None:
            listener = BarListener() if sys.stderr.isatty() else QuietListener()
        self._listener = listener
        self._warnings = WarningLog()
        for text in config.warnings:
            self._warnings.warning(text)
        with self._listening():
            self.pipeline = Pipeline(config)
        self.device = self.pipeline.device
        self._session: Session | None = None

    # ---- photos and parameters ------------------------------------------------------------------------

    def setImage(
        self, imagePath: PathLike | Sequence[PathLike | PhotoChoice], sharedIdentity: bool = False
    ) -> None:
        """Read a photo, a folder of photos or a list of them, and find the faces.

        With `sharedIdentity` all photos show one person; without, each shows a person of their own. Writes
        `photo_i.png` and `landmarks{i}.png`. Photos of a folder without a face are left out with a warning.
        Raises PhotoError.
        """
        given = [imagePath] if isinstance(imagePath, (str, os.PathLike)) else list(imagePath)
        photos = [item if isinstance(item, PhotoChoice) else Path(item) for item in given]
        with self._listening() as listener:
            session = Session(self.outputDir, self.config, self.pipeline.model, self.device, listener)
            session.open_photos(gather_photos(photos), shared=sharedIdentity)
        self._session = session
        assert session.state is not None
        self.pipeline.state = session.state

    @property
    def framesNumber(self) -> int:
        """Number of photos n, 0 before `setImage`."""
        return len(self._session.records) if self._session else 0

    @property
    def landmarks(self) -> list[NDArray[np.float64]]:
        """Landmarks (L, 2) of each photo in pixels of the fitted picture."""
        return [view.landmarks.points for view in self._opened().views]

    @property
    def inputImage(self) -> Tensor:
        """The fitted pictures (n, S, S, 3), linear Rec.709."""
        return torch.from_numpy(np.stack([view.image for view in self._opened().views])).to(self.device)

    @property
    def vEnhancedDiffuse(self) -> Tensor | None:
        """Diffuse textures (m, T, T, 3) of stage 3, linear, top row first; None before it."""
        return self.pipeline.state.diffuse

    @property
    def vEnhancedSpecular(self) -> Tensor | None:
        """Specular-level textures (m, T, T, 3) of stage 3; None before it."""
        return self.pipeline.state.specular

    @property
    def vEnhancedRoughness(self) -> Tensor | None:
        """Roughness textures (m, T, T, 1) of stage 3; None before it."""
        return self.pipeline.state.roughness

    def enableGrad(self, enabled: bool = True) -> None:
        """Make the parameters of `pipeline` require gradients (or not)."""
        self.pipeline.enableGrad(enabled)

    def initCameraPos(self) -> None:
        """Put the heads where stage 1 starts: facing the camera, as large as the landmarks are apart."""
        session = self._opened()
        state = self._pull()
        start = initial_state(
            self.pipeline.model, session.views, shared=state.shared, seed=state.seed, device=self.device
        )
        self.pipeline.state = replace(
            state,
            rotation=start.rotation,
            translation=start.translation,
            focals=start.focals,
            principal=start.principal,
        )

    def getTextureIndex(self, i: int) -> int:
        """Index of the textures that photo i uses: 0 when the identity is shared, else i."""
        return self.pipeline.state.identity_of(i)

    # ---- stages ---------------------------------------------------------------------------------------

    def runStep1(self) -> None:
        """Stage 1: head pose, expression and (when asked) focal length from landmarks."""
        self._run_stage(1)

    def runStep2(self) -> None:
        """Stage 2: light, shape, expression, statistical skin and pose from the photo."""
        self._run_stage(2)

    def runStep3(self) -> None:
        """Stage 3: diffuse, specular and roughness textures from the photo."""
        self._run_stage(3)

    def run(
        self,
        imagePathOrDir: PathLike | Sequence[PathLike | PhotoChoice],
        sharedIdentity: bool = False,
        checkpoint: PathLike | None = None,
        doStep1: bool = True,
        doStep2: bool = True,
        doStep3: bool = True,
    ) -> Path:
        """The whole reconstruction; returns the path of `result.json`.

        `checkpoint` (when given) is where the stages that run go on from. Raises Cancelled when the listener
        asks for a stop; the checkpoints of finished stages stay, and no `result.json` is left from an earlier
        run.
        """
        self.setImage(imagePathOrDir, sharedIdentity)
        if checkpoint is not None and str(checkpoint):
            self.loadParameters(checkpoint)
        remove_result(self.outputDir)
        for number, wanted in enumerate((doStep1, doStep2, doStep3), start=1):
            if not wanted:
                continue
            self._run_stage(number)
            if number < 3 and self.config.saveIntermediateStage:
                self.saveOutput(self.config.rtSamples, self.outputDir / f"stage{number}")
        return self.saveOutput(self.config.rtSamples)

    # ---- files ----------------------------------------------------------------------------------------

    def saveOutput(
        self, samples: int | None = None, outputDir: PathLike | None = None, prefix: str = ""
    ) -> Path:
        """Render and write the results folder for the current parameters; returns the path of `result.json`.

        `samples` caps the samples per pixel (default `rtSamples`). Before stage 3 the maps are the
        statistical ones. `prefix` goes before every file name.
        """
        session = self._opened()
        folder = self.outputDir if outputDir is None else Path(outputDir).expanduser().absolute()
        state = self._pull()
        with self._listening() as listener:
            return write_results(
                folder,
                state,
                self.pipeline.model,
                session.records,
                Output(
                    name=session.name,
                    config=self.config.toDict(),
                    config_sources=dict(self.config.sources()),
                    device=self.device,
                    pictures=[session.photo_picture(i) for i in range(state.photo_count)],
                    source=self.outputDir,
                    samples=int(self.config.rtSamples if samples is None else samples),
                    reports=session.reports,
                    warnings=self._warnings.texts,
                    prefix=prefix,
                ),
                listener,
            )

    def saveParameters(self, fileName: PathLike) -> None:
        """Write a checkpoint of the current parameters."""
        session = self._opened()
        session.state = self._pull()
        session.save_checkpoint(Path(fileName).expanduser())

    def loadParameters(self, fileName: PathLike) -> None:
        """Read a checkpoint made from the photos that are set; the parameters then require gradients.

        Raises CheckpointError when it is damaged, hostile, or belongs to another model, size or number of
        photos.
        """
        session = self._opened()
        with self._listening():
            session.load_checkpoint(Path(fileName).expanduser())
        assert session.state is not None
        self.pipeline.state = session.state
        self.pipeline.enableGrad()

    # ---- the losses of the guide, for loops of one's own ------------------------------------------------

    def landmarkLoss(self, cameraVertices: Tensor) -> Tensor:
        """`Pipeline.landmarkLoss` against the landmarks that were found in the photos."""
        return self.pipeline.landmarkLoss(cameraVertices, [view.landmarks for view in self._opened().views])

    def regStatModel(self, coeff: Tensor, var: Tensor) -> Tensor:
        """Mean squared Mahalanobis distance of coefficients (n, K) with variances (K,)."""
        return (coeff**2 / var).mean()

    def plotLoss(self, lossArr: Sequence[float], index: int, fileName: PathLike) -> None:
        """Draw a loss curve of stage `index` (1 to 3) as a picture."""
        from ..pictures import save_loss_curve
        from ..session import STAGES

        save_loss_curve(Path(fileName), list(lossArr), STAGES[index - 1])

    def debugFrame(
        self,
        image: Tensor,
        target: Tensor,
        diffuseTexture: Tensor | None = None,
        specularTexture: Tensor | None = None,
        roughnessTexture: Tensor | None = None,
        outputPrefix: PathLike = "debug",
    ) -> None:
        """Write `{outputPrefix}_frame{i}.png` per photo: target, image, difference about grey, textures.

        `image` (n, H, W, 3 or 4) and `target` (n, H, W, 3) linear; textures (m, T, T, 3 or 1) as in
        `pipeline`. The folder is made when it is missing. Raises OutputError.
        """
        from ..pictures import debug_frame

        textures = ((diffuseTexture, False), (specularTexture, True), (roughnessTexture, True))
        prefix = Path(outputPrefix).expanduser()
        prepare_output(prefix.parent)
        for i, (drawn, wanted) in enumerate(zip(image.detach().cpu(), target.detach().cpu(), strict=True)):
            k = self.getTextureIndex(i)
            maps = [(one[k].detach().cpu().numpy(), data) for one, data in textures if one is not None]
            frame = debug_frame(wanted.numpy(), drawn[..., :3].numpy(), maps)
            write_png(prefix.with_name(f"{prefix.name}_frame{i}.png"), frame)

    # ---- inside ---------------------------------------------------------------------------------------

    def _opened(self) -> Session:
        if self._session is None:
            raise NextGenFaceError("No photo has been set yet: call setImage() first.")
        return self._session

    def _pull(self) -> FaceState:
        """The parameters in `pipeline`, which the user may have changed, with the light they mean."""
        return replace(self.pipeline.state, environment=self.pipeline.lights().detach())

    def _run_stage(self, number: int) -> None:
        session = self._opened()
        with self._listening() as listener:
            session.listener = listener
            session.state = self._pull()
            session.run_stage(number)
        assert session.state is not None
        self.pipeline.state = session.state

    @contextmanager
    def _listening(self) -> Iterator[Tee]:
        """One step's listener. The package's logged warnings reach it, too, and `result.json`."""
        debug = DebugFrames(self.outputDir / "debug", int(self.config.debugFrequency))
        extra: list[Listener] = [PrintListener()] if self.config.verbose else []
        tee = Tee(self._listener, self._warnings, debug, *extra)
        try:
            with logged_to(tee):
                yield tee
        finally:
            tee.close()
