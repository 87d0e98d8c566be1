"""The section "Session" of the page at `/`, in headless Chromium."""

import csv
import dataclasses
import io

import pytest
import requests
from callers import post_photos
from conftest import serving
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

DESK, OFFICE, DOOR = "desk-0123456789abcdef", "office-0123456789abcdef", "door-0123456789abcdef"
KEYS = f"desk:recognise,attend:{DESK}\noffice:enrol,manage:{OFFICE}\ndoor:recognise:{DOOR}\n"
GROUP = "class 7"

# Answers the requests of a session in place of the service. `PERSON` stands in every field of text.
# The first event stream ends in the middle of an event; headers of the streams are recorded.
STUB = """
const PERSON = "<img src=x onerror=window.ran=1>";
const event = (number, fields) => `id: x-${number}\\r\\ndata: ${JSON.stringify({ number, at: "2026-12-02T08:00:00Z", ...fields })}\\r\\n\\r\\n`;
window.streams = [];
const real = window.fetch;
window.fetch = async (path, options = {}) => {
  if (!String(path).startsWith("v1/sessions/")) return real(path, options);
  if (String(path).endsWith("/events")) {
    window.streams.push(options.headers);
    const text = window.streams.length === 1
      ? `: comment\\n${event(1, { kind: "arrived", person: PERSON })}id: x-2\\ndata: {"num`
      : event(1, { kind: "ended" }) + event(2, { kind: "policy", code: "spoof", person: PERSON, message: PERSON });
    const body = new ReadableStream({ start(stream) {
      for (const byte of new TextEncoder().encode(text)) stream.enqueue(new Uint8Array([byte]));
      if (window.streams.length === 1) stream.close();
    } });
    return new Response(body);
  }
  return new Response(JSON.stringify({
    id: "x", stream: PERSON, group: PERSON, rule: { seen: 2, within_s: 60 }, created: "2026-12-02T08:00:00Z", last_event: 0,
    present: [], absent: [],
    uncertain: [{ id: PERSON, status: "uncertain", reasons: [PERSON], times_seen: 1,
                  correction: { status: "late", by: PERSON, at: "2026-12-02T08:00:00Z" } }],
  }));
};
"""

# Parses streams, each as a whole, split once at every place, and byte by byte.
PARSE = """
const [texts, done] = arguments;
import("/events.js").then(({ EventParser }) => {
  done(texts.map((text) => {
    const splits = [[text], [...text], ...[...text].map((_, n) => [text.slice(0, n), text.slice(n)])];
    const results = splits.map((chunks) => {
      const events = [];
      const parser = new EventParser(({ id, kind, data }) => events.push([id, kind, data]));
      chunks.forEach((chunk) => parser.push(chunk));
      return JSON.stringify(events);
    });
    return [...new Set(results)].map((result) => JSON.parse(result));
  }));
});
"""


@dataclasses.dataclass(frozen=True)
class Session:
    """A session that the page shows, and the requests of its camera."""

    url: str
    id: str

    def send(self, photo):
        answer = requests.post(f"{self.url}/v1/sessions/{self.id}/frames", files={"image": photo.open("rb")}, headers=bearer(DESK), timeout=60)
        assert answer.status_code == 200, answer.text


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory, student):
    """A server with API keys, and a group of s6 and s12."""
    directory = tmp_path_factory.mktemp("keyed")
    keys = directory / "api.keys"
    keys.write_text(KEYS)
    with serving(directory, "--api-keys", keys) as server:
        for person in ("s6", "s12"):
            enrolled = post_photos(server.url, person, student(person), headers=bearer(OFFICE))
            assert enrolled.status_code == 200, enrolled.text
            added = requests.put(f"{server.url}/v1/groups/{GROUP}/people/{person}", headers=bearer(OFFICE), timeout=30)
            assert added.status_code == 200, added.text
        yield server


@pytest.fixture
def open_keyed(keyed, open_page):
    """Opens the page of the server with keys."""
    return lambda *flags: open_page(*flags, url=keyed.url)


@pytest.fixture
def create(keyed):
    """Creates a session on a page that has a key."""

    def created(page, key, group=GROUP):
        enter_key(page, key)
        page.press("#session summary")
        page.find("#session-stream").send_keys("room-1")
        page.find("#session-group").send_keys(group, Keys.ENTER)
        return Session(keyed.url, page.until_text("#session-id"))

    return created


def enter_key(page, key):
    page.find("#key").clear()
    page.find("#key").send_keys(key, Keys.TAB)


