"""Finding, aligning and embedding faces as the default pipeline does, for calibrating and measuring models."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime

# Where ArcFace's training faces have their landmarks in the 112x112 crop; the same as in guest/sdk/src/image/align.rs.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
STRIDES = (8, 16, 32)
# Two boxes that overlap more than this are one face, as in guest/sdk/src/detect/scrfd.rs.
SAME_FACE = 0.4


def read_photo(path: Path) -> np.ndarray:
    """A photo as RGB, upright."""
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        raise SystemExit(f"error: {path} is no photo that can be read")
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)


def session(model: Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A model ready to run; its threads do not spin, as in the service."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tensor(picture: np.ndarray, spec: dict) -> np.ndarray:
    """An RGB picture as the model wants it, by its entry in the manifest."""
    if spec.get("channels", "rgb") == "bgr":
        picture = picture[..., ::-1]
    values = (picture.astype(np.float32) - np.float32(spec["mean"])) / np.float32(spec["std"])
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def letterbox(photo: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The photo with its longer side scaled to `side`, on black of the next multiples of 32; and the scale."""
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    height, width = max(round(height * scale), 1), max(round(width * scale), 1)
    frame = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    frame[:height, :width] = cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR)
    return frame, scale


class Detector:
    """SCRFD: boxes, scores and landmarks, the surest face first."""

    def __init__(self, model: Path | bytes, spec: dict):
        self.session, self.spec = session(model), spec
        self.input = self.session.get_inputs()[0].name

    def find(self, photo: np.ndarray, side: int, threshold: float) -> list[tuple[float, np.ndarray, np.ndarray]]:
        frame, scale = letterbox(photo, side)
        outputs = self.session.run(None, {self.input: tensor(frame, self.spec)})
        scores, boxes, points = [], [], []
        for level, stride in enumerate(STRIDES):
            score, box, point = (output.reshape(-1, output.shape[-1]) for output in outputs[level::3])
            rows, columns = frame.shape[0] // stride, frame.shape[1] // stride
            grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
            # Two anchors on each point of the grid.
            centres = np.repeat(grid, 2, axis=0) * stride
            sure = score[:, 0] >= threshold
            centres, box, point = centres[sure], box[sure] * stride, point[sure] * stride
            scores.append(score[sure, 0])
            boxes.append(np.concatenate([centres - box[:, :2], centres + box[:, 2:]], axis=1))
            points.append(centres[:, None] + point.reshape(-1, 5, 2))
        scores, boxes, points = np.concatenate(scores), np.concatenate(boxes) / scale, np.concatenate(points) / scale
        found = []
        for index in np.argsort(-scores, kind="stable"):
            if all(overlap(boxes[index], box) <= SAME_FACE for _, box, _ in found):
                found.append((float(scores[index]), boxes[index], points[index]))
        return found


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    shared = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


def align(photo: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face brought onto the template by the similarity transform nearest to its landmarks (Umeyama, 1991)."""
    centre, target = points.mean(axis=0), TEMPLATE.mean(axis=0)
    (x, y), (u, v) = (points - centre).T, (TEMPLATE - target).T
    spread = (x * x + y * y).sum()
    a, b = (x @ u + y @ v) / spread, (x @ v - y @ u) / spread
    turn = np.array([[a, -b], [b, a]])
    transform = np.column_stack([turn, target - turn @ centre])
    return cv2.warpAffine(photo, transform, (112, 112), flags=cv2.INTER_LINEAR, borderValue=0)


class Recognizer:
    """An aligned face's embedding, of length 1."""

    def __init__(self, model: Path | bytes, spec: dict):
        self.session, self.spec = session(model), spec
        self.input = self.session.get_inputs()[0].name

    def embed(self, crop: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.input: tensor(crop, self.spec)})[0][0]
