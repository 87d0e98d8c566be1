"""The page at `/` in headless Chromium, with a fake camera that shows a student's photo."""

import re

import pytest
import requests
from callers import post_frame, post_photos
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# Makes each recognition take 700 ms and counts concurrent ones.
SLOW_SERVICE = """
window.inFlight = 0; window.mostInFlight = 0;
const quick = window.fetch;
window.fetch = async (...request) => {
  window.mostInFlight = Math.max(window.mostInFlight, ++window.inFlight);
  await new Promise((resolve) => setTimeout(resolve, 700));
  try { return await quick(...request); } finally { window.inFlight -= 1; }
};
"""

# Drops the files of an input on an element, as a person would with the mouse.
DROP = """
const [target, input] = arguments;
const files = new DataTransfer();
for (const file of input.files) files.items.add(file);
for (const type of ["dragenter", "dragover", "drop"])
  target.dispatchEvent(new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }));
"""

# Returns the left, upper, right and lower edge of the first box as fractions of the picture.
DRAWN = """
const outer = document.querySelector("#picture").getBoundingClientRect();
const box = document.querySelector(".face").getBoundingClientRect();
return [(box.left - outer.left) / outer.width, (box.top - outer.top) / outer.height,
        (box.right - outer.left) / outer.width, (box.bottom - outer.top) / outer.height];
"""


@pytest.fixture
def s6_camera(camera, student):
    return camera(*student("s6", "test"))


# --- the camera ---


def test_camera_shows_identity(server, s6, open_page, s6_camera, student):
    page = open_page(*s6_camera)
    page.screenshot("empty")
    page.press("#camera")
    page.until_names("s6")
    assert re.fullmatch(r"0\.\d\d|1\.00", page.text("#people .confidence"))
    assert re.fullmatch(r"s6\s+(0\.\d\d|1\.00)", page.text(".face .name"))
    assert float(page.text("#round-trip")) + 1 > float(page.text("#server-total")) > 0, "the service's part is within the round trip"
    assert "decode" in page.text("#stages") and "ms" in page.text("#stages")
    page.screenshot("camera")

    answer = post_frame(server.url, student("s6", "test")[0].read_bytes()).json()
    left, upper, right, lower = answer["recognized_faces"][0]["bbox"]
    expected = pytest.approx([left / 640, upper / 480, right / 640, lower / 480], abs=0.03)
    assert page.browser.execute_script(DRAWN) == expected
    page.browser.set_window_size(500, 900)
    assert page.browser.execute_script(DRAWN) == expected, "the box must follow the size of the picture"

    page.press("#camera")
    assert page.names() == [] and page.text("#camera") == "Open camera"


def test_only_one_request_in_flight(s6, open_page, s6_camera):
    page = open_page(*s6_camera, script=SLOW_SERVICE)
    page.press("#camera")
    page.find("#rate").send_keys(Keys.END)
    assert page.text("#rate-value") == "5 fps"
    page.until(lambda: frame_counts(page)[0] >= 4, "no four frames sent")
    sent, skipped = frame_counts(page)
    assert skipped >= sent, "at 5 fps and 700 ms a request, most frames must be skipped"
    assert page.browser.execute_script("return window.mostInFlight") == 1


def frame_counts(page):
    """Returns the sent and the skipped frames; both are 0 before the first answer."""
    counts = re.match(r"(\d+) frames sent, (\d+) skipped", page.text("#frames"))
    return [int(count) for count in counts.groups()] if counts else [0, 0]


def test_missing_camera_is_explained(open_page):
    page = open_page()
    page.press("#camera")
    assert page.until_text("#notice").startswith("No camera was found")
    page.screenshot("no-camera")


def test_blocked_camera_is_explained(open_page):
    page = open_page("--use-fake-device-for-media-stream", preferences={"profile.default_content_setting_values.media_stream_camera": 2})
    page.press("#camera")
    assert page.until_text("#notice").startswith("The camera is blocked for this page")


def test_insecure_page_explains_camera(server, open_page):
    port = server.url.rpartition(":")[2]
    page = open_page("--host-resolver-rules=MAP rostro.test 127.0.0.1", url=f"http://rostro.test:{port}")
    page.press("#camera")
    assert page.until_text("#notice").startswith("Browsers open the camera only on https pages and on localhost")


# --- photos ---


def test_chosen_photos_are_recognized(s6, open_page, student, faces):
    page = open_page()
    page.choose("#photos", *student("s6", "test"), faces / "groups/friends.jpg")
    page.until_names("s6")
    page.press("#strip li:nth-child(2) button")
    page.until_names(*["Unknown"] * 6)
    page.press("#landmarks")
    assert len(page.browser.find_elements(By.CSS_SELECTOR, ".landmark")) == 30
    page.screenshot("unknown")


def test_dropped_photo_is_recognized(s6, open_page, student):
    page = open_page()
    page.browser.execute_script("document.body.insertAdjacentHTML('beforeend', '<input id=source type=file>')")
    page.choose("#source", *student("s6", "test"))
    page.browser.execute_script(DROP, page.find("#stage"), page.find("#source"))
    page.until_names("s6")


