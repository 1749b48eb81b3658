"""The HTTP frontend: `tensorhub.http:app`, for any ASGI server, and for any WSGI server through an adapter.

Inference goes a short way of its own (`infer`); everything else is a Falcon resource. Nothing happens at import: the
app joins the server of its run directory (TENSORHUB_RUN_DIR) when it is started or gets its first request.
"""

from tensorhub.http.app import App

__all__ = ["App", "app"]

app = App()
