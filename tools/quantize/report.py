"""Measures a pack beside the one that it was made from.

    report.py PACK OTHER FACES

FACES has students/ID/{front,left,right,test}.jpg, groups/ and classrooms/ with photos of several people. Each pack's recogniser sees the
faces that its own detector found, as in the service; students are enrolled with three photos and probed with the fourth.
"""

import argparse
import statistics
import sys
import time
import tomllib
from pathlib import Path

ENROLMENT = ("front", "left", "right")
# The longer side of the detector's input: the least, and what the service takes to see faces that are far away.
SIDES = (640, 1280)
ROUNDS, RUNS = 15, 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pack", "other", "faces"):
        arguments.add_argument(name, type=Path)
    given = arguments.parse_args()
    for pack in (given.pack, given.other):
        if not (pack / "manifest.toml").is_file():
            sys.exit(f"error: {pack} is no installed model pack: it has no manifest.toml")
    students = sorted(path for path in (given.faces / "students").glob("*") if path.is_dir())
    if not students:
        sys.exit(f"error: {given.faces} has no photos of students (students/ID/front.jpg ...) to measure with")
    print(table(Measured(given.pack, given.faces, students), Measured(given.other, given.faces, students)))


class Measured:
    """What a pack makes of the photos."""

    def __init__(self, pack: Path, folder: Path, students: list[Path]):
        import faces

        manifest = tomllib.loads((pack / "manifest.toml").read_text())
        self.specs, self.thresholds, self.pack = manifest["models"], manifest["thresholds"], pack
        self.detector = faces.Detector(self.file("detector"), self.specs["detector"])
        self.recognizer = faces.Recognizer(self.file("recognizer"), self.specs["recognizer"])
        self.found, self.crops = {}, {}
        for photo in [path for student in students for path in sorted(student.glob("*.jpg"))]:
            self.look(photo, 640)
        for photo in sorted(folder.glob("groups/*.jpg")) + sorted(folder.glob("classrooms/*.jpg")):
            for side in SIDES:
                self.look(photo, side)
        self.people = [student.name for student in students]
        self.embeddings = {key: [self.recognizer.embed(crop) for crop in crops] for key, crops in self.crops.items()}
        views = {student.name: [self.embeddings[student / f"{view}.jpg", 640][0] for view in ENROLMENT] for student in students}
        self.templates = unit([sum(views[name]) / len(ENROLMENT) for name in self.people])
        self.probes = unit([self.embeddings[student / "test.jpg", 640][0] for student in students])

    def file(self, role: str) -> Path:
        return self.pack / self.specs[role]["file"]

    def look(self, path: Path, side: int) -> None:
        import faces

        photo = faces.read_photo(path)
        found = self.detector.find(photo, side, self.thresholds["detection"])
        if path.parent.parent.name == "students" and not found:
            sys.exit(f"error: {self.pack} finds no face in {path}")
        self.found[path, side] = found
        self.crops[path, side] = [faces.align(photo, points) for _, _, points in found]

    def named(self) -> tuple[int, int, float, float]:
        """Students named rightly and wrongly, the least similarity to oneself, the greatest to another."""
        similarities = self.probes @ self.templates.T
        own = similarities.diagonal()
        best, sure = similarities.argmax(axis=1), similarities.max(axis=1) > self.thresholds["similarity"]
        is_right = best == range(len(best))
        others = max(value for row, line in enumerate(similarities) for column, value in enumerate(line) if row != column)
        return int((sure & is_right).sum()), int((sure & ~is_right).sum()), float(own.min()), float(others)

    def name(self, embedding) -> tuple[str, float]:
        similarities = self.templates @ unit([embedding])[0]
        best = int(similarities.argmax())
        return (self.people[best] if similarities[best] > self.thresholds["similarity"] else "", float(similarities[best]))


