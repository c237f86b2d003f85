"""Damaged messages: whatever arrives, it means the same whole as it does byte by byte, and the edge goes on.

Requests and responses are damaged at random, by a seed that a failure names. Each is sent in one piece and in
pieces of one byte, on connections of their own; what the client is told and what the origin sees must agree.
Allowed to differ: where a method that llhttp does not know came behind another message in one packet, which is
refused (501) since nobody can say where it began. Left out are websockets: what a client sends before they
are accepted is theirs, and it is lost when the client ends its side before they are refused.
"""

import random
from collections.abc import Iterator

import pytest
from tests.support import PACES, Closed, Pace, Play, Stage, chunks, request

from banish.testing.origin import CLOSE, Step, byte_by_byte

Outcome = tuple[list[int], list[tuple[str, str, bytes]]]

MESSAGES = [
    request("GET", "/a"),
    request("GET", "/a", "Cookie: a=b", "Accept-Encoding: gzip, br", "User-Agent: x"),
    request("POST", "/a", body=b"hello"),
    request("POST", "/a", "Transfer-Encoding: chunked") + chunks(b"he", b"llo", trailers=["X: y"]),
    request("POST", "/a", "Upgrade: h2c", "Connection: Upgrade", body=b"hello"),
    request("GET", "/a", "Upgrade: h2c, websocket", "Connection: Upgrade", body=b"hello"),
    request("BAN", "/a", body=b"hello"),
    request("PURGEKEYS", "http://site.example/a", "Transfer-Encoding: chunked") + chunks(b"hello"),
    request("HEAD", "/a", "Connection: keep-alive"),
    request("OPTIONS", "*", "Max-Forwards: 1"),
    b"GET /a HTTP/1.0\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"he", b"llo"),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n',
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b'"',
    b"0",
    b"5",
    b"-1",
    b"+",
    b"0x",
    b"\x0b",
    b"\xff",
    b"\x7f",
    b"\r\n ",
    b"\r\n\r\n",
    b"chunked",
    b"identity",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET /b HTTP/1.1\r\n",
    b"#",
    b"?",
    b"\\",
]


def damaged(rng: random.Random, message: bytes) -> bytes:
    """A message with one to three things wrong, or another message's beginning or end."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(message) + 1)
        match rng.randrange(5):
            case 0:
                message = message[:at] + rng.choice(PIECES) + message[at:]
            case 1:
                message = message[:at] + message[at + rng.randrange(1, 4) :]
            case 2:
                message = message[:at] + rng.choice(PIECES) + message[at + 1 :]
            case 3:
                line = message.find(b"\r\n", at) + 2
                message = message[:line] + rng.choice(PIECES) + message[line:]
            case 4:
                message = message[:at] + message[rng.randrange(len(message) + 1) :]
    return message


def cases(seed: int, messages: list[bytes], count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        yield damaged(rng, rng.choice(messages))


async def _exchange(stage: Stage, data: bytes, pace: Pace) -> Outcome:
    """Send, end our side, read all: the final statuses, and what the origin saw whole."""
    stage.origin.requests.clear()
    statuses: list[int] = []
    async with stage.client() as client:
        await client.send(data, pace)
        client.shut()
        try:
            while True:
                response = await client.response("HEAD" if data.lstrip().startswith(b"HEAD ") else "GET")
                statuses.append(response.status)
        except (Closed, ConnectionError):
            pass
    await stage.settled()
    seen = [(each.method, each.target, each.body) for each in stage.origin.requests if each.whole]
    return statuses, seen


def _agree(one: Outcome, other: Outcome) -> bool:
    (statuses, seen), (other_statuses, other_seen) = one, other
    for at, status in enumerate(statuses):
        if status == 501 and other_statuses[:at] == statuses[:at]:
            return other_seen[: len(seen)] == seen
    same_refusal = {400: 400, 501: 400}
    return [same_refusal.get(each, each) for each in statuses] == [
        same_refusal.get(each, each) for each in other_statuses
    ] and seen == other_seen


@pytest.mark.parametrize("seed", range(8))
def test_damaged_requests_mean_the_same_in_any_pieces(seed: int, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n")
        for at, data in enumerate(cases(seed, MESSAGES, 40)):
            whole, *others = [await _exchange(stage, data + request("GET", "/b"), pace) for pace in PACES]
            for pace, outcome in zip(PACES[1:], others, strict=True):
                assert _agree(whole, outcome), f"seed {seed}, case {at}, {pace}: {data!r}\n{whole}\n{outcome}"

    play(scene)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_responses_mean_the_same_in_any_pieces(seed: int, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/alive", body=b"alive")
        for at, data in enumerate(cases(seed, RESPONSES, 40)):
            told = []
            plays: list[tuple[Step, ...]] = [(data, CLOSE), (*byte_by_byte(data), CLOSE)]
            for steps in plays:
                stage.origin.play(f"/{at}", *steps)
                stage.origin.play(f"/{at}", *steps)  # where a 304 made the edge ask again
                try:
                    response = await stage.get(f"/{at}", "Cache-Control: no-store")
                    told.append((response.status, response.body, response.whole))
                except Closed:
                    told.append((502, b"", False))
                await stage.settled()
                stage.origin._parts[f"/{at}"].queued.clear()
            whole, bytewise = [each if each[2] and each[0] != 502 else "broken" for each in told]
            assert whole == bytewise, f"seed {seed}, case {at}: {data!r}\n{told}"
        assert (await stage.get("/alive")).body == b"alive"

    play(scene)
