// The component. It reads the host's settings and applies the rules of rule.js, a file of its own
// so that tests need no host. Each export is an interface of wit/rostro.wit. To keep another
// component's review and templates, remove `review` and `template`, and build with `--world-name
// decide-only`.

import { get, getReview, getThresholds } from "rostro:pipeline/settings@0.2.0";
import { log } from "rostro:pipeline/telemetry@0.2.0";

import { logErrors } from "./host_log.js";
import * as photo from "./review.js";
import * as rule from "./rule.js";

// The host refuses values that do not follow the type.
const SMALL_FACE = {
  name: "small-face",
  value: { tag: "number", val: { min: 0, max: 10000 } },
  default: "40",
  description: "Shorter side of a small face's box in pixels.",
  byRequest: false,
};

export const about = logErrors(log, {
  describe: () => ({
    identity: { name: "my-pipeline", version: "0.1.0" },
    models: [],
    contract: undefined,
    settings: [SMALL_FACE],
    stateVersion: 0,
  }),
});

export const review = logErrors(log, {
  review: (faces, _context) => photo.review(faces, getReview(), getThresholds().detection),
});

export const template = logErrors(log, {
  template: (samples) => [rule.mean(samples)],
});

export const decide = logErrors(log, {
  decide(probes, _context, _state) {
    const small = Number(get(SMALL_FACE.name) ?? SMALL_FACE.default);
    const decisions = rule.decide(probes, getThresholds().similarity, small);
    // `candidates` are the indices of those that callers may see.
    const rulings = decisions.map((decision, face) => ({ decision, candidates: [...probes[face].candidates.keys()] }));
    // No events, and no state for the next frame of a stream.
    return { rulings, events: [], state: undefined };
  },
});
