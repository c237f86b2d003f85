"""What the admin listener needs to know of the edge it speaks for.

The edge itself is put together elsewhere (`proxy/serve.py`) and fulfils this by having these members.
"""

from typing import Protocol

from banish.clock import Clock
from banish.edge.config import Config
from banish.edge.sites import Sites
from banish.store.memory import MemoryStore
from banish.tables import Accounts


class Subject(Protocol):
    """The running edge, as its admin listener sees it. Members are read anew for every request."""

    @property
    def state(self) -> str:
        """`starting`, `serving`, `draining` or `stopped`."""
        ...

    @property
    def config(self) -> Config: ...
    @property
    def sites(self) -> Sites: ...
    @property
    def store(self) -> MemoryStore: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def clock(self) -> Clock: ...
