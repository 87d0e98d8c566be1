"""Chooses the face of an enrolment photo, or the reasons to reject it, as the default pipeline does.

`rostro pipeline new` made this file from the table of limits that Rust, JavaScript and Python
share; keep changes of your own in rule.py.
"""

import struct

TABLE = {
  "limits": {
    "standard": { "size": 50, "yaw": 0.85, "darkest": 40, "brightest": 220, "outside": 0.5, "sharpness": 50, "companion": 0.5 },
    "strict": { "size": 112, "yaw": 0.78, "darkest": 50, "brightest": 200, "outside": 0.25, "sharpness": 100, "companion": 0 }
  },
  "messages": {
    "no_face": "No face was found; take the photo from nearer, with the whole face in it.",
    "low_detection_score": "The face is not clear enough; take the photo from nearer, in better light, facing the camera.",
    "several_people": "There are several people in the photo; take one of this person alone.",
    "face_too_small": "The face is too small; take the photo from nearer.",
    "face_turned": "The face is turned too far to the side; look towards the camera.",
    "too_dark": "The face is too dark; take the photo in better light, not against it.",
    "too_bright": "The face is too bright; take the photo out of glaring light.",
    "face_cut_off": "The face is cut off by the photo's edge; take the photo with all of it in the picture.",
    "blurred": "The photo is blurred; hold the camera still, and let it focus on the face."
  }
}


def f32(number):
    """Rounds a number to 32 bits, as the host does: comparisons then agree in every language."""
    return struct.unpack("f", struct.pack("f", number))[0]


def shorter_side(face):
    bounds = face.bounds
    return min(f32(bounds.x2 - bounds.x1), f32(bounds.y2 - bounds.y1))


def measure(face, name):
    return next((measure.value for measure in face.measures if measure.name == name), None)


def reason(code, value=None, limit=None):
    """Returns code, message, measured value and limit."""
    return code, TABLE["messages"][code], value, limit


def review(faces, level, threshold):
    """Returns the index of the face to enrol and no reasons, or None and the reasons.

    `level` comes from the host: "off", "standard" or "strict".
    """
    if not faces:
        return None, [reason("no_face")]
    best = max(range(len(faces)), key=lambda index: faces[index].score)
    score = faces[best].score
    reasons = [reason("low_detection_score", score, threshold)] if score < threshold else []
    if level != "off":
        reasons += faults(faces, best, threshold, TABLE["limits"][level])
    return (None, reasons) if reasons else (best, [])


def faults(faces, chosen, threshold, limits):
    """Returns the faults of a photo with the face to enrol at index `chosen`.

    Missing measures are not judged.
    """
    limits = {name: f32(limit) for name, limit in limits.items()}
    face = faces[chosen]
    side = shorter_side(face)
    least = f32(limits["companion"] * side)
    others = [other for index, other in enumerate(faces) if index != chosen and other.score >= threshold]
    companions = [other for other in others if shorter_side(other) >= least]
    yaw, brightness, outside, sharpness = (measure(face, name) for name in ("yaw", "brightness", "outside", "sharpness"))
    found = []
    if companions:
        found.append(reason("several_people", len(companions) + 1.0, 1.0))
    if side < limits["size"]:
        found.append(reason("face_too_small", side, limits["size"]))
    if yaw is not None and abs(yaw) > limits["yaw"]:
        found.append(reason("face_turned", abs(yaw), limits["yaw"]))
    if brightness is not None and brightness < limits["darkest"]:
        found.append(reason("too_dark", brightness, limits["darkest"]))
    if brightness is not None and brightness > limits["brightest"]:
        found.append(reason("too_bright", brightness, limits["brightest"]))
    if outside is not None and outside > limits["outside"]:
        found.append(reason("face_cut_off", outside, limits["outside"]))
    if sharpness is not None and sharpness < limits["sharpness"]:
        found.append(reason("blurred", sharpness, limits["sharpness"]))
    return found
