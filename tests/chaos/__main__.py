"""The long test: `make chaos`, or `python -m tests.chaos --kills 300 --seed 7`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import run
from tests.chaos.stack import Stack

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"

#: The number of kills from which on a run counts as long.
LONG = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=LONG)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10000)
    parser.add_argument("--disk", type=int, default=400, help="MB of the storage, if root")
    parser.add_argument("--write", action="store_true", help=f"put the result into {DOCUMENT.name}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={options.disk}m", "tmpfs", str(data)]
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
        if not mounted:
            say("NO SMALL FILE SYSTEM: the disk will not be filled")
        try:
            stack = Stack(folder, data)
            report = run(stack, options.seed, options.kills, say)
            (Path(tempfile.gettempdir()) / "chaos.log").write_bytes(stack.log.read_bytes())
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(data)], check=True)
    minutes = (time.monotonic() - began) / 60
    text = f"Seed {report.seed}, {minutes:.0f} minutes.\n\n{report.table()}\n"
    print(text)
    if options.write:
        form = "long" if options.kills >= LONG else "short"
        begin, end = f"<!-- {form} chaos -->\n", f"<!-- /{form} chaos -->\n"
        before, _, rest = DOCUMENT.read_text().partition(begin)
        DOCUMENT.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")
    return bool(report.violations)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
