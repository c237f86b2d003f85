"""The objects that are asked for: /SIZE/NUMBER is SIZE bytes that begin with their own path."""

from typing import Final

SIZES: Final = (1024, 65536)
HOST: Final = "bench.example"
MAX_AGE_S: Final = 86400


def path(size: int, number: int) -> str:
    """The path of one object."""
    return f"/{size}/{number:06d}"


def body(size: int, number: int) -> bytes:
    """The bytes of one object; no two are alike."""
    line = f"{path(size, number)} {number * 2654435761 % 2**32:08x}\n".encode()
    return (line * (size // len(line) + 1))[:size]


def body_of(target: str) -> bytes:
    """The bytes of the object at a path. Raises ValueError if there is none."""
    _, size, number = target.split("/")
    return body(int(size), int(number))


def fields(target: str, content: bytes) -> list[tuple[str, str]]:
    """The fields that the origin sends with an object: what a static file server says, and Cache-Control."""
    return [
        ("Content-Type", "image/png"),
        ("Content-Length", str(len(content))),
        ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("ETag", f'"{hash_of(target)}"'),
        ("Cache-Control", f"public, max-age={MAX_AGE_S}"),
    ]


def hash_of(target: str) -> str:
    """A validator of the usual length."""
    return f"{int.from_bytes(target.encode(), 'big') % (2**61 - 1):016x}"
