import unittest
from types import SimpleNamespace

import review
import rule


def face(score, sharpness):
    bounds = SimpleNamespace(x1=0.0, y1=0.0, x2=200.0, y2=200.0)
    return SimpleNamespace(score=score, bounds=bounds, measures=[SimpleNamespace(name="sharpness", value=sharpness)])


def codes(faces):
    return [code for code, *_ in review.review(faces, "standard", 0.5)[1]]


class Rule(unittest.TestCase):
    def test_decide_assigns_best_face(self):
        faces = [(100, [("a", 0.6)]), (100, [("a", 0.7)]), (20, [("b", 0.52)]), (20, [("c", 0.6)]), (100, [])]
        wanted = ["already_matched", 0.7, "below_threshold", 0.6, "no_candidates"]
        self.assertEqual(rule.decide(faces, 0.5, 40), wanted)

    def test_review_rejects_blurred_face(self):
        self.assertEqual(review.review([face(0.9, 300)], "standard", 0.5), (0, []))
        self.assertEqual(review.review([face(0.9, 7)], "off", 0.5), (0, []))
        self.assertEqual(codes([face(0.9, 7)]), ["blurred"])
        self.assertEqual(codes([face(0.4, 300)]), ["low_detection_score"])
        self.assertEqual(codes([]), ["no_face"])

    def test_mean_averages_each_number(self):
        self.assertEqual(rule.mean([[1, -2], [3, 6]]), [2, 2])


if __name__ == "__main__":
    unittest.main()
