import assert from "node:assert/strict";
import test from "node:test";

import { review } from "./review.js";
import { decide, mean } from "./rule.js";

const probe = (size, ...candidates) => ({
  face: { bounds: { x1: 0, y1: 0, x2: size, y2: size } },
  candidates: candidates.map(([id, similarity]) => ({ id, similarity })),
});
const tags = (decisions) => decisions.map(({ tag, val }) => (tag === "known" ? val.confidence : val));

test("decide assigns best face, small faces stricter", () => {
  const probes = [probe(100, ["a", 0.6]), probe(100, ["a", 0.7]), probe(20, ["b", 0.52]), probe(20, ["c", 0.6]), probe(100)];
  assert.deepEqual(tags(decide(probes, 0.5, 40)), ["already_matched", 0.7, "below_threshold", 0.6, "no_candidates"]);
});

test("review rejects blurred face", () => {
  const face = (score, sharpness) => ({
    score,
    bounds: { x1: 0, y1: 0, x2: 200, y2: 200 },
    measures: [{ name: "sharpness", value: sharpness }],
  });
  const codes = (faces, level) => review(faces, level, 0.5).val.map(({ code }) => code);
  assert.deepEqual(review([face(0.9, 300)], "standard", 0.5), { tag: "accept", val: 0 });
  assert.deepEqual(review([face(0.9, 7)], "off", 0.5), { tag: "accept", val: 0 });
  assert.deepEqual(codes([face(0.9, 7)], "standard"), ["blurred"]);
  assert.deepEqual(codes([face(0.4, 300)], "standard"), ["low_detection_score"]);
  assert.deepEqual(codes([], "standard"), ["no_face"]);
});

test("mean averages each number", () => {
  assert.deepEqual([...mean([[1, -2], [3, 6]])], [2, 2]);
});
