"""Pictures of cameras, phones and programs: the person is recognised in every format."""

import io

import numpy
import pytest
import requests
from callers import post_frame
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF's tag.


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_of_16_bits(image):
    # Every 8-bit value v becomes 257 v, so that black stays black and white stays white.
    return Image.fromarray(numpy.asarray(image.convert("L")).astype(numpy.uint16) * 257)


def half_transparent(image):
    return Image.merge("RGBA", (*image.split(), Image.linear_gradient("L").resize(image.size)))


def animation(image):
    blank = Image.new("RGB", image.size, "slategrey")
    return encoded(image, "WEBP", save_all=True, append_images=[blank], duration=100, quality=90)


def turned(image, orientation, turn):
    """Encodes a rotated photo, which is upright once its EXIF orientation is applied."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image.transpose(turn), "JPEG", quality=95, exif=exif)


PICTURES = {
    "jpeg, grey": lambda image: encoded(image.convert("L"), "JPEG", quality=95),
    "jpeg, cmyk": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "jpeg, progressive": lambda image: encoded(image, "JPEG", quality=95, progressive=True),
    "jpeg, orientation 3": lambda image: turned(image, 3, Image.Transpose.ROTATE_180),
    "jpeg, orientation 6": lambda image: turned(image, 6, Image.Transpose.ROTATE_90),
    "jpeg, orientation 8": lambda image: turned(image, 8, Image.Transpose.ROTATE_270),
    "png": lambda image: encoded(image, "PNG"),
    "png, grey": lambda image: encoded(image.convert("L"), "PNG"),
    "png, grey of 16 bits": lambda image: encoded(grey_of_16_bits(image), "PNG"),
    "png, rgba": lambda image: encoded(half_transparent(image), "PNG"),
    "png, palette": lambda image: encoded(image.quantize(256), "PNG"),
    "webp": lambda image: encoded(image, "WEBP", quality=90),
    "webp, lossless": lambda image: encoded(image, "WEBP", lossless=True),
    "webp, animated": animation,
}


@pytest.fixture(scope="module")
def photo(student):
    return Image.open(*student("s6", "test")).convert("RGB")


@pytest.fixture(scope="module")
def face(server, s6, photo):
    """The face of s6 in a lossless picture."""
    (face,) = recognized(post_frame(server.url, encoded(photo, "PNG")))
    return face


def recognized(response):
    assert response.status_code == 200, response.text
    return response.json()["recognized_faces"]


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())
def test_every_format_is_recognised(server, photo, face, picture):
    contents = picture(photo)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    assert shown.size == photo.size, "the stored picture must be upright for other programs, too"

    response = post_frame(server.url, contents)
    (found,) = recognized(response)
    assert found["identity"] == "s6"
    assert response.json()["frame"] == {"width": photo.width, "height": photo.height}
    eyes = numpy.linalg.norm(numpy.subtract(*face["landmarks"][:2]))
    assert numpy.allclose(found["landmarks"], face["landmarks"], atol=eyes / 10), "the face must be where it is on the upright picture"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("frame.jpg", "image/jpeg"), ("frame.png", "image/png"), ("frame.webp", "image/webp"), ("frame", "application/octet-stream")],
)
def test_content_decides_format(server, photo, face, name, content_type):
    files = {"image": (name, encoded(photo, "PNG"), content_type)}
    (found,) = recognized(requests.post(f"{server.url}/process_frame", files=files, timeout=30))
    assert found == face


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_one_pixel_has_no_face(server, kind):
    response = post_frame(server.url, encoded(Image.new("RGB", (1, 1)), kind))
    assert recognized(response) == []
    assert response.json()["frame"] == {"width": 1, "height": 1}


def test_broken_photo_spares_others(server, student, photo):
    broken = bytearray(animation(photo))
    width = broken.index(b"ANMF") + 14
    assert int.from_bytes(broken[width : width + 3], "little") == photo.width - 1
    broken[width : width + 3] = bytes(3)  # The first frame of the animation now claims to be one pixel wide.
    photos = [("images", ("broken.webp", bytes(broken), "image/webp"))]
    photos += [("images", (path.name, path.read_bytes(), "image/jpeg")) for path in student("s54", "front")]
    answer = requests.post(f"{server.url}/process-images", data={"student_id": "s54"}, files=photos, timeout=30)
    assert answer.status_code == 200, answer.text
    assert [accepted["file_name"] for accepted in answer.json()["accepted"]] == ["front.jpg"]
    (rejected,) = answer.json()["rejected"]
    assert rejected["file_name"] == "broken.webp"
    assert rejected["reasons"][0]["code"] in ("pipeline_failed", "undecodable")
