"""Open files: an edge holds one for each connection, and shells and services often allow no more than 1024.

The soft limit is raised to the hard one, which any process may do. What the configuration allows to be open at
once is held against that, and the log says so where it is not enough: past the limit connections are refused
one by one, which looks like a fault of the network.
"""

import resource

import structlog

from banish.admin.server import CONNECTIONS_MAX
from banish.edge.config import Config

OTHER_FILES = 256
"""For all that is not a connection: listeners, logs, spool files, files of the store."""

log = structlog.get_logger(__name__)


def raise_limit(config: Config) -> None:
    """Let this process open as many files as it may; warn if the configuration can want more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS has a lower bound of its own
            pass
    wanted = files_wanted(config)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        right = "raise LimitNOFILE of the service (or `ulimit -Hn`), or lower limits.connections"
        log.warning("fewer open files allowed than connections configured", allowed=soft, wanted=wanted, right=right)


def files_wanted(config: Config) -> int:
    """Files that may be open at once: every client's connection and every one to an origin or a parent."""
    to_origins = sum(
        site.origin_limits.connections_max * (len(site.origin) + len(site.parent)) for site in config.sites
    )
    to_admin = CONNECTIONS_MAX if config.admin.listen != "off" else 0
    return config.limits.connections + to_origins + to_admin + OTHER_FILES
