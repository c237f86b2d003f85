"""An example of hooks: what a small shop might want. Named in the configuration as `hooks = "hooks.py"`.

The types are for the editor and may be left out.
"""

from banish.edge.hooks import HookRequest, HookResponse

PLANS = ("free", "gold")


def on_request(request: HookRequest) -> None:
    """Runs for every request, before the cache is asked."""
    # Noise from scanners: answered here, never seen by the origin.
    if request.path.endswith("/wp-login.php"):
        request.respond(404, {"Content-Type": "text/plain"}, "There is nothing here.\n")
        return

    # A basket belongs to one person: past the cache.
    if request.path.startswith("/basket"):
        request.bypass()
        return

    # Prices depend on the plan and on nothing else in the cookie: one copy for each plan, not for each cookie.
    plan = request.cookies.get("plan", "free")
    request.cache_key_extra(plan if plan in PLANS else "free")


def on_response(request: HookRequest, response: HookResponse) -> None:
    """Runs for every response of the origin, before it is stored. Not for hits."""
    if response.status == 404:
        response.ttl_s = 30

    if request.path.startswith("/products/"):
        response.add_tags(f"product-{request.path.rpartition('/')[2]}")

    response.fields.pop("Server", None)
