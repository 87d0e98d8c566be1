"""What the component writes, and how it fails, for the host's log: without this an exception is only `unreachable` there."""

import functools
import io
import sys

from wit_world.imports import telemetry
from wit_world.imports.telemetry import Level


class Lines(io.TextIOBase):
    """A file whose lines go to the host's log, in place of standard output and standard error."""

    def __init__(self, level):
        super().__init__()
        self.level = level
        self.rest = ""

    def writable(self):
        return True

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


def flush():
    """Logs what was written without the end of its line."""
    sys.stdout.flush()
    sys.stderr.flush()


def message(error):
    """An exception's type and text. An exception whose text cannot be made is told by its type."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def described(error):
    """Text, file, line and function of an exception, the innermost frame first, and the exceptions that caused it."""
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    text = f"{message(error)} ({', '.join(reversed(frames[1:] or frames))})"
    cause, seen = error.__cause__ or error.__context__, {id(error)}
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        text += f"; caused by {message(cause)}"
        cause = cause.__cause__ or cause.__context__
    return text


def told(function):
    """Has an exception of a function logged before the component fails by it."""

    @functools.wraps(function)
    def guarded(*args):
        try:
            return function(*args)
        except BaseException as error:
            flush()
            # Last, because the host tells the last line as the cause.
            telemetry.log(Level.WARN, described(error))
            raise
        finally:
            flush()

    return guarded
