"""The unmodified callers of the replaced service: their requests and their use of answers."""

import re

import numpy
import pandas
import pytest
import requests
from callers import post_frame, post_photos

MISSING_ID = "Field 'student_id' is required."
MISSING_IMAGES = "No images provided in the 'images' field."
NOTHING_USABLE = "Could not extract any high-quality embeddings from the provided images."
MISSING_FRAME = "Image file not found in the request."
UNDECODABLE = "Could not decode image."

DIMENSION = 128  # Of the recogniser in the pack `mobile`.


def recognized(server, photo):
    response = post_frame(server.url, photo.read_bytes())
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/json")
    return response.json()["recognized_faces"]


def embeddings(server, filepath):
    """Reads the embeddings of a person as the old consumers do."""
    table = pandas.read_csv(server.directory / filepath)
    return numpy.stack([numpy.fromstring(row, sep=";") for row in table["embedding"]])


def assert_refused(response, error):
    """Asserts an error with the old text and the newer fields."""
    assert response.status_code == 400, response.text
    body = response.json()
    assert body["error"] == error
    assert re.fullmatch(r"[a-z][a-z0-9_]*", body["code"])
    assert isinstance(body["details"], dict)
    assert body["request_id"] == response.headers["x-request-id"]


# --- the camera client ---


def test_camera_client_gets_identity(server, s6, student):
    (face,) = recognized(server, *student("s6", "test"))
    assert face["identity"] == "s6"
    assert type(face["confidence"]) is str
    assert re.fullmatch(r"0\.\d\d|1\.00", face["confidence"])
    assert float(face["confidence"]) > 0.5


def test_new_fields_extend_answer(server, s6, student):
    response = post_frame(server.url, student("s6", "test")[0].read_bytes())
    body = response.json()
    (face,) = body["recognized_faces"]
    assert face["confidence"] == f"{face['similarity']:.2f}"
    assert 0.7 <= face["det_score"] <= 1
    x1, y1, x2, y2 = face["bbox"]
    assert 0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 480
    assert numpy.shape(face["landmarks"]) == (5, 2)
    assert face["candidates"][0]["identity"] == "s6" and len(face["candidates"]) <= 3
    assert face["reason"] is None
    assert body["frame"] == {"width": 640, "height": 480}
    assert set(body["pipeline"]) == {"name", "version", "digest", "policy", "precision"}
    assert body["timings_ms"]["total"] > 0
    assert body["request_id"] == response.headers["x-request-id"]


def test_stranger_has_text_confidence(server, s6, student):
    (face,) = recognized(server, *student("s42", "test"))
    assert (face["identity"], face["confidence"]) == ("Unknown", "N/A")


def test_empty_frame_succeeds(server, blank):
    assert recognized(server, blank) == []


def test_confidence_equals_consumers_cosine(plain_server, student):
    def enrolled(student_id, photos):
        answer = post_photos(plain_server.url, student_id, photos).json()
        return embeddings(plain_server, answer["filepath"])

    person = enrolled("s18", student("s18")).mean(axis=0)
    (face,) = recognized(plain_server, *student("s18", "test"))
    (probe,) = enrolled("s18-probe", student("s18", "test"))
    cosine = person @ probe / numpy.linalg.norm(person) / numpy.linalg.norm(probe)
    assert face["identity"] == "s18"
    assert float(face["confidence"]) == pytest.approx(cosine, abs=0.0051)


def test_missing_frame_is_refused(server):
    url = f"{server.url}/process_frame"
    assert_refused(requests.post(url, files={"picture": ("frame.jpg", b"x", "image/jpeg")}, timeout=30), MISSING_FRAME)
    assert_refused(requests.post(url, data={"schedule_id": "17"}, timeout=30), MISSING_FRAME)
    assert_refused(requests.post(url, timeout=30), MISSING_FRAME)


@pytest.mark.parametrize("contents", [b"not a picture", b"", b"\xff\xd8\xff\xe0 cut off"], ids=["text", "empty", "cut-off"])
def test_invalid_frame_is_refused(server, contents):
    assert_refused(post_frame(server.url, contents), UNDECODABLE)


# --- the registration client ---


def test_registration_client_gets_fields(s6):
    assert s6["status"] == "success"
    assert s6["filepath"] == "embeddings_csvs/s6.csv"
    assert s6["message"] == "Embeddings for 's6' saved successfully."


def test_pandas_reads_person_file(server, s6):
    path = server.directory / s6["filepath"]
    assert path.read_text().startswith("image_number,embedding")
    assert pandas.read_csv(path)["image_number"].tolist() == [1, 2, 3]
    vectors = embeddings(server, s6["filepath"])
    assert vectors.shape == (3, DIMENSION)
    assert numpy.isfinite(vectors).all()
    norms = numpy.linalg.norm(vectors, axis=1)
    assert (abs(norms - 1) > 0.01).all(), f"the embeddings are not raw, their lengths are {norms}"


def test_enrolling_again_replaces_file(server, enroll, student):
    enroll("s24", student("s24"))
    answer = enroll("s24", student("s24", "front"))
    assert embeddings(server, answer["filepath"]).shape == (1, DIMENSION)


def test_bad_photo_is_left_out(server, enroll, student, blank):
    answer = enroll("s30", [blank, *student("s30", "front")])
    assert [photo["image"] for photo in answer["accepted"]] == [1]
    (rejected,) = answer["rejected"]
    assert (rejected["image"], rejected["file_name"]) == (0, "blank.jpg")
    assert all(reason["code"] and reason["message"] for reason in rejected["reasons"])
    assert len(embeddings(server, answer["filepath"])) == 1


def test_missing_id_is_refused(server, student):
    files = [("images", ("front.jpg", student("s6", "front")[0].read_bytes(), "image/jpeg"))]
    url = f"{server.url}/process-images"
    assert_refused(requests.post(url, files=files, timeout=30), MISSING_ID)
    assert_refused(requests.post(url, data={"student_id": ""}, files=files, timeout=30), MISSING_ID)


def test_missing_images_are_refused(server):
    url = f"{server.url}/process-images"
    assert_refused(requests.post(url, files={"student_id": (None, "s36")}, timeout=30), MISSING_IMAGES)
    # With an empty list of files `requests` sends a form that is not multipart.
    assert_refused(requests.post(url, data={"student_id": "s36"}, files=[], timeout=30), MISSING_IMAGES)


def test_unusable_photos_are_refused(server, blank):
    assert_refused(post_photos(server.url, "s36", [blank]), NOTHING_USABLE)
    assert not (server.directory / "embeddings_csvs/s36.csv").exists()
