"""Requests exactly as the callers of the replaced service send them."""

from contextlib import ExitStack

import requests


def post_frame(url, jpeg):
    """Sends a frame as the camera client did, with a form field unknown to that service."""
    return requests.post(f"{url}/process_frame", files={"image": ("frame.jpg", jpeg, "image/jpeg")}, data={"schedule_id": "17"}, timeout=30)


def post_photos(url, student_id, photos, headers=None):
    """Enrols a person as the registration client did."""
    with ExitStack() as streams:
        files = [("images", (path.name, streams.enter_context(path.open("rb")), "image/jpeg")) for path in photos]
        return requests.post(f"{url}/process-images", data={"student_id": student_id}, files=files, headers=headers, timeout=60)