def rows(page, name):
    """Returns the ids of a list of the attendance."""
    script = "return [...document.querySelectorAll(arguments[0])].map((item) => item.textContent)"
    return page.browser.execute_script(script, f"#{name} b")


def people(page):
    return {name: rows(page, name) for name in ("present", "uncertain", "absent")}


def until_people(page, **expected):
    expected = {"present": [], "uncertain": [], "absent": [], **expected}
    page.until(lambda: people(page) == expected, f"not shown: {expected}")


def test_attendance_follows_frames(open_keyed, create, student):
    page = open_keyed()
    session = create(page, DESK)
    until_people(page, absent=["s12", "s6"])
    assert page.browser.current_url.endswith(f"#session={session.id}") and DESK not in page.browser.current_url
    photo = student("s6", "test")[0]
    session.send(photo)
    until_people(page, uncertain=["s6"], absent=["s12"])
    assert "seen too rarely: 2 frames within 60 s are needed" in page.text("#uncertain small")
    page.browser.execute_script("document.querySelector('#uncertain select').focus()")
    session.send(photo)
    until_people(page, present=["s6"], absent=["s12"])
    assert page.browser.switch_to.active_element.get_attribute("aria-label") == "Attendance of s6", "a row that moves keeps the focus"
    facts = page.text("#present small")
    assert "first " in facts and "last " in facts and "seen 2 times" in facts and "best 0." in facts
    page.until(lambda: "s6 arrived" in page.text("#session-events"), "the event is not shown")

    Select(page.find("#absent select")).select_by_visible_text("Late")
    until_people(page, present=["s12", "s6"])
    assert "corrected by desk" in page.text("#present small")
    page.until(lambda: "s12 corrected to late by desk" in page.text("#session-events"), "the correction is no event")
    page.screenshot("session")
    Select(page.find("#present select")).select_by_visible_text("As counted")
    until_people(page, present=["s6"], absent=["s12"])


def test_late_arrival_is_marked(open_keyed, create, student):
    page = open_keyed()
    page.browser.execute_script("document.getElementById('session-late').value = '2026-01-02T08:05'")
    session = create(page, DESK)
    for _ in range(2):
        session.send(student("s6", "test")[0])
    until_people(page, present=["s6"], absent=["s12"])
    assert page.text("#present small").startswith("late · first ") and page.text("#present-count") == "1, 1 late"
    page.until(lambda: "s6 came late" in page.text("#session-events"), "the event is not shown")


def test_deleted_person_leaves_page(keyed, open_keyed, create, student):
    assert post_photos(keyed.url, "s48", student("s48"), headers=bearer(OFFICE)).status_code == 200
    assert requests.put(f"{keyed.url}/v1/groups/guests/people/s48", headers=bearer(OFFICE), timeout=30).status_code == 200
    page = open_keyed()
    session = create(page, DESK, group="guests")
    until_people(page, absent=["s48"])
    for _ in range(2):
        session.send(student("s48", "test")[0])
    page.until(lambda: "s48 arrived" in page.text("#session-events"), "the event is not shown")
    assert requests.delete(f"{keyed.url}/v1/people/s48", headers=bearer(OFFICE), timeout=30).status_code == 200
    page.until(lambda: "A person was deleted" in page.text("#session-events"), "the deletion is not shown")
    until_people(page)
    assert "s48" not in page.text("#session")


def test_ended_session_takes_corrections(open_keyed, create):
    page = open_keyed()
    create(page, DESK)
    until_people(page, absent=["s12", "s6"])
    page.press("#session-end")
    page.browser.switch_to.alert.dismiss()
    assert page.find("#session-end").is_displayed()
    page.press("#session-end")
    page.browser.switch_to.alert.accept()
    page.until(lambda: "room-1 · ended" in page.text("#session-state"), "the end is not shown")
    assert not page.find("#session-end").is_displayed() and not page.find("#session-camera").is_enabled()
    Select(page.find("#absent select")).select_by_visible_text("Present")
    until_people(page, present=["s12"], absent=["s6"])
    assert page.text("#session-notice") == ""


def test_address_opens_session(open_keyed, create, open_page):
    page = open_keyed()
    session = create(page, DESK)
    page.browser.refresh()
    until_people(page, absent=["s12", "s6"])
    assert page.find("#key").get_attribute("value") == DESK, "the key stays in the tab"
    assert page.browser.execute_script("return localStorage.length") == 0
    page.press("#session-close")
    assert "#" not in page.browser.current_url.rstrip("#")

    other = open_page(url=page.browser.current_url)
    other.press("#session summary")
    other.find("#session-wanted").send_keys(session.id, Keys.ENTER)
    assert other.until_text("#session-notice") == "The service needs an API key: enter it in the field “API key”"
    enter_key(other, "wrong")
    other.until(lambda: other.text("#session-notice") == "The service does not know this API key", "the wrong key is not told")
    enter_key(other, DESK)
    until_people(other, absent=["s12", "s6"])
    assert other.text("#session-notice") == ""


