import unittest

from rule import Face, decide, read

WITHIN = 5_000

LIMIT = 256 << 10


def face(person="alice", similarity=0.8, track=1, is_fresh=True):
    return Face(track, is_fresh, [(person, similarity), ("other", 0.1)])


def run(*frames):
    """Decides on frames, each a time in milliseconds and its faces. Returns the answers of each."""
    answers, state = [], b""
    for time, *faces in frames:
        decided = decide(faces, 0.5, WITHIN, 1_700_000_000_000 + time, state, LIMIT)
        answers.append(decided.answers)
        state = decided.state
    return answers


class Rule(unittest.TestCase):
    def test_second_sighting_names_face(self):
        self.assertEqual(run((0, face()), (5_000, face()), (5_200, face())), [["seen_once"], [0.8], [0.8]])

    def test_longer_gap_begins_again(self):
        frames = [(0, face()), (1_000, face()), (6_001, face()), (6_200, face())]
        self.assertEqual(run(*frames), [["seen_once"], [0.8], ["seen_once"], [0.8]])

    def test_repeated_embedding_is_no_sighting(self):
        stale = face(is_fresh=False)
        self.assertEqual(run((0, face()), (200, stale), (400, face())), [["seen_once"], ["seen_once"], [0.8]])
        self.assertEqual(run((0, stale), (200, stale)), [["seen_once"], ["seen_once"]])

    def test_confirmed_track_needs_no_embedding(self):
        stale = face(is_fresh=False)
        later = [(1_000 + 4_000 * step, stale) for step in range(5)]
        self.assertEqual(run((0, face()), (500, face()), *later)[1:], [[0.8]] * 6)

    def test_sightings_bridge_embeddings(self):
        stale = face(is_fresh=False)
        frames = [(0, face()), (4_000, stale), (8_000, stale), (12_000, face())]
        self.assertEqual(run(*frames), [["seen_once"]] * 3 + [[0.8]])

    def test_other_person_or_track_begins_again(self):
        for other in [face(person="bob"), face(track=2)]:
            self.assertEqual(run((0, face()), (200, other)), [["seen_once"], ["seen_once"]])

    def test_person_without_track_is_seen_twice(self):
        self.assertEqual(run((0, face(track=None)), (200, face(track=None))), [["seen_once"], [0.8]])

    def test_strangers_keep_their_reason(self):
        faces = [face(similarity=0.5), Face(2, True, []), face(track=3), face(similarity=0.7, track=4)]
        wanted = ["below_threshold", "no_candidates", 0.8, "already_matched"]
        self.assertEqual(run((0, *faces), (200, *faces))[1], wanted)

    def test_confirmation_is_reported_once(self):
        state, confirmed = b"", []
        for time in [0, 200, 400]:
            decided = decide([face(person="bob", similarity=0.2), face()], 0.5, WITHIN, time, state, LIMIT)
            confirmed.append(decided.confirmed)
            state = decided.state
        self.assertEqual(confirmed, [[], [1], []])

    def test_state_forgets_ended_tracks(self):
        state = b""
        for time in range(0, 60_000, 500):
            state = decide([face(track=time)], 0.5, WITHIN, time, state, LIMIT).state
        self.assertLess(len(state), 1_000)

    def test_state_keeps_newest_within_limit(self):
        state = b""
        for time in range(100):
            person = face(person="ä" * 100, track=time)
            state = decide([person], 0.5, WITHIN, time, state, 1_000).state
            self.assertLessEqual(len(state), 1_000)
        self.assertEqual(sorted(track for track, _ in read(state, 100, WITHIN)), [96, 97, 98, 99])
        self.assertEqual(decide([person], 0.5, WITHIN, 100, state, 1_000).answers, [0.8])


if __name__ == "__main__":
    unittest.main()
