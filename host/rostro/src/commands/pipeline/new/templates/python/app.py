"""The component: what it reads of the host, and its rules, which are in rule.py so that they can be tested without a host."""

import math

import review
import rule
from told import told
from wit_world import exports
from wit_world.exports.policy import Decision_Known, Decision_Unknown, Match, Reason, ReviewOutcome_Accept, ReviewOutcome_Reject
from wit_world.imports import settings
from wit_world.imports.types import Identity


def small_face():
    """The operator's setting `small-face`: pixels of a box's shorter side."""
    text = settings.get("small-face")
    if text is None:
        return 40.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    settings.refused("small-face", f"the setting small-face is `{text}`; it must be a number")
    return 40.0


class Policy(exports.Policy):
    @told
    def describe(self):
        # Ask for every setting here: the host takes others for misspelt, and tells the operator which value is refused.
        small_face()
        return Identity("my-pipeline", "0.1.0")

    @told
    def review(self, faces):
        level = settings.get_review().name.lower()
        best, reasons = review.review(faces, level, settings.get_thresholds().detection)
        return ReviewOutcome_Reject([Reason(*reason) for reason in reasons]) if reasons else ReviewOutcome_Accept(best)

    @told
    def template(self, samples):
        return [rule.mean(samples)]

    @told
    def decide(self, probes):
        faces = []
        for probe in probes:
            bounds = probe.face.bounds
            size = min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1)
            faces.append((size, [(candidate.id, candidate.similarity) for candidate in probe.candidates]))
        decided = rule.decide(faces, settings.get_thresholds().similarity, small_face())
        return [Decision_Unknown(answer) if isinstance(answer, str) else Decision_Known(Match(0, answer)) for answer in decided]
