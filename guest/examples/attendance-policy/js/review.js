// Chooses the face of an enrolment photo, or the reasons to reject the photo, as the default
// pipeline does. `rostro pipeline new` made this file from the table of limits that Rust, JavaScript
// and Python share; keep changes of your own in rule.js.

const TABLE = {
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
};

// Rounds a number to 32 bits, because the host's limits and measures have 32 bits: comparisons then
// have equal results in every language.
const f32 = Math.fround;

const shorterSide = ({ bounds }) => Math.min(f32(bounds.x2 - bounds.x1), f32(bounds.y2 - bounds.y1));

const measure = (face, name) => face.measures?.find((measure) => measure.name === name)?.value;

const reason = (code, value, limit) => ({ code, message: TABLE.messages[code], value, limit });

// `level` comes from the host: "off", "standard" or "strict". `threshold` is the detector's.
export function review(faces, level, threshold) {
  if (faces.length === 0) return { tag: "reject", val: [reason("no_face")] };
  const scores = faces.map((face) => face.score);
  const best = scores.indexOf(Math.max(...scores));
  const reasons = scores[best] < threshold ? [reason("low_detection_score", scores[best], threshold)] : [];
  if (level !== "off") reasons.push(...faults(faces, best, threshold, TABLE.limits[level]));
  return reasons.length === 0 ? { tag: "accept", val: best } : { tag: "reject", val: reasons };
}

// Returns the faults of a photo with the face to enrol at index `chosen`. Missing measures are not
// judged.
function faults(faces, chosen, threshold, limits) {
  const face = faces[chosen];
  const side = shorterSide(face);
  const companions = faces.filter(
    (other, index) => index !== chosen && other.score >= threshold && shorterSide(other) >= f32(f32(limits.companion) * side),
  );
  const yaw = measure(face, "yaw");
  const brightness = measure(face, "brightness");
  const outside = measure(face, "outside");
  const sharpness = measure(face, "sharpness");
  const found = [];
  const fault = (isWrong, code, value, limit) => {
    if (isWrong) found.push(reason(code, value, f32(limit)));
  };
  fault(companions.length > 0, "several_people", companions.length + 1, 1);
  fault(side < f32(limits.size), "face_too_small", side, limits.size);
  fault(Math.abs(yaw) > f32(limits.yaw), "face_turned", Math.abs(yaw), limits.yaw);
  fault(brightness < f32(limits.darkest), "too_dark", brightness, limits.darkest);
  fault(brightness > f32(limits.brightest), "too_bright", brightness, limits.brightest);
  fault(outside > f32(limits.outside), "face_cut_off", outside, limits.outside);
  fault(sharpness < f32(limits.sharpness), "blurred", sharpness, limits.sharpness);
  return found;
}
