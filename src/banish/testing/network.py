"""A network in one process: messages between edges in simulated time, with any fault drawn from a seed.

    timeline   events in the order of their moments; who runs it moves time, nothing sleeps
    network    who can reach whom, how long a message takes, whether it is lost, doubled or late

Two runs from the same seed are the same, event for event. What is sent is handed over as a call, so that any message of
any kind may travel. Links are told of as a transport does: up and down some time after the network changed.

Not here: edges (`tests/simulation`); the relay for real connections (`link.py`).
Units: seconds of simulated time.
"""

import csv
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

KM_PER_S = 200_000.0
"""Light in glass."""
DETOUR = 1.5
"""How much longer cables are than a great circle."""
LAST_MILE_S = 0.001
EARTH_KM = 6371.0

Call = Callable[[], None]


class Timeline:
    """What will happen, in order. Events of one moment come in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Call]] = []
        self._count = 0

    def at(self, moment: float, call: Call) -> None:
        """Have this called then; what lies in the past comes at once."""
        self._count += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._count, call))

    def after(self, delay_s: float, call: Call) -> None:
        """The same, counted from now."""
        self.at(self.now + delay_s, call)

    def run(self, until: float) -> None:
        """Let time pass."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call = heapq.heappop(heap)
            self.steps += 1
            call()
        self.now = max(self.now, until)


@dataclass
class Weather:
    """What messages meet on their way."""

    loss: float = 0.0
    """Messages lost, as a fraction of all."""
    doubled: float = 0.0
    late: float = 0.0
    """Messages that come late, and so behind later ones."""
    late_s: float = 0.1
    """By how much, at most."""


class SimNetwork:
    """Carries messages between edges by name."""

    def __init__(self, timeline: Timeline, draw: random.Random, delay_s: Callable[[str, str], float]) -> None:
        self.weather = Weather()
        self.delay_s = delay_s
        self.sent = self.lost = self.doubled = 0
        self._timeline = timeline
        self._draw = draw
        self._cut: set[tuple[str, str]] = set()

    def send(self, sender: str, receiver: str, call: Call) -> bool:
        """Have this called when the message arrives, if it does; whether it is on its way."""
        self.sent += 1
        if (sender, receiver) in self._cut:
            self.lost += 1
            return False
        weather, draw = self.weather, self._draw
        if weather.loss and draw.random() < weather.loss:
            self.lost += 1
            return False
        delay = self.delay_s(sender, receiver)
        if weather.late and draw.random() < weather.late:
            delay += draw.random() * weather.late_s
        self._timeline.after(delay, call)
        if weather.doubled and draw.random() < weather.doubled:
            self.doubled += 1
            self._timeline.after(delay + draw.random() * weather.late_s, call)
        return True

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing gets from the one to the other any more; the other way is not touched."""
        self._cut.add((sender, receiver))

    def mend(self, sender: str | None = None, receiver: str | None = None) -> None:
        """Messages get through again: between these, or everywhere."""
        self._cut = {(s, r) for s, r in self._cut if sender not in (None, s) or receiver not in (None, r)}

    def reaches(self, one: str, other: str) -> bool:
        """Whether messages get through in both directions."""
        return (one, other) not in self._cut and (other, one) not in self._cut


@dataclass(frozen=True)
class City:
    """Where an edge may stand."""

    code: str
    name: str
    country: str
    latitude: float
    longitude: float


def cities() -> list[City]:
    """308 cities with an airport each, all round the world (`cities.csv`)."""
    text = resources.files("banish.testing").joinpath("cities.csv").read_text(encoding="utf-8")
    return [
        City(row["iata"], row["city"], row["country"], float(row["lat"]), float(row["lon"]))
        for row in csv.DictReader(text.splitlines())
    ]


def one_way_s(one: City, other: City) -> float:
    """How long a message takes between two cities: the great circle, in glass, with the detours of cables."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    half = math.radians(other.longitude - one.longitude) / 2
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(half) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(h)) / KM_PER_S * DETOUR + LAST_MILE_S