def test_unknown_session_is_explained(keyed, open_page):
    page = open_page(url=f"{keyed.url}/#session=../../x")
    enter_key(page, DESK)
    page.until(lambda: page.text("#session-notice").startswith("There is no session of this id"), "no message")
    assert page.find("#session-create").is_displayed()


def test_missing_scope_is_named(open_keyed, create):
    page = open_keyed()
    create(page, DOOR)
    assert page.until_text("#session-notice") == "The key is not good for this; it needs the scope 'attend'."
    assert not page.find("#session-people").is_displayed()
    page.screenshot("session-scope")
    enter_key(page, OFFICE)
    page.press("#session-end")
    page.browser.switch_to.alert.accept()
    page.until(lambda: "'recognise' or 'attend'" in page.text("#session-notice"), "the end is not refused")
    enter_key(page, DESK)
    until_people(page, absent=["s12", "s6"])


def test_attendance_is_saved(open_keyed, create, tmp_path):
    page = open_keyed()
    session = create(page, DESK)
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.press("#session-csv")
    saved = tmp_path / f"attendance-{session.id}.csv"
    page.until(lambda: saved.exists() and saved.stat().st_size, "no file was saved")
    assert [row["person"] for row in csv.DictReader(io.StringIO(saved.read_text()))] == ["s12", "s6"]


def test_camera_feeds_session(open_keyed, create, camera, student):
    page = open_keyed(*camera(*student("s6", "test")))
    create(page, DESK)
    page.press("#camera")
    page.until_names("s6")
    assert people(page)["absent"] == ["s12", "s6"], "no frame goes to the session before it is chosen"
    page.press("#session-camera")
    until_people(page, present=["s6"], absent=["s12"])
    page.until(lambda: page.text(".face.tracked .name span:last-child") == "#1", "the track is not shown")
    page.screenshot("session-camera")
    page.press("#session-close")
    page.until(lambda: page.find(".face:not(.tracked)"), "the camera still feeds the session")


def test_session_text_is_escaped(open_page, server):
    page = open_page(url=f"{server.url}/#session=x", script=STUB)
    trap = "<img src=x onerror=window.ran=1>"
    until_people(page, uncertain=[trap])
    page.until(lambda: f"{trap} arrived" in page.text("#session-events"), "no event is shown")
    page.until(lambda: f"{trap}: {trap}" in page.text("#session-events"), "the stream was not read again")
    assert page.text("#session-facts").startswith(f"group {trap}") and trap in page.text("#uncertain small")
    assert page.browser.execute_script("return [document.querySelectorAll('#session img').length, window.ran ?? 0]") == [0, 0]
    assert page.text("#session-events").count("\n") == 1, "event 1 of the second stream repeats and is dropped"
    first, second = page.browser.execute_script("return window.streams")
    assert "last-event-id" not in first and second["last-event-id"] == "x-1"
    assert "authorization" not in first


def test_split_streams_are_parsed(open_page):
    streams = {
        "data: a\n\n": [["", "message", "a"]],
        "data:a\r\ndata: b\r\n\r\n": [["", "message", "a\nb"]],
        "id: 1\revent: late\rdata: a\r\rdata: b\r\r": [["1", "late", "a"], ["1", "message", "b"]],
        ": comment\n\nevent: x\n\ndata\n\n": [["", "message", ""]],
        "id: 1\n\ndata:  \u00fc: \u20ac\nretry: 5\nother\n\n": [["1", "message", " \u00fc: \u20ac"]],
        "id: a\0b\ndata: a\n\ndata: cut off\n": [["", "message", "a"]],
    }
    page = open_page()
    parsed = page.browser.execute_async_script(PARSE, list(streams))
    assert parsed == [[events] for events in streams.values()]


def test_narrow_session_fits(open_keyed, create, student):
    page = open_keyed()
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 1900, "deviceScaleFactor": 2, "mobile": True})
    page.press("#session summary")
    assert page.fits(), "the form must not scroll sideways"
    page.screenshot("session-form-narrow", "#session")
    page.press("#session summary")
    session = create(page, DESK)
    session.send(student("s6", "test")[0])
    until_people(page, uncertain=["s6"], absent=["s12"])
    assert page.fits(), "the session must not scroll sideways"
    page.screenshot("session-narrow", "#session")
