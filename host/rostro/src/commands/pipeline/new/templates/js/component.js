// The component. It reads the host's settings and applies the rules of rule.js, a file of its own
// so that tests need no host.

import { get, getReview, getThresholds, refused } from "rostro:pipeline/settings@0.1.2";
import { log } from "rostro:pipeline/telemetry@0.1.2";

import { logErrors } from "./host_log.js";
import { review } from "./review.js";
import { decide, mean } from "./rule.js";

// Returns the operator's setting `small-face`: pixels of a box's shorter side.
function smallFace() {
  const text = get("small-face");
  if (text === undefined) return 40;
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  refused("small-face", `the setting small-face is \`${text}\`; it must be a number`);
  return 40;
}

export const policy = logErrors(log, {
  describe() {
    // Ask for every setting here, because the host reports other keys as unknown, and refused
    // values to the operator.
    smallFace();
    return { name: "my-pipeline", version: "0.1.0" };
  },
  review: (faces) => review(faces, getReview(), getThresholds().detection),
  template: (samples) => [mean(samples)],
  decide: (probes) => decide(probes, getThresholds().similarity, smallFace()),
});
