"""Runs all benchmarks in sequence (`make bench`), which takes about an hour on two cores."""

from __future__ import annotations

import subprocess
import sys

SCRIPTS = (
    *("throughput", "latency", "trace", "small", "width", "fairness", "progress", "http", "polls"),
    *("metrics", "upload_memory", "memory", "size", "takeover", "cancel", "object_storage"),
    *("page", "swarm", "browser", "ocrd_start", "workflow", "containers"),
)

if __name__ == "__main__":
    failed = [
        script
        for script in SCRIPTS
        if subprocess.run([sys.executable, "-m", f"bench.{script}"], check=False).returncode
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
