// The component: what it reads of the host, and its rules, which are in rule.js so that they can be tested without a host.

import { get, getThresholds } from "rostro:pipeline/settings@0.1.1";

import { decide, mean, review } from "./rule.js";

export const policy = {
  describe: () => ({ name: "my-pipeline", version: "0.1.0" }),
  review: (faces) => review(faces, getThresholds().detection),
  template: (samples) => [mean(samples)],
  decide: (probes) => decide(probes, getThresholds().similarity, Number(get("small-face") ?? 40)),
};
