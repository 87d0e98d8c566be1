"""A policy of `decide` alone: in a stream, a face is named once it was seen twice within some seconds.

It shows the state of a stream, tracks, the time of a request, events, and a declared setting.
Outside a stream there is no earlier frame, so each picture is decided alone. In a stream whose state
the operator forbids (`state-kib` 0) no face is named, and the answer has the warning `no_state`.

rule.py has the rule; host_log.py is that of `rostro pipeline new`.
"""

import rule
from host_log import log_errors
from wit_world import exports
from wit_world.exports.about import Description, NumberRange, Setting, SettingType_Number
from wit_world.exports.decide import Decision_Known, Decision_Unknown, Event, Match, Outcome, Ruling
from wit_world.imports import settings, telemetry
from wit_world.imports.types import Identity

WITHIN = Setting(
    name="within-s",
    value=SettingType_Number(NumberRange(0.1, 3600.0)),
    default="5",
    description="Longest time in seconds between the two sightings that name a face.",
    by_request=False,
)


class About(exports.About):
    @log_errors
    def describe(self):
        return Description(
            identity=Identity("seen-twice", "0.1.0"),
            models=[],
            contract=None,
            settings=[WITHIN],
            # Raise this when the meaning of the state changes: the host then drops those it has.
            state_version=1,
        )


class Decide(exports.Decide):
    @log_errors
    def decide(self, probes, context, state):
        threshold = settings.get_thresholds().similarity
        faces = [rule.Face(probe.track, probe.is_fresh, candidates(probe)) for probe in probes]
        if context.stream is None:
            decided = rule.Decided(rule.best_faces(faces, threshold))
        elif state is None:
            telemetry.warning("no_state", "The limit state-kib is 0, so no face can be seen twice.")
            decided = rule.decide(faces, threshold, 0, context.time, b"", 0)
            decided.state = None
        else:
            within = round(1000 * float(settings.get(WITHIN.name) or WITHIN.default))
            decided = rule.decide(faces, threshold, within, context.time, state, settings.state_limit())
        rulings = [ruling(answer, probe) for answer, probe in zip(decided.answers, probes)]
        return Outcome(rulings, [confirmation(face) for face in decided.confirmed], decided.state)


def candidates(probe):
    return [(candidate.id, candidate.similarity) for candidate in probe.candidates]


def ruling(answer, probe):
    """Returns the ruling for an answer of the rule. A face without a name shows no candidates."""
    if isinstance(answer, str):
        return Ruling(Decision_Unknown(answer), [])
    return Ruling(Decision_Known(Match(0, answer)), list(range(len(probe.candidates))))


def confirmation(face):
    return Event("confirmed", face, None, "The face was seen twice, and has a name from now on.")
