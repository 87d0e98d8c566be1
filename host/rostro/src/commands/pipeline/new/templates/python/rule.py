"""Who is who."""

# How much more similar a small face must be.
SURCHARGE = 0.05


def mean(samples):
    """What stands for a person: the mean of their samples."""
    return [sum(values) / len(samples) for values in zip(*samples)]


def decide(faces, threshold, small):
    """For each face, its size in pixels and its candidates (id, similarity): the confidence in the best of them, or why it is nobody known.

    Each person is given to the face most like them. Faces of less than `small` pixels must be more similar.
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
    given = set()
    for face, person, similarity in sorted(claims, key=lambda claim: -claim[2]):
        if person not in given:
            given.add(person)
            decisions[face] = min(max(similarity, 0.0), 1.0)
    return decisions
