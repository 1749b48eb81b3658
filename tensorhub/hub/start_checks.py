"""What can be wrong with a server's options and surroundings, found out before any process of it is started.

So that a fault is one line on the terminal, and not the death of a child that is started again and again.
"""

import os
from contextlib import ExitStack
from dataclasses import replace

from tensorhub.cache_options import RedisOptions, cache_options, without_password
from tensorhub.hub.cloud_paths import is_cloud, parse_cloud_path
from tensorhub.hub.ports import StartError, check_ports
from tensorhub.hub.repository import Repository
from tensorhub.hub.tls import check_http_tls
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol.metrics_config import MetricsConfig
from tensorhub.protocol.trace_settings import TraceStart
from tensorhub.redis_link import RedisFault, check_redis
from tensorhub.settings import Settings


def check_start(settings: Settings, run_dir: RunDir, held: ExitStack) -> tuple[Settings, int]:
    """See whether a server can be started, and take its run directory, until `held` is closed.

    Returns:
        The settings to start it with, in which there are no passwords; and the descriptor of the lock, for the hub.

    Raises:
        RunDirError: the directory cannot be had, or another server has it.
        InvalidArgument: an option, or a file that it names, is wrong.
        StartError: a port or a cache cannot be had.
        OSError: the directory cannot be made.
    """
    _check_repositories(settings)
    run_dir.open()
    lock = held.enter_context(run_dir.lock())
    run_dir.forget_the_dead()
    check_http_tls(settings)
    MetricsConfig.read(settings.metrics.metrics_config)
    TraceStart.read(settings.tracing.trace_config)
    check_ports(settings)
    return _check_cache(settings), lock


def _check_repositories(settings: Settings) -> None:
    """See that the local repositories are there; the hub looks at those in the cloud.

    Raises:
        InvalidArgument: one is not, or an address is none.
    """
    paths = settings.repository.model_repository
    for path in filter(is_cloud, paths):
        parse_cloud_path(path)
    local = [path for path in paths if not is_cloud(path)]
    if local or not paths:
        Repository(local, settings.repository.model_config_name).check()


def _check_cache(settings: Settings) -> Settings:
    """See that a response cache elsewhere is there, and take its password off the command lines of the children.

    Raises:
        StartError: it is not.
    """
    given = settings.cache.cache_config
    try:
        options = cache_options(given, os.environ)
        if isinstance(options, RedisOptions):
            check_redis(options)
    except ValueError as exc:
        raise StartError(f"--cache-config: {exc}") from exc
    except RedisFault as exc:
        raise StartError(f"error: creating server: Internal - Failed to initialize RedisCache: {exc}") from exc
    kept, environ = without_password(given)
    os.environ.update(environ)
    return replace(settings, cache=replace(settings.cache, cache_config=kept))
