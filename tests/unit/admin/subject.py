"""An edge for the admin listener to speak for, without anything that serves."""

from banish.clock import Clock
from banish.edge.config import Config, load
from banish.edge.sites import Sites
from banish.purge.stamps import PurgeTable
from banish.store.memory import MemoryStore
from banish.tables import Accounts
from banish.testing.clock import FakeClock


class FakeEdge:
    """Has what `banish.admin.subject.Subject` asks for."""

    def __init__(self, **flags: object) -> None:
        self.state = "serving"
        self.clock: Clock = FakeClock(1e9 + 60)
        self.accounts = Accounts()
        self.config: Config = load(flags={"origin": ["http://origin.example"], **flags})
        self.sites = Sites(self.config)
        self.store = MemoryStore(10 * 1024**2, table=PurgeTable(), accounts=self.accounts)
