"""Decides which face belongs to which person."""

# Similarity that a small face needs in addition to the threshold.
SURCHARGE = 0.05


def mean(samples):
    """Returns a person's template: the mean of the samples."""
    return [sum(values) / len(samples) for values in zip(*samples)]


def decide(faces, threshold, small):
    """Returns for each face the confidence in its best candidate, or the reason why it is unknown.

    A face is its size in pixels and its candidates, each an id and a similarity. Each person is
    assigned to the most similar face only. Faces of less than `small` pixels must be more similar.
    """
    decisions, claims = [], []
    for face, (size, candidates) in enumerate(faces):
        least = threshold + SURCHARGE if size < small else threshold
        if not candidates:
            decisions.append("no_candidates")
        elif candidates[0][1] <= least:
            decisions.append("below_threshold")
        else:
            claims.append((face, *candidates[0]))
            decisions.append("already_matched")
    assigned = set()
    for face, person, similarity in sorted(claims, key=lambda claim: -claim[2]):
        if person not in assigned:
            assigned.add(person)
            decisions[face] = min(max(similarity, 0.0), 1.0)
    return decisions
