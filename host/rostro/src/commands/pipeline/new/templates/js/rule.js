// Decides which face belongs to which person. The types are those of wit/rostro.wit, as
// componentize-js maps them to JavaScript.

// Similarity that a small face needs in addition to the threshold.
const SURCHARGE = 0.05;

const unknown = (code) => ({ tag: "unknown", val: code });

// Returns a person's template: the mean of the samples.
export function mean(samples) {
  const sums = new Float64Array(samples[0].length);
  for (const sample of samples) sample.forEach((value, index) => (sums[index] += value));
  return Float32Array.from(sums, (sum) => sum / samples.length);
}

// Assigns to each face its best candidate above the threshold, and each person to the most similar
// face only. Faces of less than `small` pixels must be more similar.
export function decide(probes, threshold, small) {
  const claims = [];
  const decisions = probes.map(({ face: { bounds }, candidates }, face) => {
    const size = Math.min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1);
    const least = size < small ? threshold + SURCHARGE : threshold;
    const best = candidates[0];
    if (best === undefined) return unknown("no_candidates");
    if (best.similarity <= least) return unknown("below_threshold");
    claims.push({ face, id: best.id, similarity: best.similarity });
    return unknown("already_matched");
  });
  const assigned = new Set();
  for (const { face, id, similarity } of claims.sort((a, b) => b.similarity - a.similarity)) {
    if (assigned.has(id)) continue;
    assigned.add(id);
    decisions[face] = { tag: "known", val: { candidate: 0, confidence: Math.min(Math.max(similarity, 0), 1) } };
  }
  return decisions;
}
