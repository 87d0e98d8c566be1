import unittest

import rule


class Rule(unittest.TestCase):
    def test_a_person_is_given_to_the_face_most_like_them_and_small_faces_must_be_surer(self):
        faces = [(100, [("a", 0.6)]), (100, [("a", 0.7)]), (20, [("b", 0.52)]), (20, [("c", 0.6)]), (100, [])]
        wanted = ["already_matched", 0.7, "below_threshold", 0.6, "no_candidates"]
        self.assertEqual(rule.decide(faces, 0.5, 40), wanted)

    def test_the_best_face_of_a_photo_is_enrolled(self):
        self.assertEqual(rule.review([0.6, 0.9], 0.5), (1, None))
        self.assertEqual(rule.review([], 0.5)[1][0], "no_face")
        self.assertEqual(rule.review([0.4], 0.5)[1][0], "low_detection_score")

    def test_the_mean_is_taken_number_by_number(self):
        self.assertEqual(rule.mean([[1, -2], [3, 6]]), [2, 2])


if __name__ == "__main__":
    unittest.main()
