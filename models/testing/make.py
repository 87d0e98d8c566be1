"""Makes the models and pictures of the pack `testing`: tiny, drawn, and ours.

    pip install -r requirements.txt && python make.py && python check.py

`detector.onnx` and `recognizer.onnx` have the very tensors of SCRFD and ArcFace, and their weights are set by hand. They know faces
that are drawn like this: five landmark dots, each of a colour of its own, on a skin whose six regions have the colours that make the
person. `failing-detector.onnx` is no part of the pack: its run fails where a pixel is white, for tests of that. Everything is deterministic:
the same versions of the packages make the same bytes.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

HERE = Path(__file__).parent

# The landmarks' colours, in SCRFD's order: left eye, right eye, nose, left and right corner of the mouth.
KEYS = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1]], np.float32)

# ArcFace's template, in pixels of a 112x112 crop; drawn faces have these proportions.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
EYES = 35.2377  # the distance between the template's eyes

# A face's box, in units of the distance between the eyes, from the middle between them.
BOX = np.array([-1.1, -1.2, 1.1, 1.6], np.float32)

# A person is six colours: rectangles of the aligned crop, clear of the landmarks' dots (left, upper, right, lower).
REGIONS = [(34, 18, 54, 40), (58, 18, 78, 40), (20, 60, 36, 82), (76, 60, 92, 82), (47, 99, 65, 107), (50, 44, 62, 62)]

DIMENSION = 32
BLOCK = 8  # the finest stride
OUTPUTS = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32)]


# --- the models ---------------------------------------------------------------------------------------------------------


class Graph:
    """Collects nodes and constants; every call of an operator gives the name of its output."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def constant(self, value, dtype=np.float32):
        value = np.asarray(value, dtype)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = (f"c{len(self.constants)}", value)
        return self.constants[key][0]

    def __getattr__(self, operator):
        def call(*inputs, output=None, **attributes):
            output = output or f"n{len(self.nodes)}"
            inputs = [value if isinstance(value, str) else self.constant(value) for value in inputs]
            self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
            return output

        return call

    def save(self, name, inputs, outputs):
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.values()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="rostro")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def value_info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def detector(name="detector", fails=False):
    """Finds the dots of each colour around each cell, and a face where all five lie as they should."""
    g = Graph()
    # How much a pixel has a landmark's colour: 1 for the pure colour, 0 for every colour that differs in a channel.
    signs = (2 * KEYS - 1).reshape(5, 3, 1, 1)
    keys = g.Clip(g.Conv("input.1", signs / 1.5, np.full(5, -1.0)), 0.0, 1.0)
    ones = g.Add(g.Mul(g.ReduceMax(keys, axes=[1], keepdims=1), 0.0), 1.0)
    position = {
        axis: g.Sub(g.CumSum(ones, g.constant(axis_index, np.int64)), 1.0) for axis, axis_index in (("x", 3), ("y", 2))
    }
    moments = {"": keys, "x": g.Mul(keys, position["x"]), "y": g.Mul(keys, position["y"])}
    # Sums over blocks of the finest stride: the windows of all levels are made of whole blocks.
    blocks = {axis: g.AveragePool(moment, kernel_shape=[BLOCK] * 2, strides=[BLOCK] * 2) for axis, moment in moments.items()}
    flaw = failure(g) if fails else None
    for stride in (8, 16, 32):
        level(g, blocks, stride, flaw)
    outputs = [value_info(name, [None, columns]) for name, columns in zip(OUTPUTS, [1] * 3 + [4] * 3 + [10] * 3)]
    g.save(name, [value_info("input.1", [1, 3, None, None])], outputs)


def failure(g):
    """Zero, for which ONNX Runtime looks behind the end of a list where a pixel is white: its run fails."""
    whiteness = g.ReduceMax(g.ReduceMin("input.1", axes=[1], keepdims=1), keepdims=0)
    place = g.Cast(g.Floor(g.Add(whiteness, 0.02)), to=TensorProto.INT64)
    return g.Gather(g.constant([0.0]), g.Max(place, g.constant(0, np.int64)))