def unit(vectors):
    import numpy as np

    vectors = np.asarray(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(old: Measured, new: Measured) -> str:
    import faces
    import numpy as np

    # The same crops for both: what the recogniser alone changes.
    seen = [key for key in old.crops if key[1] == max(SIDES) or key[0].stem == "test"]
    crops = [crop for key in seen for crop in old.crops[key]]
    before = unit([embedding for key in seen for embedding in old.embeddings[key]])
    cosines = (before * unit([new.recognizer.embed(crop) for crop in crops])).sum(axis=1)
    rooms = [key for key in old.found if key[0].parent.parent.name != "students"]
    pairs, renamed, unnamed = [], 0, []
    for key in old.found:
        for index, (score, box, points) in enumerate(old.found[key]):
            same = max(range(len(new.found[key])), key=lambda other: faces.overlap(box, new.found[key][other][1]), default=None)
            if same is None or faces.overlap(box, new.found[key][same][1]) < faces.SAME_FACE:
                continue
            _, other_box, other_points = new.found[key][same]
            # Between the eyes, so that large faces and small ones count alike.
            shift = np.linalg.norm(other_points - points, axis=1).mean() / np.linalg.norm(points[0] - points[1])
            pairs.append((faces.overlap(box, other_box), shift))
            if key in rooms:
                (name, similarity), (new_name, other) = old.name(old.embeddings[key][index]), new.name(new.embeddings[key][same])
                renamed += name != new_name
                unnamed += [(similarity, other)] if not name else []
    overlaps, shifts = np.array(pairs).T
    crop = faces.tensor(crops[0], old.specs["recognizer"])
    frame = faces.tensor(np.zeros((384, 640, 3), np.uint8), old.specs["detector"])
    rows = [("", old.pack.name, new.pack.name)]
    for role, feed, what in (("recognizer", crop, "recogniser"), ("detector", frame, "detector at 640×384")):
        rows.append((f"{what}, KB", *(f"{pack.file(role).stat().st_size / 1000:.0f}" for pack in (old, new))))
        for threads in (1, 2):
            times = clocked([old.file(role), new.file(role)], feed, threads)
            rows.append((f"{what}, {threads} thread{'s' * (threads > 1)}, ms", *(f"{time:.2f}" for time in times)))
    rows.append(("cosine of the two embeddings of a crop: least, median", "", f"{cosines.min():.4f}, {np.median(cosines):.4f}"))
    (right, wrong, own, other), (new_right, new_wrong, new_own, new_other) = old.named(), new.named()
    rows.append((f"of {len(old.people)} students named rightly, wrongly", f"{right}, {wrong}", f"{new_right}, {new_wrong}"))
    rows.append(("similarity of a student to himself, least", f"{own:.3f}", f"{new_own:.3f}"))
    rows.append(("similarity of a student to another, greatest", f"{other:.3f}", f"{new_other:.3f}"))
    rows += [(f"faces in {path.stem}, input of {side}", *(f"{len(pack.found[path, side])}" for pack in (old, new))) for path, side in rooms]
    if unnamed:
        greatest = [max(values) for values in zip(*unnamed)]
        rows.append((f"similarity of a face of these that {old.pack.name} does not name, greatest", *(f"{value:.3f}" for value in greatest)))
    rows.append(("faces of these that get another name or none, or no longer none", "", f"{renamed}"))
    rows.append(("overlap of the two boxes of a face: least, median", "", f"{overlaps.min():.3f}, {np.median(overlaps):.3f}"))
    rows.append(("landmarks apart, in parts of the eyes' distance: median, most", "", f"{np.median(shifts):.4f}, {shifts.max():.4f}"))
    rows.insert(1, ("---", "---", "---"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def clocked(models: list[Path], feed, threads: int) -> list[float]:
    """Milliseconds of a run: medians of rounds in which the models take turns, for machines are noisy."""
    import faces

    sessions = [faces.session(model, threads) for model in models]
    times = [[] for _ in models]
    for _ in range(ROUNDS + 1):
        for session, taken in zip(sessions, times):
            begun = time.perf_counter()
            for _ in range(RUNS):
                session.run(None, {session.get_inputs()[0].name: feed})
            taken.append((time.perf_counter() - begun) / RUNS * 1000)
    # Without the first round, which warms up.
    return [statistics.median(taken[1:]) for taken in times]


if __name__ == "__main__":
    main()
