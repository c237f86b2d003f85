"""Stored responses for tests: as little as the store looks at, the rest plausible."""

from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.targets import Target, url_target
from banish.store.bodies import Body
from banish.store.records import StoredResponse

SITE = "shop"


def url_of(key: str) -> Target:
    """The target that names what is stored under `key`."""
    return url_target(SITE, f"https://shop.example/{key}")


def stored_response(
    key: str = "a",
    *,
    body: bytes | Body = b"hello",
    fence: int = 0,
    vary: tuple[str, ...] = (),
    selecting: tuple[str | None, ...] = (),
    targets: tuple[Target, ...] | None = None,
    fields: Fields = Fields(),  # noqa: B008 (immutable)
) -> StoredResponse:
    """A fresh 200 under `key`, that its URL names."""
    meta = Metadata(
        key=key,
        status=200,
        reason="OK",
        fields=fields,
        requested_at=1e9,
        received_at=1e9,
        date=1e9,
        initial_age=0.0,
        lifetime=600.0,
        vary=vary,
        selecting=selecting,
    )
    return StoredResponse(
        meta,
        Body.complete(body) if isinstance(body, bytes) else body,
        targets if targets is not None else (url_of(key),),
        fence=fence,
        clean_at=fence,
    )