def level(g, blocks, stride, flaw=None):
    """One stride: cells look for a face within a window of eight strides around them."""
    window, step = 8 * stride // BLOCK, stride // BLOCK
    pool = dict(
        kernel_shape=[window] * 2,
        strides=[step] * 2,
        pads=[window // 2, window // 2, window // 2 - step, window // 2 - step],
        count_include_pad=1,
    )
    mass, sum_x, sum_y = (g.AveragePool(blocks[axis], **pool) for axis in ("", "x", "y"))
    present = g.Add(mass, 1e-9)
    ones = g.Add(g.Mul(g.ReduceMax(mass, axes=[1], keepdims=1), 0.0), 1.0)

    def offset(total, axis):
        """Where the dots are, from the cell, in strides."""
        cell = g.Mul(g.Sub(g.CumSum(ones, g.constant(axis, np.int64)), 1.0), float(stride))
        return g.Div(g.Sub(g.Div(total, present), cell), float(stride))

    x, y = offset(sum_x, 3), offset(sum_y, 2)

    def landmark(values, index):
        return g.Slice(values, *(g.constant(v, np.int64) for v in ([index], [index + 1], [1])))

    def ramp(value, low, high):
        """0 below `low`, 1 above `high`, or the other way round."""
        return g.Clip(g.Div(g.Sub(value, low), high - low), 0.0, 1.0)

    eyes_x = g.Sub(landmark(x, 1), landmark(x, 0))
    eyes_y = g.Sub(landmark(y, 1), landmark(y, 0))
    distance = g.Sqrt(g.Add(g.Add(g.Mul(eyes_x, eyes_x), g.Mul(eyes_y, eyes_y)), 1e-9))
    middle_x, middle_y = (g.ReduceMean(v, axes=[1], keepdims=1) for v in (x, y))
    score = g.ReduceMin(ramp(mass, 0.0002, 0.0010), axes=[1], keepdims=1)
    for gate in (
        ramp(distance, 2.0, 2.3),  # a smaller face belongs to the stride below,
        ramp(distance, 5.2, 4.9),  # a larger to the one above
        ramp(g.Abs(middle_x), 0.80, 0.55),  # and one cell is nearest
        ramp(g.Abs(middle_y), 0.80, 0.55),
        ramp(eyes_x, 0.5, 1.0),  # eyes side by side, the mouth below them
        ramp(g.Sub(landmark(y, 3), landmark(y, 0)), 0.5, 1.0),
    ):
        score = g.Mul(score, gate)
    if flaw is not None:
        score = g.Add(score, flaw)
    centre_x = g.Mul(g.Add(landmark(x, 0), landmark(x, 1)), 0.5)
    centre_y = g.Mul(g.Add(landmark(y, 0), landmark(y, 1)), 0.5)
    left, upper, right, lower = (
        g.Add(g.Mul(distance, sign * edge), g.Mul(centre, sign))
        for edge, centre, sign in zip(map(float, BOX), (centre_x, centre_y) * 2, (-1.0, -1.0, 1.0, 1.0))
    )
    points = [landmark(v, index) for index in range(5) for v in (x, y)]
    anchors(g, f"score_{stride}", [score], [g.Mul(score, 0.0)])
    anchors(g, f"bbox_{stride}", [left, upper, right, lower])
    anchors(g, f"kps_{stride}", points)


def anchors(g, name, first, second=None):
    """Two anchors a cell, row by row, as SCRFD gives them."""
    columns = len(first)
    maps = g.Concat(*first, *(second or first), axis=1)
    g.Reshape(g.Transpose(maps, perm=[0, 2, 3, 1]), g.constant([-1, columns], np.int64), output=name)


def recognizer():
    """Mean colours of the six regions, less their mean (so that light does not matter), turned at random."""
    g = Graph()
    means = [region_mean(g, region) for region in REGIONS]
    colours = g.Flatten(g.Concat(*means, axis=1))
    features = 3 * len(REGIONS)
    centre = np.eye(features) - np.full((features, features), 1 / features)
    turn, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(DIMENSION, DIMENSION)))
    g.MatMul(colours, (10 * centre @ turn[:features]).astype(np.float32), output="embedding")
    g.save("recognizer", [value_info("input", ["N", 3, 112, 112])], [value_info("embedding", ["N", DIMENSION])])


def region_mean(g, region):
    left, upper, right, lower = region
    cut = g.Slice("input", *(g.constant(v, np.int64) for v in ([upper, left], [lower, right], [2, 3])))
    return g.ReduceMean(cut, axes=[2, 3], keepdims=1)


# --- the pictures -------------------------------------------------------------------------------------------------------

SKIN = (176, 150, 128)
SUPERSAMPLING = 4


def people(count):
    """Colours for people who are all unlike each other: the least alike of many tries, one after the other."""
    random = np.random.default_rng(2026)
    chosen = []

    def unlike(colours):
        centred = colours - colours.mean()
        return centred.ravel() / np.linalg.norm(centred)

    while len(chosen) < count:
        tries = random.integers(70, 186, size=(4000, len(REGIONS), 3)).astype(np.float64)
        worst = [max((abs(unlike(t) @ unlike(c)) for c in chosen), default=0.0) for t in tries]
        chosen.append(tries[int(np.argmin(worst))])
    return [np.round(colours).astype(int) for colours in chosen]


def place(point, centre, eyes, angle):
    """A point of the template in the picture: `centre` is the middle between the eyes."""
    x, y = (np.asarray(point, float) - TEMPLATE[:2].mean(axis=0)) / EYES * eyes
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return centre[0] + c * x - s * y, centre[1] + s * x + c * y


