"""`ocr-tasks tokens …`, and what a server says of access when it starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from ocr_tasks import errors
from ocr_tasks.model import Scope, Token
from ocr_tasks.security import tokens
from ocr_tasks.settings import Settings

_MAKE = "ocr-tasks tokens create NAME --scopes submit,read"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `tokens` with its own commands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser("create", help="make a token; it is shown once, here")
    create.add_argument("name", type=_name, metavar="NAME", help="whose it is, or what it is for")
    create.add_argument(
        "--scopes",
        type=_scopes,
        required=True,
        metavar="SCOPES",
        help="what it may do, joined by commas: " + ", ".join(Scope),
    )
    create.add_argument(
        "--days", type=_days, metavar="N", help="days until it expires (default: never)"
    )
    for limit in tokens.LIMITS:
        create.add_argument(
            f"--{limit.replace('_', '-')}",
            type=_limit,
            metavar="N",
            help=f"instead of OCR_LIMIT_{limit.upper()}; 0: any number",
        )
    create.set_defaults(run=_create)

    listing = actions.add_parser("list", help="list the tokens that are good")
    listing.add_argument(
        "--all", action="store_true", help="also those that have expired or were revoked"
    )
    listing.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", help="end a token; its next request is refused")
    revoke.add_argument("id", metavar="ID", help="as `tokens list` shows it")
    revoke.set_defaults(run=_revoke)


def warnings(config: Settings) -> Iterator[str]:
    """What whoever starts a web server should know about who may use it."""
    if config.access == "open" and not config.on_loopback:
        yield (
            f"WARNING: anybody who can reach {config.host}:{config.port} may read, send and delete "
            "documents (OCR_ACCESS=open). Unset it to ask for tokens."
        )
    if config.needs_tokens:
        # Where Redis is away nobody can be told; requests will say so.
        with suppress(errors.QueueUnavailable):
            if all(tokens.has_ended(token) for token in tokens.list_all()):
                yield f"clients need a token, and there is none yet. To make one: {_MAKE}"


def _name(text: str) -> str:
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("1 to 100 characters that can be printed")
    return text.strip()


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return frozenset(Scope(name.strip()) for name in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"some of {', '.join(Scope)}, joined by commas") from None


def _days(text: str) -> float:
    if 0 < float(text) <= 36500:
        return float(text)
    raise argparse.ArgumentTypeError("more than 0, and at most 36500")


def _limit(text: str) -> int:
    if int(text) >= 0:
        return int(text)
    raise argparse.ArgumentTypeError("0 or more")


def _create(options: argparse.Namespace) -> int:
    limits = {name: getattr(options, name) for name in tokens.LIMITS}
    own = {name: most for name, most in limits.items() if most is not None}
    token, text = tokens.create(options.name, options.scopes, options.days, own)
    # The token alone on standard output, so that a script can take it.
    print(text)
    until = f", good until {_moment(token.expires_at)}" if token.expires_at else ""
    print(
        f"ocr-tasks: this is token {token.id} of {token.name}{until}. Keep it now: it is not "
        "stored and cannot be shown again.",
        file=sys.stderr,
    )
    return 0


def _list(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [("ID", "SCOPES", "MADE", "LAST USED", "ENDS", "LIMITS", "NAME")]
    rows += [
        _row(token) for token in tokens.list_all() if options.all or not tokens.has_ended(token)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _row(token: Token) -> tuple[str, ...]:
    return (
        token.id,
        ",".join(sorted(token.scopes)),
        _moment(token.created_at),
        _moment(token.used_at),
        "revoked" if token.revoked_at else _moment(token.expires_at),
        ",".join(f"{name}={most}" for name, most in token.limits.items()) or "-",
        token.name,
    )


def _moment(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%MZ}" if seconds else "-"


def _revoke(options: argparse.Namespace) -> int:
    if not tokens.revoke(options.id):
        print(f"ocr-tasks: there is no token {options.id}", file=sys.stderr)
        return 1
    print(f"ocr-tasks: token {options.id} is revoked", file=sys.stderr)
    return 0
