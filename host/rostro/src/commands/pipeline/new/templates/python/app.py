"""The component. It reads the host's settings and applies the rules of rule.py.

The rules are a file of their own so that tests need no host.
"""

import math

import review
import rule
from host_log import log_errors
from wit_world import exports
from wit_world.exports.policy import Decision_Known, Decision_Unknown, Match, Reason, ReviewOutcome_Accept, ReviewOutcome_Reject
from wit_world.imports import settings
from wit_world.imports.types import Identity


def small_face():
    """Returns the operator's setting `small-face`: pixels of a box's shorter side."""
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
    @log_errors
    def describe(self):
        # Ask for every setting here, because the host reports other keys as unknown, and refused
        # values to the operator.
        small_face()
        return Identity("my-pipeline", "0.1.0")

    @log_errors
    def review(self, faces):
        level = settings.get_review().name.lower()
        best, reasons = review.review(faces, level, settings.get_thresholds().detection)
        return ReviewOutcome_Reject([Reason(*reason) for reason in reasons]) if reasons else ReviewOutcome_Accept(best)

    @log_errors
    def template(self, samples):
        return [rule.mean(samples)]

    @log_errors
    def decide(self, probes):
        faces = []
        for probe in probes:
            bounds = probe.face.bounds
            size = min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1)
            faces.append((size, [(candidate.id, candidate.similarity) for candidate in probe.candidates]))
        decided = rule.decide(faces, settings.get_thresholds().similarity, small_face())
        return [Decision_Unknown(answer) if isinstance(answer, str) else Decision_Known(Match(0, answer)) for answer in decided]
