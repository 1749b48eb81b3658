"""Gunicorn for the HTTP frontend:  gunicorn -c etc/tensorhub/gunicorn.conf.py tensorhub.http:app

The values and the environment variables that change them are those of `tensorhub.http.gunicorn_conf`; a site adds its
own below.
"""

from tensorhub.http.gunicorn_conf import *  # noqa: F403
