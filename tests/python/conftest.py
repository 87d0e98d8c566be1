"""A real server with real weights, for tests that act as its callers.

    ROSTRO_BIN     the command to test; target/debug/rostro unless set
    ROSTRO_SHARED  the folder with test images; ../shared next to the repository unless set

Missing parts fail the tests with a message that names the remedy. No test is skipped.
"""

import contextlib
import dataclasses
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests
from browser import Page, start_browser
from callers import post_photos
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GALLERY = "embeddings_csvs"  # Relative, so that `filepath` is too, as in the replaced service.
START_SECONDS = 120  # A first start compiles the pipeline, in a debug build.


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server: its address, and the folder of its relative paths."""

    url: str
    directory: Path


def existing(path, remedy):
    """Returns the absolute path, or fails the test and names the remedy."""
    if not path.exists():
        pytest.fail(f"{path} is missing: {remedy}", pytrace=False)
    return path.resolve()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(process, url, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    state = f"exited with {process.returncode}" if process.poll() is not None else f"did not answer in {START_SECONDS} s"
    pytest.fail(f"the server {state}; its log ends:\n{log.read_text()[-4000:]}", pytrace=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """`rostro serve` with the pack `mobile` and an empty gallery."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory):
    """A server that acts as the replaced service: no review, and one letterbox for all photos."""
    with serving(tmp_path_factory.mktemp("server"), "--setting", "letterbox=square", "--review", "off") as server:
        yield server


@contextlib.contextmanager
def serving(directory, *flags):
    """Runs a server in `directory` with further flags."""
    binary = existing(Path(os.environ.get("ROSTRO_BIN", ROOT / "target/debug/rostro")), "run `cargo build --workspace --bins`")
    models = existing(ROOT / "models/installed", "run `rostro models install mobile --from DIR`")
    existing(models / "mobile", "run `rostro models install mobile --from DIR`")
    pipeline = existing(ROOT / "target/guest/insightface.wasm", "run `cargo xtask guest`")
    log = directory / "server.log"
    url = f"http://127.0.0.1:{free_port()}"
    command = [binary, "serve", "--listen", url.removeprefix("http://"), "--admin", "off", "--gallery", GALLERY, "--pack", "mobile"]
    command += ["--models", models, "--runtime", ROOT / "models/runtime", "--pipeline", pipeline, *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(process, url, log)
        yield Server(url, directory)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def faces():
    """The folder with photos of people."""
    shared = Path(os.environ.get("ROSTRO_SHARED", ROOT / "../shared"))
    return existing(shared / "faces", "set ROSTRO_SHARED to the folder that holds faces/")


@pytest.fixture(scope="session")
def student(faces):
    """Photos of a student: `student("s6")` for enrolment, `student("s6", "test")` for the probe."""

    def photos(name, *views):
        return [faces / "students" / name / f"{view}.jpg" for view in views or ("front", "left", "right")]

    return photos


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """A photo without a person."""
    path = tmp_path_factory.mktemp("photos") / "blank.jpg"
    Image.new("RGB", (320, 240), "slategrey").save(path)
    return path


@pytest.fixture(scope="session")
def enroll(server):
    """Enrols photos under an id, asserts success and returns the answer."""

    def enrolled(student_id, photos):
        response = post_photos(server.url, student_id, photos)
        assert response.status_code == 200, response.text
        return response.json()

    return enrolled


@pytest.fixture(scope="session")
def s6(enroll, student):
    """The answer to the enrolment of student s6."""
    return enroll("s6", student("s6"))


@pytest.fixture
def open_page(server, tmp_path):
    """Opens the page in a fresh browser; `script` runs before the scripts of the page."""
    browsers = []

    def opened(*flags, url=server.url, script=None, preferences=None):
        browser = start_browser(tmp_path / f"profile-{len(browsers)}", flags, preferences)
        browsers.append(browser)
        if script:
            browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        browser.get(url)
        return Page(browser)

    yield opened
    for browser in browsers:
        browser.quit()


@pytest.fixture
def camera(tmp_path):
    """The flags of a fake camera that shows one photo."""

    def flags(photo):
        jpeg, video = tmp_path / "frame.jpg", tmp_path / "camera.mjpeg"
        Image.open(photo).save(jpeg, quality=95, subsampling="4:2:0")  # The fake camera reads no other subsampling.
        video.write_bytes(jpeg.read_bytes() * 10)
        return "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={video}"

    return flags
