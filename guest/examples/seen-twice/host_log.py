"""Sends standard output, standard error and exceptions to the host's log.

Without it the host sees an exception only as `unreachable`.
"""

import functools
import io
import sys

from wit_world.imports import telemetry
from wit_world.imports.telemetry import Level


class Lines(io.TextIOBase):
    """Text stream that writes its lines to the host's log."""

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
    """Logs the text after the last line end."""
    sys.stdout.flush()
    sys.stderr.flush()


def message(error):
    """Returns an exception's type and text, or its type alone if the text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def describe(error):
    """Returns an exception's text, its frames with the innermost first, and its causes."""
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


def log_errors(function):
    """Wraps a function so that its exceptions are logged before the component fails."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except BaseException as error:
            flush()
            # This line comes last, because the host reports the last line as the cause.
            telemetry.log(Level.WARN, describe(error))
            raise
        finally:
            flush()

    return wrapper
