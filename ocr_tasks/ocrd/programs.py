"""How OCR-D's processors are started: program, environment and folders."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

from ocr_tasks import settings
from ocr_tasks.sandbox import orphans

#: Environment variables that processors may see, and prefixes. Others may contain secrets.
_ALLOWED = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TESSDATA_PREFIX", "LD_LIBRARY_PATH", "JAVA_HOME"}
)
_ALLOWED_PREFIXES = ("LC_", "XDG_", "OCRD_", "OMP_", "CUDA_")

#: Settings of OCR-D's own servers: URLs with passwords.
_DENIED_PREFIX = "OCRD_NETWORK_"


def allowed(variables: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """Returns the environment variables that processors may see."""
    return {
        name: value
        for name, value in variables.items()
        if (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES))
        and not name.startswith(_DENIED_PREFIX)
    }


def home() -> Path:
    """Returns the home folder of processors, which is created if it is missing."""
    folder = _home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _home() -> Path:
    return settings.get().data_dir / "ocrd-home"


def temporary(run_id: str) -> Path:
    """Returns the path of a run's folder for temporary files, which is not created."""
    return _home() / "tmp" / run_id


def environment(**more: str) -> dict[str, str]:
    """Returns the environment for a processor, without secrets; `more` is added."""
    folder = home()
    found = allowed(os.environ) | {
        "HOME": str(folder),
        # Without this, OCR-D does not start if git is not installed.
        "GIT_PYTHON_REFRESH": "quiet",
        "TMPDIR": str(folder),
        # By default, OCR-D creates world-writable folders in /tmp.
        "OCRD_NETWORK_SOCKETS_ROOT_DIR": str(folder / "network"),
        "OCRD_NETWORK_LOGS_ROOT_DIR": str(folder / "network"),
        # URLs in a METS file come from a client; the server must not fetch them.
        "OCRD_DOWNLOAD_INPUT": "false",
        # Pages are already processed in parallel, by several processes.
        "OMP_THREAD_LIMIT": "1",
    }
    if orphans.MARK in os.environ:
        found[orphans.MARK] = os.environ[orphans.MARK]
    return found | more


def interpreter(path: Path) -> str | None:
    """Returns the path of a script's Python, from its first line; None for other programs."""
    with path.open("rb") as script:
        first, second = (script.readline(4096).decode(errors="replace") for _ in range(2))
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    elif second.startswith("'''exec' "):  # pip writes this for a path that is long or has spaces
        words = shlex.split(second.removeprefix("'''exec' ").rstrip())
    found = shutil.which(words[0]) if words else None
    return found if found and re.fullmatch(r"python[0-9.]*", Path(found).name) else None
