"""An edge for the admin listener to speak for, without anything that serves."""

from banish.admin.subject import Meshing
from banish.clock import Clock
from banish.edge.config import Config, load
from banish.edge.sites import Sites
from banish.purge.stamps import PurgeTable
from banish.store.graves import Graves
from banish.store.memory import MemoryStore
from banish.store.records import StoredResponse
from banish.tables import Accounts
from banish.testing.clock import FakeClock
from tests.unit.admin.purger import FakePurger


class Shelf(MemoryStore):
    """A memory tier over a disk that is a dictionary."""

    def __init__(self, accounts: Accounts) -> None:
        self.table = PurgeTable()
        super().__init__(10 * 1024**2, table=self.table, accounts=accounts)
        self.graves = Graves(accounts)
        self.on_disk: dict[str, StoredResponse] = {}

    def may_load(self, key: str) -> bool:
        return key in self.on_disk

    async def load(self, key: str) -> None:
        self.put(self.on_disk.pop(key))


class FakeEdge:
    """Has what `banish.admin.subject.Subject` asks for."""

    def __init__(self, **flags: object) -> None:
        self.state = "serving"
        self.clock: Clock = FakeClock(1e9 + 60)
        self.accounts = Accounts()
        self.config: Config = load(flags={"origin": ["http://origin.example"], **flags})
        self.sites = Sites(self.config)
        self.store = Shelf(self.accounts)
        self.purger = FakePurger(self.clock)
        self.mesh: Meshing | None = None

    @property
    def passing(self) -> bool:
        return self.purger.passing
