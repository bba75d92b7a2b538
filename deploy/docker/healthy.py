#!/usr/bin/python3 -IS
"""The health check of a container, whatever its role: exit code 0 says that it does its work.

A worker or courier touches a file while it does; the web server answers, and reaches Redis and the
storage. That there is no worker, or no processor of OCR-D, is no fault of a web server. Another
address to ask can be given.
Only the standard library, as this runs every few seconds.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Seconds: signs of life come every five.
OLDEST = 30


def main() -> int:
    alive = Path(os.environ["OCR_ALIVE_FILE"])
    if alive.exists():
        return int(time.time() - alive.stat().st_mtime > OLDEST)
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/readyz"
    try:
        with urllib.request.urlopen(url, timeout=4):  # noqa: S310  # who may run it here chose it
            return 0
    except urllib.error.HTTPError as error:
        return int(not set(json.load(error)["missing"]) <= {"workers", "processors"})


if __name__ == "__main__":
    sys.exit(main())
