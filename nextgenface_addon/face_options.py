"""The options of a face from photos. No bpy in here."""

from __future__ import annotations

from .option_types import Group, Option


def _weight(name: str, label: str, default: float, tip: str) -> Option:
    return Option(name, label, default, tip, low=0.0, digits=4)


FACE_GROUPS: tuple[Group, ...] = (
    Group(
        "detail",
        "Detail",
        (
            Option(
                "maxResolution",
                "Photo Resolution",
                512,
                "Side of the square around the face that is fitted, in pixels. Raise it for finer skin from "
                "sharp, large photos; lower it when time or memory is short",
                low=64,
                high=8192,
            ),
            Option(
                "textureResolution",
                "Map Resolution",
                512,
                "Side of the skin maps in pixels. Raise it for close-ups; it helps only as far as the photo "
                "has that detail",
                low=32,
                high=8192,
            ),
            Option(
                "rtSamples",
                "Picture Samples",
                10000,
                "Upper limit of samples per pixel of the final pictures. Lower it for a quick look; the head "
                "itself does not change",
                low=1,
            ),
            Option(
                "noiseLevel",
                "Picture Noise",
                0.01,
                "Relative noise at which the final pictures are done. Raise it to finish sooner",
                low=0.0001,
                high=1.0,
                digits=4,
            ),
        ),
        closed=False,
    ),
    Group(
        "camera",
        "Camera",
        (
            Option(
                "optimizeFocalLength",
                "Estimate Lens",
                True,
                "Estimate the focal length of photos whose lens is not known. Switch it off when the head "
                "comes out too flat or too deep, and enter the lens of the photo instead",
            ),
            Option(
                "camFocalLength",
                "Focal Length",
                3000.0,
                "Focal length in pixels of the fitted picture, for all photos. Easier: enter the 35 mm "
                "equivalent with each photo",
                low=1.0,
                digits=0,
            ),
        ),
    ),
    Group(
        "skin",
        "Skin Maps",
        (
            _weight(
                "weightDiffuseSymmetryReg",
                "Color Symmetry",
                300.0,
                "Pull of the color map towards left-right symmetry. Raise it in hard light, when a shadow "
                "stays in the skin; lower it for birthmarks and make-up on one side",
            ),
            _weight(
                "weightDiffuseConsistencyReg",
                "Color Closeness",
                100.0,
                "Pull of the color map towards the statistical skin. Raise it to keep shadows out; lower it "
                "to keep more of what the photo shows",
            ),
            _weight(
                "weightDiffuseSmoothnessReg",
                "Color Smoothness",
                0.001,
                "Smoothness of the color map. Raise it for noisy photos",
            ),
            _weight(
                "weightSpecularSymmetryReg",
                "Specular Symmetry",
                200.0,
                "Pull of the specular map towards left-right symmetry. Raise it when a highlight stays on "
                "one side",
            ),
            _weight(
                "weightSpecularConsistencyReg",
                "Specular Closeness",
                2.0,
                "Pull of the specular map towards the statistical skin. Raise it when the skin looks oily",
            ),
            _weight(
                "weightSpecularSmoothnessReg",
                "Specular Smoothness",
                0.001,
                "Smoothness of the specular map. Raise it when highlights sparkle",
            ),
            _weight(
                "weightRoughnessSymmetryReg",
                "Roughness Symmetry",
                200.0,
                "Pull of the roughness map towards left-right symmetry. Raise it when one cheek is glossier",
            ),
            _weight(
                "weightRoughnessConsistencyReg",
                "Roughness Closeness",
                0.0,
                "Pull of the roughness map towards the statistical skin. Raise it when the gloss is patchy",
            ),
            _weight(
                "weightRoughnessSmoothnessReg",
                "Roughness Smoothness",
                0.002,
                "Smoothness of the roughness map. Raise it when the gloss is spotty",
            ),
        ),
    ),
    Group(
        "steps",
        "Steps and Weights",
        (
            Option(
                "iterStep1",
                "Pose Steps",
                2000,
                "Upper limit of steps of stage 1. It stops by itself when it has converged",
                low=0,
            ),
            Option(
                "iterStep2",
                "Shape Steps",
                400,
                "Upper limit of steps of stage 2. Lower it for a quick look, raise it when the warning says "
                "that it had not converged",
                low=0,
            ),
            Option(
                "iterStep3",
                "Texture Steps",
                500,
                "Upper limit of steps of stage 3. Lower it for a quick look or when shadows creep into the "
                "skin",
                low=0,
            ),
            _weight(
                "weightLandmarksLossStep2",
                "Landmarks, Stage 2",
                0.001,
                "How much landmarks count against the picture in stage 2. Raise it when mouth or eyes slip "
                "away; lower it when the landmarks are off",
            ),
            _weight(
                "weightLandmarksLossStep3",
                "Landmarks, Stage 3",
                0.001,
                "How much landmarks count against the picture in stage 3",
            ),
            _weight(
                "weightShapeReg",
                "Mean Shape",
                0.001,
                "Pull towards the mean face. Raise it when the head looks deformed; lower it for rare faces",
            ),
            _weight(
                "weightExpressionReg",
                "Neutral Expression",
                0.001,
                "Pull towards a neutral expression. Raise it when the face grimaces; lower it for strong "
                "expressions",
            ),
            _weight(
                "weightAlbedoReg",
                "Mean Skin",
                0.001,
                "Pull towards mean skin color. Raise it when colored light gets into the skin",
            ),
        ),
    ),
    Group(
        "model",
        "Face Model",
        (
            Option(
                "model",
                "Model",
                "builtin",
                "Face model: builtin, the name of another one from the list in the preferences, or a file",
            ),
            Option(
                "path",
                "Basel Face Model",
                "./data/baselMorphableModel",
                "Folder of the Basel Face Model, for the models that need it",
                subtype="DIR_PATH",
            ),
            Option(
                "trimPca",
                "Fewer Components",
                False,
                "Use at most 80 components of each kind: faster, less like the person",
            ),
        ),
    ),
    Group(
        "landmarks",
        "Landmarks",
        (
            Option(
                "lamdmarksDetectorType",
                "Detector",
                "mediapipe",
                "What finds the landmarks. Try the other one when points lie off the face in landmarks0.png",
                choices=(
                    ("mediapipe", "MediaPipe", "468 points; comes with the solver"),
                    ("fan", "FAN", "68 points; needs the package face-alignment in the solver's environment"),
                ),
            ),
            Option(
                "landmarker",
                "Landmarker File",
                "",
                "A face_landmarker.task, which also gives the values of 52 blendshapes. Empty: the usual "
                "places, then the detector without such a file",
                subtype="FILE_PATH",
            ),
            Option(
                "fanWeights",
                "FAN Weights",
                "",
                "File or folder with the weights of FAN. Empty: face-alignment fetches its own",
                subtype="FILE_PATH",
            ),
        ),
    ),
    Group(
        "light",
        "Light Picture",
        (
            Option(
                "bands",
                "Bands",
                9,
                "Spherical-harmonics bands of envMap_0.png. Blender's own light does not change with it",
                low=1,
                high=9,
            ),
            Option("envMapRes", "Side", 64, "Side of envMap_0.png in pixels", low=4, high=4096),
            Option(
                "smoothSh",
                "Smooth",
                True,
                "Take the ringing of few bands out of envMap_0.png",
            ),
            Option("saveExr", "Also as EXR", False, "Write that picture as a float EXR as well"),
        ),
    ),
    Group(
        "computing",
        "Computing",
        (
            Option(
                "seed",
                "Seed",
                0,
                "The same seed gives the same result. Change it to see how much chance there is in one",
                low=0,
            ),
            Option(
                "threads",
                "Threads",
                0,
                "Processor threads. 0: the cores that are free for it. Lower it to keep Blender quick",
                low=0,
                high=1024,
            ),
            Option(
                "engine",
                "Engine",
                "deferred",
                "How pictures are drawn while fitting",
                choices=(
                    ("deferred", "Deferred", "Fast and free of noise"),
                    ("raytraced", "Ray Traced", "Slow; for comparison"),
                ),
            ),
            Option(
                "rtTrainingSamples",
                "Training Samples",
                8,
                "Samples per pixel of the ray-traced engine while fitting. Raise it when its steps are noisy",
                low=1,
                high=100000,
            ),
            Option(
                "saveIntermediateStage",
                "Keep Stages",
                False,
                "Write complete results after stages 1 and 2, too",
            ),
            Option(
                "debugFrequency",
                "Debug Pictures",
                30,
                "Write a comparison to the folder debug every so many steps; 0 writes none",
                low=0,
            ),
        ),
    ),
)
