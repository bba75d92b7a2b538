#!/usr/bin/python3 -IS
"""The health check of all containers. Exit code 0: healthy.

A worker or webhook sender is healthy while it touches its alive file, a web server if it responds
and reaches Redis and the storage. Missing workers or OCR-D processors do not make a web server
unhealthy. The URL can be given as an argument.
Imports only the standard library, because it runs every few seconds.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Maximum age of the alive file in seconds; it is touched every five.
OLDEST = 30


def main() -> int:
    alive = Path(os.environ["OCR_ALIVE_FILE"])
    if alive.exists():
        return int(time.time() - alive.stat().st_mtime > OLDEST)
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/readyz"
    try:
        with urllib.request.urlopen(url, timeout=4):  # noqa: S310  # given by the administrator
            return 0
    except urllib.error.HTTPError as error:
        return int(not set(json.load(error)["missing"]) <= {"workers", "processors"})


if __name__ == "__main__":
    sys.exit(main())
