import assert from "node:assert/strict";
import test from "node:test";

import { decide, mean, review } from "./rule.js";

const probe = (size, ...candidates) => ({
  face: { bounds: { x1: 0, y1: 0, x2: size, y2: size } },
  candidates: candidates.map(([id, similarity]) => ({ id, similarity })),
});
const tags = (decisions) => decisions.map(({ tag, val }) => (tag === "known" ? val.confidence : val));

test("a person is given to the face most like them, and small faces must be surer", () => {
  const probes = [probe(100, ["a", 0.6]), probe(100, ["a", 0.7]), probe(20, ["b", 0.52]), probe(20, ["c", 0.6]), probe(100)];
  assert.deepEqual(tags(decide(probes, 0.5, 40)), ["already_matched", 0.7, "below_threshold", 0.6, "no_candidates"]);
});

test("the best face of a photo is enrolled", () => {
  assert.deepEqual(review([{ score: 0.6 }, { score: 0.9 }], 0.5), { tag: "accept", val: 1 });
  assert.equal(review([], 0.5).val[0].code, "no_face");
  assert.equal(review([{ score: 0.4 }], 0.5).val[0].code, "low_detection_score");
});

test("the mean is taken number by number", () => {
  assert.deepEqual([...mean([[1, -2], [3, 6]])], [2, 2]);
});
