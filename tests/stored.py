"""Stored responses for tests: as little as the store looks at, the rest plausible."""

from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.targets import Target, url_target
from banish.store.bodies import Body
from banish.store.records import StoredResponse

SITE = "shop"
HOST = "shop.example"


def key_of(name: str) -> str:
    """The cache key of what is called `name` here. A cache key is its own."""
    return name if " " in name else f"{SITE}#0123456789ab https://{HOST}/{name}"


def name_of(record: StoredResponse) -> str:
    """What is called that here."""
    return record.meta.key.rpartition("/")[2]


def url_of(name: str) -> Target:
    """The target that names all variants of what is stored under `key_of(name)`."""
    return url_target(SITE, f"https://{HOST}/{name}")


def stored_response(
    name: str = "a",
    *,
    body: bytes | Body = b"hello",
    fence: int = 0,
    vary: tuple[str, ...] = (),
    selecting: tuple[str | None, ...] = (),
    tags: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    received_at: float = 1e9,
    fields: Fields = Fields(),  # noqa: B008 (immutable)
) -> StoredResponse:
    """A fresh 200 under `key_of(name)`."""
    meta = Metadata(
        key=key_of(name),
        status=200,
        reason="OK",
        fields=fields,
        requested_at=received_at,
        received_at=received_at,
        date=received_at,
        initial_age=0.0,
        lifetime=600.0,
        vary=vary,
        selecting=selecting,
        tags=tags,
        groups=groups,
    )
    return StoredResponse(
        meta,
        Body.complete(body) if isinstance(body, bytes) else body,
        fence=fence,
        clean_at=fence,
    )
