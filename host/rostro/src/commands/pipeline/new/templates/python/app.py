"""The component. It reads the host's settings and applies the rules of rule.py.

The rules are a file of their own so that tests need no host. Each class is an interface of
wit/rostro.wit. To keep another component's review and templates, remove `Review` and `Template`, and
build with `-w decide-only`.
"""

import review
import rule
from host_log import log_errors
from wit_world import exports
from wit_world.exports.about import Description, NumberRange, Setting, SettingType_Number
from wit_world.exports.decide import Decision_Known, Decision_Unknown, Match, Outcome, Ruling
from wit_world.exports.review import Reason, ReviewOutcome_Accept, ReviewOutcome_Reject
from wit_world.imports import settings
from wit_world.imports.types import Identity

# The host refuses values that do not follow the type.
SMALL_FACE = Setting(
    name="small-face",
    value=SettingType_Number(NumberRange(0.0, 10000.0)),
    default="40",
    description="Shorter side of a small face's box in pixels.",
    by_request=False,
)


class About(exports.About):
    @log_errors
    def describe(self):
        return Description(
            identity=Identity("my-pipeline", "0.1.0"),
            models=[],
            contract=None,
            settings=[SMALL_FACE],
            state_version=0,
        )


class Review(exports.Review):
    @log_errors
    def review(self, faces, context):
        level = settings.get_review().name.lower()
        best, reasons = review.review(faces, level, settings.get_thresholds().detection)
        return ReviewOutcome_Reject([Reason(*reason) for reason in reasons]) if reasons else ReviewOutcome_Accept(best)


class Template(exports.Template):
    @log_errors
    def template(self, samples):
        return [rule.mean(samples)]


class Decide(exports.Decide):
    @log_errors
    def decide(self, probes, context, state):
        faces = []
        for probe in probes:
            bounds = probe.face.bounds
            size = min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1)
            faces.append((size, [(candidate.id, candidate.similarity) for candidate in probe.candidates]))
        small = float(settings.get(SMALL_FACE.name) or SMALL_FACE.default)
        decided = rule.decide(faces, settings.get_thresholds().similarity, small)
        rulings = [ruling(answer, probe) for answer, probe in zip(decided, probes)]
        # No events, and no state for the next frame of a stream.
        return Outcome(rulings, [], None)


def ruling(answer, probe):
    """Returns the decision, and the indices of the candidates that callers may see."""
    decision = Decision_Unknown(answer) if isinstance(answer, str) else Decision_Known(Match(0, answer))
    return Ruling(decision, list(range(len(probe.candidates))))
