"""The options of a face from photos. No bpy in here."""

from __future__ import annotations

from .option_types import Group, Option
from .solver_options import group, option


def _weight(name: str, label: str, tip: str) -> Option:
    return option(name, label, tip, digits=4)


FACE_GROUPS: tuple[Group, ...] = (
    group(
        "face",
        "detail",
        "Detail",
        option(
            "maxResolution",
            "Photo Resolution",
            "Side of the square around the face that is fitted, in pixels. Raise it for finer skin from "
            "sharp, large photos; lower it when time or memory is short",
        ),
        option(
            "textureResolution",
            "Map Resolution",
            "Side of the skin maps in pixels. Raise it for close-ups; it helps only as far as the photo "
            "has that detail",
        ),
        option(
            "rtSamples",
            "Picture Samples",
            "Upper limit of samples per pixel of the final pictures. Lower it for a quick look; the head "
            "itself does not change",
        ),
        option(
            "noiseLevel",
            "Picture Noise",
            "Relative noise at which the final pictures are done. Raise it to finish sooner",
            digits=5,
        ),
        closed=False,
    ),
    group(
        "face",
        "camera",
        "Camera",
        option(
            "optimizeFocalLength",
            "Estimate Lens",
            "Estimate the focal length of photos whose lens is not known. Switch it off when the head "
            "comes out too flat or too deep, and enter the lens of the photo instead",
        ),
        option(
            "camFocalLength",
            "Focal Length",
            "Focal length in pixels of the fitted picture, for all photos. Easier: enter the 35 mm "
            "equivalent with each photo",
            digits=0,
        ),
    ),
    group(
        "face",
        "several",
        "Several Photos",
        option(
            "outlierPhotos",
            "Photos That Differ",
            "What becomes of a photo that does not show what the others of the same person show",
            choices=(
                ("report", "Say So", "Name it in a warning and use it like the others"),
                ("leaveOut", "Leave Out", "Give it no say in shape and maps; it keeps a camera and a light"),
            ),
        ),
    ),
    group(
        "face",
        "skin",
        "Skin Maps",
        _weight(
            "weightDiffuseSymmetryReg",
            "Color Symmetry",
            "Pull of the color map towards left-right symmetry. Raise it in hard light, when a shadow "
            "stays in the skin; lower it for birthmarks and make-up on one side",
        ),
        _weight(
            "weightDiffuseConsistencyReg",
            "Color Closeness",
            "Pull of the color map towards the statistical skin. Raise it to keep shadows out; lower it "
            "to keep more of what the photo shows",
        ),
        _weight(
            "weightDiffuseSmoothnessReg",
            "Color Smoothness",
            "Smoothness of the color map. Raise it for noisy photos",
        ),
        _weight(
            "weightSpecularSymmetryReg",
            "Specular Symmetry",
            "Pull of the specular map towards left-right symmetry. Raise it when a highlight stays on "
            "one side",
        ),
        _weight(
            "weightSpecularConsistencyReg",
            "Specular Closeness",
            "Pull of the specular map towards the statistical skin. Raise it when the skin looks oily",
        ),
        _weight(
            "weightSpecularSmoothnessReg",
            "Specular Smoothness",
            "Smoothness of the specular map. Raise it when highlights sparkle",
        ),
        _weight(
            "weightRoughnessSymmetryReg",
            "Roughness Symmetry",
            "Pull of the roughness map towards left-right symmetry. Raise it when one cheek is glossier",
        ),
        _weight(
            "weightRoughnessConsistencyReg",
            "Roughness Closeness",
            "Pull of the roughness map towards the statistical skin. Raise it when the gloss is patchy",
        ),
        _weight(
            "weightRoughnessSmoothnessReg",
            "Roughness Smoothness",
            "Smoothness of the roughness map. Raise it when the gloss is spotty",
        ),
    ),
    group(
        "face",
        "steps",
        "Steps and Weights",
        option(
            "iterStep1",
            "Pose Steps",
            "Upper limit of steps of stage 1. It stops by itself when it has converged",
        ),
        option(
            "iterStep2",
            "Shape Steps",
            "Upper limit of steps of stage 2. Lower it for a quick look, raise it when the warning says "
            "that it had not converged",
        ),
        option(
            "iterStep3",
            "Texture Steps",
            "Upper limit of steps of stage 3. Lower it for a quick look or when shadows creep into the skin",
        ),
        _weight(
            "weightLandmarksLossStep2",
            "Landmarks, Stage 2",
            "How much landmarks count against the picture in stage 2. Raise it when mouth or eyes slip "
            "away; lower it when the landmarks are off",
        ),
        _weight(
            "weightLandmarksLossStep3",
            "Landmarks, Stage 3",
            "How much landmarks count against the picture in stage 3",
        ),
        _weight(
            "weightShapeReg",
            "Mean Shape",
            "Pull towards the mean face. Raise it when the head looks deformed; lower it for rare faces",
        ),
        _weight(
            "weightExpressionReg",
            "Neutral Expression",
            "Pull towards a neutral expression. Raise it when the face grimaces; lower it for strong "
            "expressions",
        ),
        _weight(
            "weightAlbedoReg",
            "Mean Skin",
            "Pull towards mean skin color. Raise it when colored light gets into the skin",
        ),
    ),
    group(
        "face",
        "model",
        "Face Model",
        option(
            "model",
            "Model",
            "Face model: builtin, the name of another one from the list in the preferences, or a file",
        ),
        option(
            "path",
            "Basel Face Model",
            "Folder of the Basel Face Model, for the models that need it",
            subtype="DIR_PATH",
        ),
        option(
            "trimPca",
            "Fewer Components",
            "Use at most 80 components of each kind: faster, less like the person",
        ),
    ),
    group(
        "face",
        "landmarks",
        "Landmarks",
        option(
            "lamdmarksDetectorType",
            "Detector",
            "What finds the landmarks. Try the other one when points lie off the face in landmarks0.png",
            choices=(
                ("mediapipe", "MediaPipe", "468 points; comes with the solver"),
                ("fan", "FAN", "68 points; needs the package face-alignment in the solver's environment"),
            ),
        ),
        option(
            "landmarker",
            "Landmarker File",
            "A face_landmarker.task, which also gives the values of 52 blendshapes. Empty: the usual "
            "places, then the detector without such a file",
            subtype="FILE_PATH",
        ),
        option(
            "fanWeights",
            "FAN Weights",
            "File or folder with the weights of FAN. Empty: face-alignment fetches its own",
            subtype="FILE_PATH",
        ),
    ),
    group(
        "face",
        "light",
        "Light Picture",
        option(
            "bands",
            "Bands",
            "Spherical-harmonics bands of envMap_0.png. Blender's own light does not change with it",
        ),
        option("envMapRes", "Side", "Side of envMap_0.png in pixels"),
        option(
            "smoothSh",
            "Smooth",
            "Take the ringing of few bands out of envMap_0.png",
        ),
        option("saveExr", "Also as EXR", "Write that picture as a float EXR as well"),
    ),
    group(
        "face",
        "computing",
        "Computing",
        option(
            "seed",
            "Seed",
            "The same seed gives the same result. Change it to see how much chance there is in one",
        ),
        option(
            "threads",
            "Threads",
            "Processor threads. 0: the cores that are free for it. Lower it to keep Blender quick",
        ),
        option(
            "engine",
            "Engine",
            "How pictures are drawn while fitting. Rays take longer and match the photo a little closer; "
            "in other light the head is no better for it",
            choices=(
                ("deferred", "Deferred", "Fast and free of noise"),
                (
                    "hybrid",
                    "Ray-Traced Finish",
                    "Deferred, with the last steps of skin maps and light ray-traced",
                ),
                ("raytraced", "Ray Traced", "Slow; for comparison"),
            ),
        ),
        option(
            "rtTrainingSamples",
            "Training Samples",
            "Samples per pixel while fitting with rays. Raise it when the loss jumps from step to step",
        ),
        option(
            "rtBounces",
            "Light Bounces",
            "Reflections that rays follow while fitting; 1 is direct light only. Raise it for light that "
            "falls from skin on skin, beside the nose and under the chin",
        ),
        option(
            "saveIntermediateStage",
            "Keep Stages",
            "Write complete results after stages 1 and 2, too",
        ),
        option(
            "debugFrequency",
            "Debug Pictures",
            "Write a comparison to the folder debug every so many steps; 0 writes none",
        ),
    ),
)