def test_invalid_photo_shows_error(open_page, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a picture")
    page = open_page()
    page.choose("#photos", text)
    assert page.until_text("#notice") == "Could not decode image. This is not a JPEG, PNG, WebP, BMP, GIF or TIFF image."


# --- enrolment ---


def test_three_shots_enrol_person(open_page, camera, student):
    page = open_page(*camera(*student("s12", "test")))
    page.press("#camera")
    page.until_names("Unknown")
    for number in (1, 2, 3):
        page.press(f"#shots li:nth-child({number}) button")
        page.until(lambda n=number: page.find(f"#shots li:nth-child({n}) img"), f"shot {number} is not shown")
    page.press("[aria-label='Retake shot 2']")
    page.find("#person").send_keys("s12@page")
    page.press("#enroll-send")
    assert page.until_text("#enroll-notice") == "Embeddings for 's12@page' saved successfully."
    # The camera shows a still: three shots of it are one photo.
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#verdicts .accepted")) == 1
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#verdicts .rejected")) == 2
    page.until_names("s12@page")
    page.screenshot("enrolled")


def test_interface_page_sends_request(open_page, server, student):
    page = open_page(url=f"{server.url}/api")
    page.until_text("#detect summary")
    page.press("#detect summary")
    page.choose("#detect [name=image]", *student("s6", "test"))
    page.press("#detect button")
    answered = page.until(lambda: (text := page.text("#detect pre")).startswith("200") and text, "no answer is shown")
    assert "det_score" in answered and "landmarks" in answered
    page.screenshot("interface")


def test_interface_page_sends_json(open_page, server):
    page = open_page(url=f"{server.url}/api")
    operation = "#" + operation_id(server, "post", "/v1/sessions")
    page.until_text(f"{operation} summary")
    page.press(f"{operation} summary")
    page.find(f"{operation} [name=stream]").send_keys("room-1")
    page.find(f"{operation} [name=rule]").send_keys('{"seen": 3}')
    page.press(f"{operation} button")
    answered = page.until(lambda: (text := page.text(f"{operation} pre")).startswith("201") and text, "no answer is shown")
    assert '"room-1"' in answered and '"seen": 3' in answered
    assert page.find("#" + operation_id(server, "patch", "/v1/sessions/{id}"))


def operation_id(server, method, path):
    return requests.get(f"{server.url}/openapi.json", timeout=30).json()["paths"][path][method]["operationId"]


def test_rejected_photo_shows_reason(open_page, student, blank):
    page = open_page()
    page.choose("#enroll-photos", blank, *student("s48", "front"))
    page.find("#person").send_keys("s48")
    page.press("#enroll-send")
    rejected = page.until_text("#verdicts .rejected")
    assert re.match(r"Photo 1 rejected \(blank\.jpg\): \w+", rejected)
    assert page.text("#verdicts .accepted").startswith("Photo 2 accepted (front.jpg)")
    page.screenshot("rejected")


def test_file_name_is_escaped(open_page, blank):
    trap = blank.with_name("<img src=x>.jpg")
    trap.write_bytes(blank.read_bytes())
    page = open_page()
    page.choose("#enroll-photos", trap)
    page.find("#person").send_keys("s48")
    page.press("#enroll-send")
    assert trap.name in page.until_text("#verdicts")
    assert not page.browser.find_elements(By.CSS_SELECTOR, "#verdicts img")


def test_invalid_id_shows_error(server, open_page, student):
    bad = "../<img src=x onerror=alert(1)>"
    photo = student("s48", "front")
    page = open_page()
    page.choose("#enroll-photos", *photo)
    page.find("#person").send_keys(bad)
    page.press("#enroll-send")
    shown = page.until_text("#enroll-notice")
    answer = post_photos(server.url, bad, photo)
    assert answer.status_code == 400 and shown == answer.json()["error"]
    page.screenshot("bad-id")


# --- accessibility and resources ---


def test_keyboard_opens_camera(s6, open_page, s6_camera):
    page = open_page(*s6_camera)
    page.find("body").send_keys(Keys.TAB)
    assert page.browser.switch_to.active_element.get_attribute("id") == "camera"
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.until_names("s6")


def test_narrow_dark_screen_fits(s6, open_page, student):
    page = open_page()
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 1500, "deviceScaleFactor": 2, "mobile": True})
    light = page.find("html").value_of_css_property("background-color")
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    assert page.find("html").value_of_css_property("background-color") != light
    page.choose("#photos", *student("s6", "test"))
    page.until_names("s6")
    assert page.fits(), "the page must not scroll sideways"
    page.screenshot("narrow-dark")


def test_page_loads_only_own_resources(server, s6, open_page, s6_camera):
    policy = requests.get(server.url, timeout=30).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    page = open_page(*s6_camera)
    page.press("#camera")
    page.until_names("s6")
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded and all(address.startswith((server.url, "data:", "blob:")) for address in loaded)
    assert page.browser.get_log("browser") == []
