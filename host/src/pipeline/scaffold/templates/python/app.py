"""The component: what it reads of the host, and its rules, which are in rule.py so that they can be tested without a host."""

import rule
from wit_world import exports
from wit_world.exports.policy import Decision_Known, Decision_Unknown, Match, Reason, ReviewOutcome_Accept, ReviewOutcome_Reject
from wit_world.imports import settings
from wit_world.imports.types import Identity


class Policy(exports.Policy):
    def describe(self):
        return Identity("my-pipeline", "0.1.0")

    def review(self, faces):
        best, reason = rule.review([face.score for face in faces], settings.get_thresholds().detection)
        return ReviewOutcome_Accept(best) if reason is None else ReviewOutcome_Reject([Reason(*reason)])

    def template(self, samples):
        return [rule.mean(samples)]

    def decide(self, probes):
        faces = []
        for probe in probes:
            bounds = probe.face.bounds
            size = min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1)
            faces.append((size, [(candidate.id, candidate.similarity) for candidate in probe.candidates]))
        small = float(settings.get("small-face") or 40)
        decided = rule.decide(faces, settings.get_thresholds().similarity, small)
        return [Decision_Unknown(answer) if isinstance(answer, str) else Decision_Known(Match(0, answer)) for answer in decided]
