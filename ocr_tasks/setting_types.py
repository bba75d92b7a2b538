"""Types of settings: lists, folders, host names, origins and networks."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

#: A host name, or an IPv6 address in brackets.
HOST = r"([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"


def split(separator: str) -> BeforeValidator:
    """Returns the validator that splits a text at a separator."""

    def parts(value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (part.strip() for part in value.split(separator))))

    return BeforeValidator(parts)


def matches(pattern: str, reason: str, flags: int = 0) -> AfterValidator:
    """Returns the validator for texts that match a pattern as a whole. `reason` is its message."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, flags):
            raise ValueError(f"{value!r} {reason}")
        return value

    return AfterValidator(check)


def _network(value: object) -> object:
    return ipaddress.ip_network(value) if isinstance(value, str) else value


Item = TypeVar("Item")
CommaList = Annotated[tuple[Item, ...], NoDecode, split(",")]
Folder = Annotated[Path, AfterValidator(Path.resolve)]
ColonList = Annotated[tuple[Item, ...], NoDecode, split(":")]

HostName = Annotated[
    str,
    matches(HOST, "is not a host name; omit the port", re.IGNORECASE),
    AfterValidator(lambda name: name.strip("[]").lower()),
]
Origin = Annotated[
    str, matches(rf"https?://{HOST}(:[0-9]+)?", "is not an origin, e.g. https://scans.example")
]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
