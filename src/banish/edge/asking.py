"""What is asked of the purge service: whether it is allowed, well-formed, and the same as before.

Not here: the JSON form of targets (`purge/given.py`), tokens (`admin/access.py`).
"""

import hashlib
import math

import msgspec

from banish.edge.receipts import Caller, PurgeRequest
from banish.errors import ClientError
from banish.purge.given import TARGETS_MAX, Given, too_many
from banish.purge.records import EVERY_SITE
from banish.purge.stamps import Mode

REASON_CHARS_MAX = 1000
"""Of a reason, and so of what one purge adds to a listing."""

KEY_CHARS_MAX = 255
"""Of an idempotency key."""


def scope(site: str | None, caller: Caller) -> tuple[str, ...]:
    """The sites that a purge is about; none: all. Raises ClientError for what the caller may not purge."""
    if site == "":
        raise ClientError(400, "the site has no name: leave it out to mean all", close=False)
    if caller.sites is None:
        return EVERY_SITE if site is None else (site,)
    if not caller.sites or (site is not None and site not in caller.sites):
        raise ClientError(403, f"this token may purge {', '.join(caller.sites) or 'no site'} only", close=False)
    return caller.sites if site is None else (site,)


def checked(asked: PurgeRequest) -> None:
    """Raises ClientError if the request is not as it should be: 413 if it has too many targets, else 400. What the
    targets say is not looked at.
    """
    if not asked.targets:
        raise ClientError(400, "a purge names one target at least", close=False)
    if len(asked.targets) > TARGETS_MAX:
        raise too_many(len(asked.targets))
    if len(asked.key) > KEY_CHARS_MAX:
        raise ClientError(400, f"the idempotency key is longer than {KEY_CHARS_MAX} characters", close=False)
    if asked.at is not None and not math.isfinite(asked.at):
        raise ClientError(400, "`at` is no moment", close=False)
    check_reason(asked.reason)


def check_reason(reason: str) -> None:
    """Raises ClientError (400) if the reason is too long."""
    if len(reason) > REASON_CHARS_MAX:
        raise ClientError(400, f"the reason is longer than {REASON_CHARS_MAX} characters", close=False)


def own_modes(asked: PurgeRequest) -> tuple[Mode, tuple[Given, ...]]:
    """The mode of the record, hard if any target is (whoever cannot read the targets goes by it), and the targets
    with theirs where it is another.
    """
    modes = [given.mode or asked.mode for given in asked.targets]
    mode = Mode.HARD if Mode.HARD in modes else Mode.SOFT
    if mode is asked.mode and not any(given.mode for given in asked.targets):
        return mode, asked.targets
    own = [None if its is mode else its for its in modes]
    targets = [msgspec.structs.replace(given, mode=its) for given, its in zip(asked.targets, own, strict=True)]
    return mode, tuple(targets)


def digest_of(asked: PurgeRequest) -> bytes:
    """What tells two requests under one idempotency key apart."""
    meant = (asked.targets, asked.mode, asked.site) + (() if asked.body else (asked.reason, asked.at))
    return hashlib.blake2b(asked.body + msgspec.msgpack.encode(meant), digest_size=16).digest()
