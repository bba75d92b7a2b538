"""`ocr-tasks tokens …`, and the warnings about access that a server prints when it starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from ocr_tasks import argument_types, errors
from ocr_tasks.model import Scope, Token
from ocr_tasks.security import tokens
from ocr_tasks.settings import Settings

_CREATE = "ocr-tasks tokens create NAME --scopes submit,read"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `tokens` with its subcommands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser("create", help="create a token, which is shown only once")
    create.add_argument("name", type=_name, metavar="NAME", help="owner or purpose of the token")
    create.add_argument(
        "--scopes",
        type=_scopes,
        required=True,
        metavar="SCOPES",
        help="comma-separated permissions: " + ", ".join(Scope),
    )
    create.add_argument(
        "--days",
        type=argument_types.number(0, 36500, more=True),
        metavar="N",
        help="days until it expires (default: never)",
    )
    for limit in tokens.LIMITS:
        create.add_argument(
            f"--{limit.replace('_', '-')}",
            type=argument_types.whole(0),
            metavar="N",
            help=f"overrides OCR_LIMIT_{limit.upper()}; 0 means unlimited",
        )
    create.set_defaults(run=_create)

    listing = actions.add_parser("list", help="list valid tokens")
    listing.add_argument("--all", action="store_true", help="include expired and revoked tokens")
    listing.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", help="revoke a token, with immediate effect")
    revoke.add_argument("id", metavar="ID", help="id shown by `tokens list`")
    revoke.set_defaults(run=_revoke)


def warnings(config: Settings) -> Iterator[str]:
    """Yields warnings about access control to print when a web server starts."""
    if config.access == "open" and not config.on_loopback:
        yield (
            f"WARNING: anyone who can connect to {config.host}:{config.port} can upload, view and "
            "delete documents (OCR_ACCESS=open). Unset OCR_ACCESS to require tokens."
        )
    if config.needs_tokens:
        # Without Redis the tokens are unknown, and every request reports that Redis is unavailable.
        with suppress(errors.QueueUnavailable):
            if all(tokens.has_ended(token) for token in tokens.list_all()):
                yield f"clients need a token, and there is none yet. Create one: {_CREATE}"


def _name(text: str) -> str:
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be 1 to 100 printable characters")
    return text.strip()


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return frozenset(Scope(name.strip()) for name in text.split(","))
    except ValueError:
        names = ", ".join(Scope)
        raise argparse.ArgumentTypeError(f"must be a comma-separated list of {names}") from None


def _create(options: argparse.Namespace) -> int:
    limits = {name: getattr(options, name) for name in tokens.LIMITS}
    overrides = {name: limit for name, limit in limits.items() if limit is not None}
    token, text = tokens.create(options.name, options.scopes, options.days, overrides)
    # Only the token goes to standard output, for use in scripts.
    print(text)
    until = f", valid until {_format_time(token.expires_at)}" if token.expires_at else ""
    print(
        f"ocr-tasks: created token {token.id} for {token.name}{until}. Save it now: it is not "
        "stored and cannot be shown again.",
        file=sys.stderr,
    )
    return 0


def _list(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [
        ("ID", "SCOPES", "CREATED", "LAST USED", "EXPIRES", "LIMITS", "NAME")
    ]
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
        _format_time(token.created_at),
        _format_time(token.used_at),
        "revoked" if token.revoked_at else _format_time(token.expires_at),
        ",".join(f"{name}={limit}" for name, limit in token.limits.items()) or "-",
        token.name,
    )


def _format_time(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%MZ}" if seconds else "-"


def _revoke(options: argparse.Namespace) -> int:
    if not tokens.revoke(options.id):
        print(f"ocr-tasks: there is no token {options.id}", file=sys.stderr)
        return 1
    print(f"ocr-tasks: token {options.id} is revoked", file=sys.stderr)
    return 0
