"""The HTTP frontend on a fake gateway, for a real server to serve: `gunicorn tests.http.fake_app:app`."""

from tensorhub.http.app import App
from tests.http.fake_gateway import open_fake_gateway

app = App(open_fake_gateway)
