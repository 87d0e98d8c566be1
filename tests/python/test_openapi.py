"""Checks the service against its OpenAPI document with schemathesis."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import serving

KEY = "a-key-of-the-tests-0123456789"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """A server with one key for all scopes."""
    directory = tmp_path_factory.mktemp("documented")
    (directory / "keys").write_text(f"schemathesis:recognise,enrol,manage,attend:{KEY}\n")
    with serving(directory, "--api-keys", directory / "keys") as server:
        yield server


def schemathesis(server, *flags):
    program = Path(sys.executable).with_name("schemathesis")
    # Schemathesis cannot make ZIP archives, so tests/e2e/people.rs tests the import.
    flags = ("--exclude-operation-id", "import_gallery", *flags)
    command = [program, "run", f"{server.url}/openapi.json", "--checks", CHECKS, "--no-color", "--seed", "1", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=server.directory)


def test_answers_match_document(documented):
    run = schemathesis(documented, "-H", f"x-api-key: {KEY}", "--max-examples", "30", "--phases", "coverage,fuzzing")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "27 selected / 28 total" in run.stdout, run.stdout[-4000:]


def test_keyless_answers_match_document(documented):
    run = schemathesis(documented, "--max-examples", "5", "--phases", "coverage,fuzzing")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