def draw_face(canvas, colours, centre, eyes, angle):
    big = lambda points: [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points]
    spot = lambda x, y: place((x, y), centre, eyes, angle)
    ellipse = [(56 + 37 * np.cos(t), 60 + 49 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 60, endpoint=False)]
    canvas.polygon(big(spot(*point) for point in ellipse), fill=SKIN)
    for (left, upper, right, lower), colour in zip(REGIONS, colours):
        corners = [(left - 2, upper - 2), (right + 2, upper - 2), (right + 2, lower + 2), (left - 2, lower + 2)]
        canvas.polygon(big(spot(*corner) for corner in corners), fill=tuple(int(v) for v in colour))
    for (x, y), key in zip(TEMPLATE, KEYS):
        dot = [(x + 4.2 * np.cos(t), y + 4.2 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 30, endpoint=False)]
        canvas.polygon(big(spot(*point) for point in dot), fill=tuple(int(255 * v) for v in key))


def picture(size, background, faces, brightness=1.0):
    """A picture and what is in it. A face is (name, colours, middle between the eyes, distance of the eyes, angle)."""
    image = Image.new("RGB", [SUPERSAMPLING * side for side in size], background)
    canvas = ImageDraw.Draw(image)
    expected = []
    for name, colours, centre, eyes, angle in faces:
        draw_face(canvas, colours, centre, eyes, angle)
        landmarks = [[round(float(v), 1) for v in place(point, centre, eyes, angle)] for point in TEMPLATE]
        bounds = [round(float(v), 1) for v in np.tile(centre, 2) + BOX * eyes]
        expected.append({"name": name, "bbox": bounds, "landmarks": landmarks})
    image = image.resize(size, Image.BOX)
    if brightness != 1.0:
        image = image.point(lambda value: round(value * brightness))
    return image, {"width": size[0], "height": size[1], "faces": expected}


def pictures():
    names = ["alice", "bob", "carol", "dave", "stranger"]
    who = dict(zip(names, people(len(names))))
    made = {}
    shots = [((320, 240), (150, 95), 42, 0, 1.0), ((400, 400), (190, 160), 88, 6, 0.9), ((640, 480), (350, 190), 70, -7, 0.8)]
    grounds = [(120, 130, 140), (90, 110, 90), (150, 140, 120)]
    for name in names[:4]:
        for index, (size, centre, eyes, angle, brightness) in enumerate(shots):
            face = [(name, who[name], centre, eyes, angle)]
            made[f"{name}-{index + 1}.png"] = picture(size, grounds[index], face, brightness)
        probe = [(name, who[name], (300, 220), 110, 4)]
        made[f"{name}-probe.png"] = picture((640, 480), (100, 100, 130), probe, 0.95)
    made["stranger.png"] = picture((640, 480), (110, 120, 100), [("stranger", who["stranger"], (320, 200), 90, 0)])
    # Hardly large enough for the finest stride: the detector is in doubt, at a score of about 0.6.
    made["faint.png"] = picture((640, 480), (120, 130, 140), [("dave", who["dave"], (320, 200), 17.3, 0)])
    group = [(name, who[name], (150 + 245 * i, 250 + 40 * (i % 2)), 60 + 12 * i, 3 * i - 6) for i, name in enumerate(names)]
    made["group.png"] = picture((1280, 720), (125, 125, 115), group)
    made["empty.png"] = picture((640, 480), (120, 130, 140), [])
    made["one-pixel.png"] = picture((1, 1), (120, 130, 140), [])
    return made


MANIFEST = """\
# Made by testing/make.py, as the models are.
name = "testing"
description = "Tiny models that know drawn faces only: for tests, and for trying the service with nothing installed"
license = "part of Rostro, Apache-2.0"

[thresholds]
detection = 0.5
similarity = 0.5

# The detector of drawn faces sees none below some 35 pixels, and does not hint at them either: a coarse look would miss them.
[settings]
detector-size = "640"

[models.detector]
file = "detector.onnx"
sha256 = "{detector[0]}"
max_size = {detector[1]}
mean = 127.5
std = 128.0

[models.recognizer]
file = "recognizer.onnx"
sha256 = "{recognizer[0]}"
max_size = {recognizer[1]}
width = 112
height = 112
mean = 127.5
std = 127.5
dimension = 32
"""


def write_manifest():
    def digest(name):
        model = (HERE / f"{name}.onnx").read_bytes()
        return hashlib.sha256(model).hexdigest(), len(model)

    text = MANIFEST.format(detector=digest("detector"), recognizer=digest("recognizer"))
    (HERE.parent / "testing.toml").write_text(text)


def main():
    detector()
    detector("failing-detector", fails=True)
    recognizer()
    write_manifest()
    folder = HERE / "frames"
    folder.mkdir(exist_ok=True)
    expected = {}
    for name, (image, content) in pictures().items():
        image.save(folder / name, optimize=True)
        expected[name] = content
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
