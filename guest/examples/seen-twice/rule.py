"""Names a person whose face was seen twice within some seconds.

A false likeness rarely lasts: a stranger who resembles a person in one frame does not in the next.
A sighting is a face whose best candidate is above the threshold. It is fresh if its embedding is of
this frame; others repeat the last embedding of their track and are no new evidence. The second fresh
sighting of a person by a track confirms it. After a longer gap between sightings, of either kind, the
next one counts as the first.
"""

import json
from dataclasses import dataclass, field


@dataclass
class Face:
    """What the rule needs of a face. Without tracks, `track` is None."""

    track: int | None
    is_fresh: bool
    candidates: list  # of ids and similarities, most similar first


@dataclass
class Sighting:
    """The last sighting of a person by a track."""

    time: int  # in milliseconds
    is_confirmed: bool


@dataclass
class Decided:
    """What becomes of a frame: for each face a confidence, or the reason why it is unknown."""

    answers: list
    confirmed: list = field(default_factory=list)  # indices of faces that this frame confirmed
    state: bytes | None = None


def best_faces(faces, threshold):
    """Returns each face's confidence in its best candidate, or the reason why it is unknown.

    Each person is assigned to the most similar face only.
    """
    answers, claims = [], []
    for index, face in enumerate(faces):
        if not face.candidates:
            answers.append("no_candidates")
        elif face.candidates[0][1] <= threshold:
            answers.append("below_threshold")
        else:
            claims.append((index, *face.candidates[0]))
            answers.append("already_matched")
    assigned = set()
    for index, person, similarity in sorted(claims, key=lambda claim: -claim[2]):
        if person not in assigned:
            assigned.add(person)
            answers[index] = min(max(similarity, 0.0), 1.0)
    return answers


def decide(faces, threshold, within, time, state, limit):
    """Decides on a frame of a stream. `within` and `time` are in milliseconds.

    `state` is what the last frame returned: empty for the first one, and after the host dropped it.
    `limit` is the most bytes of the next one.
    """
    sightings = read(state, time, within)
    decided = Decided(best_faces(faces, threshold))
    for index, answer in enumerate(decided.answers):
        if isinstance(answer, str):
            continue
        face = faces[index]
        key = face.track, face.candidates[0][0]
        last = sightings.get(key)
        if last is None:
            # An embedding of an earlier frame begins nothing.
            sighting = Sighting(time, False) if face.is_fresh else None
        else:
            sighting = Sighting(time, last.is_confirmed or face.is_fresh)
        if sighting is not None:
            sightings[key] = sighting
        if sighting is None or not sighting.is_confirmed:
            decided.answers[index] = "seen_once"
        elif not last.is_confirmed:
            decided.confirmed.append(index)
    decided.state = written(sightings, limit)
    return decided


def read(state, time, within):
    """Returns the sightings of the last frames that are not too old, by track and person."""
    sightings = {}
    for track, person, last, is_confirmed in json.loads(state) if state else []:
        if time - last <= within:
            sightings[track, person] = Sighting(last, is_confirmed)
    return sightings


def written(sightings, limit):
    """Returns the state for the next frame. Over the limit, the oldest sightings are left out."""
    rows = [[*key, it.time, it.is_confirmed] for key, it in sightings.items()]
    rows.sort(key=lambda row: -row[2])
    texts, size = [], 2
    for row in rows:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
        size += len(text) + 1
        if size > limit:
            break
        texts.append(text)
    return b"[" + b",".join(texts) + b"]"
