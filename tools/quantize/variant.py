"""Makes the variant of a pack's recogniser that computes in 8-bit integers, and compares the two.

    variant.py PACK OUT.onnx --photos DIR

PACK is an installed pack's folder, with a detector of SCRFD's kind and a recogniser of ArcFace's. DIR has photos of faces, by which the
ranges of activations are found. Every fifth photo, and those named `test`, are left out of that: the two models are compared on them.
"""

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path

# Convolutions that stay in floats: all later ones inherit the errors of the first, and nothing evens out those of the last.
FIRST, LAST = 4, 2
# Faces that find the ranges, and faces that are compared, at most. More change little and take time.
CALIBRATION_FACES, COMPARED_FACES = 256, 1000
# Photos that are read at most, and faces that find the ranges at least.
MOST_PHOTOS, LEAST_FACES = 2000, 30
# One photo in this many is left out of the calibration, and compared.
HELD_OUT = 5
# The least 1st percentile of the cosine similarity to the floats' embeddings. Below it a variant could change who is recognised.
LEAST_SIMILARITY = 0.98
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pack", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--photos", type=Path, required=True)
    given = arguments.parse_args()
    manifest = tomllib.loads((given.pack / "manifest.toml").read_text(encoding="utf-8"))
    for role in ("detector", "recognizer"):
        if role not in manifest["models"]:
            fail(f"the pack has no model for the role `{role}`")
    photos = spread(sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in SUFFIXES), MOST_PHOTOS)
    if not photos:
        fail(f"{given.photos} has no photos ({', '.join(SUFFIXES)}) of faces; name another folder with --photos")
    used, compared = crops_of(photos, given.pack, manifest)
    if len(used) < LEAST_FACES or not compared:
        fail(
            f"the photos have {len(used)} faces to find the ranges by, and {len(compared)} to compare; "
            f"at least {LEAST_FACES} and 1 are needed, and some hundred of many people give better ranges"
        )
    source = given.pack / manifest["models"]["recognizer"]["file"]
    print(f"calibrating with {min(len(used), CALIBRATION_FACES)} faces", flush=True)
    compute_in_8_bits(source, given.out, spread(used, CALIBRATION_FACES))
    compare(source, given.out, spread(compared, COMPARED_FACES))


def fail(message: str):
    sys.exit(f"error: {message}")


def spread(values: list, most: int) -> list:
    """At most `most` of the values, evenly spread, so that all photos are represented."""
    return [values[index * len(values) // most] for index in range(most)] if len(values) > most else values


def crops_of(photos: list[Path], pack: Path, manifest: dict) -> tuple[list, list]:
    """The recogniser's inputs for the faces of these photos: those to find the ranges by, and the others."""
    import cv2
    import faces

    detector_spec, recognizer_spec = manifest["models"]["detector"], manifest["models"]["recognizer"]
    detector = faces.Detector(pack / detector_spec["file"], detector_spec)
    used, held_out, unreadable = [], [], 0
    for index, path in enumerate(photos, 1):
        if sys.stderr.isatty():
            print(f"\rreading photos: {index} of {len(photos)}", end="", file=sys.stderr, flush=True)
        try:
            photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        except cv2.error:
            # Photos above OpenCV's limit of pixels.
            photo = None
        if photo is None:
            unreadable += 1
            continue
        photo = cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
        for _, _, points in detector.find(photo, 640, manifest["thresholds"]["detection"]):
            crop = faces.tensor(faces.align(photo, points), recognizer_spec)
            (held_out if path.stem == "test" or index % HELD_OUT == 0 else used).append(crop)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if unreadable:
        print(f"warning: {unreadable} of {len(photos)} photos cannot be read", file=sys.stderr)
    return used, held_out


def compute_in_8_bits(source: Path, target: Path, crops: list) -> None:
    """Static quantization: a scale for each output channel of the weights, ranges of activations from the crops."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name: str):
            self.rest = iter([{name: crop} for crop in crops])

        def get_next(self):
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        newer, prepared = Path(folder) / "newer.onnx", Path(folder) / "prepared.onnx"
        model = onnx.load(source)
        # Scales for each channel need the operators of version 13.
        if next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")) < 13:
            model = version_converter.convert_version(model, 13)
        onnx.save(model, newer)
        quant_pre_process(newer, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared,
            Path(folder) / "quantized.onnx",
            Reader(graph.input[0].name),
            # With QOperator, ONNX Runtime has nothing to find out when it loads the model.
            quant_format=QuantFormat.QOperator,
            op_types_to_quantize=["Conv", "Relu", "Clip", "Add"],
            per_channel=True,
            # Signed activations are several times as slow.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=convolutions[:FIRST] + convolutions[-LAST:],
        )
        model = onnx.load(Path(folder) / "quantized.onnx")
    target.write_bytes(model.SerializeToString(deterministic=True))


def compare(source: Path, made: Path, crops: list) -> None:
    """Prints how far the embeddings and times of the two models differ, and fails if the embeddings differ too much."""
    import faces
    import numpy as np

    sessions = [faces.session(model) for model in (source, made)]
    embeddings, times = [], []
    for session in sessions:
        name = session.get_inputs()[0].name
        session.run(None, {name: crops[0]})
        begun = time.perf_counter()
        vectors = np.array([session.run(None, {name: crop})[0][0] for crop in crops])
        times.append((time.perf_counter() - begun) / len(crops) * 1000)
        embeddings.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    cosines = (embeddings[0] * embeddings[1]).sum(axis=1)
    first, median = np.percentile(cosines, 1), np.median(cosines)
    print(f"faces compared: {len(crops)}")
    print(f"cosine similarity to the floats' embedding: 1st percentile {first:.4f}, median {median:.4f}, least {cosines.min():.4f}")
    print(f"time of a face on one thread: {times[1]:.2f} ms, in floats {times[0]:.2f} ms ({times[1] / times[0]:.2f})")
    if not first >= LEAST_SIMILARITY:
        fail(
            f"the embeddings differ too much: the 1st percentile must be at least {LEAST_SIMILARITY}; "
            "give more photos, of more people and with the light and cameras of the frames"
        )


if __name__ == "__main__":
    main()
