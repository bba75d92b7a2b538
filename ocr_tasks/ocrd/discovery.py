"""Resources of the workers that run processors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from typing import Any

import psutil

from ocr_tasks.jobs import worker_registry
from ocr_tasks.ocrd.model import RECOGNIZE


def machine(processors: Collection[str]) -> dict[str, Any]:
    """Returns this machine's bytes of memory, cores and CUDA version.

    CUDA is not detected if `processors` contains only the built-in processor.
    """
    # The built-in processor uses no GPU, and detection takes a second.
    version = _cuda_version() if set(processors) != {RECOGNIZE} else None
    return {
        "ram": psutil.virtual_memory().total,
        "cpu_cores": len(os.sched_getaffinity(0)),
        "has_cuda": version is not None,
        "cuda_version": version or "",
    }


def _cuda_version() -> str | None:
    """Returns the newest CUDA version that the driver supports; None without a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        output = subprocess.run(
            [program, "--query"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.partition(":") for line in output.splitlines())
    return next((value.strip() for name, _, value in lines if "CUDA Version" in name), None)


def describe() -> dict[str, Any]:
    """Returns the total resources of the hosts of running workers with processors."""
    hosts = {
        worker.name.partition(":")[0]: worker.machine
        for worker in worker_registry.running_workers()
        if worker.processors
    }
    found = list(hosts.values())
    versions = sorted({row["cuda_version"] for row in found if row["has_cuda"]})
    return {
        "ram": sum(row["ram"] for row in found),
        "cpu_cores": sum(row["cpu_cores"] for row in found),
        "has_cuda": bool(versions),
        "cuda_version": versions[-1] if versions else "",
        "has_ocrd_all": False,
        "ocrd_all_version": "",
    }
