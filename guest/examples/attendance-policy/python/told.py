"""What the component writes, and how it fails, for the host's log: without this an exception is only `unreachable` there."""

import functools
import sys

from wit_world.imports import telemetry
from wit_world.imports.telemetry import Level


class Lines:
    """A file whose lines go to the host's log, in place of standard output and standard error."""

    def __init__(self, level):
        self.level = level
        self.rest = ""

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            telemetry.log(self.level, line)
        return len(text)

    def flush(self):
        if self.rest:
            telemetry.log(self.level, self.rest)
            self.rest = ""


sys.stdout = Lines(Level.INFO)
sys.stderr = Lines(Level.WARN)


def described(error):
    """Text, file, line and function of an exception, the innermost frame first."""
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return f"{type(error).__name__}: {error} ({', '.join(reversed(frames[1:] or frames))})"


def told(function):
    """Has an exception of a function logged before the component fails by it."""

    @functools.wraps(function)
    def guarded(*args):
        try:
            return function(*args)
        except BaseException as error:
            telemetry.log(Level.WARN, described(error))
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    return guarded
