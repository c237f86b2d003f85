"""A plan: what is to be asked of an origin for a request, and how it goes out.

Not here: deciding to ask (`pipeline.py`), asking (`fetches.py`), what becomes of the answer (`taking.py`).
"""

from dataclasses import dataclass

import msgspec

from banish.caching.keys import key_target
from banish.caching.policy import CachePolicy
from banish.caching.reuse import Leeway
from banish.edge.hook_views import HookRequest
from banish.edge.runtime import SiteRuntime
from banish.edge.tiering import Child
from banish.http.fields import Fields
from banish.http.hops import end_to_end, forwarded, via
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target
from banish.mesh.tiers import FIELD_LOWER
from banish.proxy.exchange import Request
from banish.purge.names import Names
from banish.store.graves import Grave
from banish.store.records import StoredResponse


@dataclass(slots=True)
class Plan:
    """What a fetch is to do. `records` are the stored responses it is about, if any; `validating` says
    that the origin is asked whether they still hold, so that a 304 speaks of them and not of the client's own.
    `grave` says that the request has to be asked for because a purge removed what would have answered it, `purge`
    is the apply index of the purge that caused the asking, 0 if none did. `leeway` is what may answer. `direct`: no
    parent is to be asked. `behind`: purges may be missing here, and the site serves all the same. `stale_above` is set
    when neither parent nor origin had anything but a stale response of the parent's.
    """

    request: Request
    head: RequestHead
    site: SiteRuntime
    policy: CachePolicy
    key: str
    records: tuple[StoredResponse, ...] = ()
    validating: bool = False
    view: HookRequest | None = None
    grave: Grave | None = None
    purge: int = 0
    leeway: Leeway = Leeway.STALE
    direct: bool = False
    behind: bool = False
    stale_above: bool = False

    @property
    def child(self) -> Child | None:
        """The edge that asks, if it is one."""
        return self.request.child

    @property
    def target(self) -> Target:
        """What the request is about, as the hook left it."""
        return self.request.target if self.view is None else self.view.target

    @property
    def names(self) -> Names:
        """What any response to it can be purged by; tags and groups are known once it is there."""
        return Names(self.site.name, key_target(self.target, self.policy).url)

    def pass_interim(self, head: ResponseHead) -> None:
        """A 1xx goes on to the client that asked; 100 does not, since Expect was ours to answer."""
        if head.status > 101:
            self.request.interim(
                msgspec.structs.replace(head, fields=end_to_end(head.fields, also=("content-length",)))
            )


def upstream_head(plan: Plan, asked: RequestHead, node: str) -> RequestHead:
    """What is asked, as it goes to the origin: end to end, saying who asked, in HTTP/1.1.

    The target goes in the spelling it is keyed by, so that the origin answers what will be stored.
    """
    request, target = plan.request, key_target(plan.target, plan.policy)
    dropped = ["expect", "host", FIELD_LOWER]
    if request.body is None:
        dropped.append("content-length")
    if plan.policy.ignore_cookies:
        dropped.append("cookie")
    fields = via(end_to_end(asked.fields, also=dropped), request.head.version, node)
    fields = forwarded(
        fields,
        peer=request.connection.peer or None,
        host=request.target.host,
        scheme=request.connection.scheme,
        trust_incoming=plan.site.config.trust_forwarded or plan.child is not None,
    )
    hops = fields.get("max-forwards") or ""
    if asked.method == "OPTIONS" and hops.isdecimal():  # RFC 9110 section 7.6.2
        fields = fields.with_field("Max-Forwards", str(int(hops[:9]) - 1))
    if request.upgrade:
        fields = fields.plus("Connection", "Upgrade").plus("Upgrade", "websocket")
    lines = [("Host", plan.site.host_header(target)), *fields.lines]
    return RequestHead(asked.method, target.path_and_query, Fields.of(lines))
