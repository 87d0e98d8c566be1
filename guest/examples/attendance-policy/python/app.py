"""A policy for attendance: one person once a frame, stricter for small faces, and a margin over
the runner-up.

../rust and ../js have equal rules, number for number; ../rust documents the settings. review.py and
host_log.py are those of `rostro pipeline new`.
"""

import math

import review
from host_log import log_errors
from wit_world import exports
from wit_world.exports.policy import (
    Decision_Known,
    Decision_Unknown,
    Match,
    Reason,
    ReviewOutcome_Accept,
    ReviewOutcome_Reject,
)
from wit_world.imports import settings
from wit_world.imports.types import Identity


def number(key, default):
    text = settings.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    settings.refused(key, f"the setting {key} is `{text}`; it must be a number")
    return default


def numbers():
    return number("margin", 0.05), number("small-face", 40.0), number("small-face-surcharge", 0.05)


class Policy(exports.Policy):
    @log_errors
    def describe(self):
        # The host learns the settings here, and refuses an invalid value.
        numbers()
        return Identity("attendance-policy", "0.1.0")

    @log_errors
    def review(self, faces):
        level = settings.get_review().name.lower()
        best, reasons = review.review(faces, level, settings.get_thresholds().detection)
        return ReviewOutcome_Reject([Reason(*reason) for reason in reasons]) if reasons else ReviewOutcome_Accept(best)

    @log_errors
    def template(self, samples):
        # Summed in the order of samples, because another order changes the last bits.
        sums = [0.0] * len(samples[0])
        for sample in samples:
            sums = [total + value for total, value in zip(sums, sample)]
        return [[total / len(samples) for total in sums]]

    @log_errors
    def decide(self, probes):
        margin, small, surcharge = numbers()
        threshold = settings.get_thresholds().similarity
        decisions, claims = [], []
        for face, probe in enumerate(probes):
            bounds = probe.face.bounds
            size = min(bounds.x2 - bounds.x1, bounds.y2 - bounds.y1)
            least = threshold + surcharge if size < small else threshold
            following = probe.candidates[1].similarity if len(probe.candidates) > 1 else -1.0
            if not probe.candidates:
                decisions.append(Decision_Unknown("no_candidates"))
            elif probe.candidates[0].similarity <= least:
                decisions.append(Decision_Unknown("below_threshold"))
            elif probe.candidates[0].similarity - following < margin:
                decisions.append(Decision_Unknown("ambiguous"))
            else:
                claims.append((face, probe.candidates[0].similarity, probe.candidates[0].id))
                decisions.append(Decision_Unknown("already_matched"))
        # Each person goes to the face most like them, the first of equal ones.
        assigned = set()
        for face, similarity, person in sorted(claims, key=lambda claim: -claim[1]):
            if person not in assigned:
                assigned.add(person)
                decisions[face] = Decision_Known(Match(0, min(max(similarity, 0.0), 1.0)))
        return decisions
