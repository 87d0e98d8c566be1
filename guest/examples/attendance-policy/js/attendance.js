// A policy for attendance: one person once a frame, stricter for small faces, and a margin over the
// runner-up.
//
// ../rust and ../python have equal rules, number for number; ../rust documents the settings.
// review.js and host_log.js are those of `rostro pipeline new`.

import { get, getReview, getThresholds, refused } from "rostro:pipeline/settings@0.1.2";
import { log } from "rostro:pipeline/telemetry@0.1.2";

import { logErrors } from "./host_log.js";
import { review } from "./review.js";

function number(key, fallback) {
  const text = get(key);
  if (text === undefined) return fallback;
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  refused(key, `the setting ${key} is \`${text}\`; it must be a number`);
  return fallback;
}

const settings = () => [number("margin", 0.05), number("small-face", 40), number("small-face-surcharge", 0.05)];

const unknown = (code) => ({ tag: "unknown", val: code });

export const policy = logErrors(log, {
  describe() {
    // The host learns the settings here, and refuses an invalid value.
    settings();
    return { name: "attendance-policy", version: "0.1.0" };
  },

  review: (faces) => review(faces, getReview(), getThresholds().detection),

  template(samples) {
    // Summed in the order of samples, because another order changes the last bits.
    const sums = new Float64Array(samples[0].length);
    for (const sample of samples) {
      for (let index = 0; index < sums.length; index += 1) sums[index] += sample[index];
    }
    return [Float32Array.from(sums, (sum) => sum / samples.length)];
  },

  decide(probes) {
    const [margin, small, surcharge] = settings();
    const threshold = getThresholds().similarity;
    const claims = [];
    const decisions = probes.map(({ face: { bounds }, candidates }, face) => {
      const size = Math.min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1);
      const least = size < small ? threshold + surcharge : threshold;
      const [best, next] = candidates;
      if (best === undefined) return unknown("no_candidates");
      if (best.similarity <= least) return unknown("below_threshold");
      if (best.similarity - (next?.similarity ?? -1) < margin) return unknown("ambiguous");
      claims.push({ face, similarity: best.similarity, id: best.id });
      return unknown("already_matched");
    });
    // Each person goes to the face most like them, the first of equal ones.
    const assigned = new Set();
    for (const { face, similarity, id } of claims.sort((a, b) => b.similarity - a.similarity)) {
      if (!assigned.has(id)) {
        assigned.add(id);
        decisions[face] = { tag: "known", val: { candidate: 0, confidence: Math.min(Math.max(similarity, 0), 1) } };
      }
    }
    return decisions;
  },
});
