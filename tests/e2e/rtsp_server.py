"""RTSP server of the end-to-end tests: serves a Matroska file with H.264 at /live.

It runs with the system's Python, whose `gi` binds GStreamer's RTSP library. Arguments: the file,
the port (0 for a free one) and, for a camera with a login, the user and the password. Prints the
port. Without arguments it only checks that the library is there.
Without arguments it only checks that the library is there.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def require_login(server, factory, user, password):
    """Admits this user only, by digest authentication."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(2)  # GST_RTSP_AUTH_DIGEST, which Python's bindings lack.
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ["access", "construct"]:
        permissions.add_permission_for_role("viewer", f"media.factory.{permission}", True)
    factory.set_permissions(permissions)


def main(video, port, *login):
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f'filesrc location="{video}" ! matroskademux ! rtph264pay name=pay0')
    if login:
        require_login(server, factory, *login)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if sys.argv[1:]:
    main(*sys.argv[1:])
