// The component: what it reads of the host, and its rules, which are in rule.js so that they can be tested without a host.

import { get, getReview, getThresholds, refused } from "rostro:pipeline/settings@0.1.2";
import { log } from "rostro:pipeline/telemetry@0.1.2";

import { review } from "./review.js";
import { decide, mean } from "./rule.js";
import { told } from "./told.js";

// The operator's setting `small-face`: pixels of a box's shorter side.
function smallFace() {
  const text = get("small-face");
  if (text === undefined) return 40;
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  refused("small-face", `the setting small-face is \`${text}\`; it must be a number`);
  return 40;
}

export const policy = told(log, {
  describe() {
    // Ask for every setting here: the host takes others for misspelt, and tells the operator which value is refused.
    smallFace();
    return { name: "my-pipeline", version: "0.1.0" };
  },
  review: (faces) => review(faces, getReview(), getThresholds().detection),
  template: (samples) => [mean(samples)],
  decide: (probes) => decide(probes, getThresholds().similarity, smallFace()),
});
