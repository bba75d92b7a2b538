"""How processors of OCR-D are called: as which program, in which environment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

from ocr_tasks import settings
from ocr_tasks.sandbox import orphans

#: Variables that processors may know, and beginnings of such. Others may be secrets.
_KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TESSDATA_PREFIX", "LD_LIBRARY_PATH"})
_KEPT_FAMILIES = ("LC_", "XDG_", "OCRD_", "OMP_", "CUDA_")

#: What OCR-D's own servers are told: addresses with passwords.
_NEVER = "OCRD_NETWORK_"


def kept(variables: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """Those of the variables that processors may know."""
    return {
        name: value
        for name, value in variables.items()
        if (name in _KEPT or name.startswith(_KEPT_FAMILIES)) and not name.startswith(_NEVER)
    }


def home() -> Path:
    """The folder that processors take for their home, which is made where it is missing."""
    folder = _home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _home() -> Path:
    return settings.get().data_dir / "ocrd-home"


def temporary(run_id: str) -> Path:
    """The folder for the temporary files of a run, which is not made."""
    return _home() / "tmp" / run_id


def environment(**more: str) -> dict[str, str]:
    """The variables for a processor: none with a secret, and nothing outside of its home."""
    folder = home()
    found = kept(os.environ) | {
        "HOME": str(folder),
        # Without it, OCR-D does not start where git is not installed.
        "GIT_PYTHON_REFRESH": "quiet",
        "TMPDIR": str(folder),
        # Where these are not said, OCR-D makes folders in /tmp that everybody may write into.
        "OCRD_NETWORK_SOCKETS_ROOT_DIR": str(folder / "network"),
        "OCRD_NETWORK_LOGS_ROOT_DIR": str(folder / "network"),
        # The addresses in a METS file are a client's, and a server is not to be sent to them.
        "OCRD_DOWNLOAD_INPUT": "false",
        # Pages are read side by side already, by processes.
        "OMP_THREAD_LIMIT": "1",
    }
    if orphans.MARK in os.environ:
        found[orphans.MARK] = os.environ[orphans.MARK]
    return found | more


def interpreter(path: Path) -> str | None:
    """The Python that a script is written for, by its first line; None for all other programs."""
    with path.open("rb") as script:
        first, second = (script.readline(4096).decode(errors="replace") for _ in range(2))
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    elif second.startswith("'''exec' "):  # pip's way around a path that is long or has spaces
        words = shlex.split(second.removeprefix("'''exec' ").rstrip())
    found = shutil.which(words[0]) if words else None
    return found if found and re.fullmatch(r"python[0-9.]*", Path(found).name) else None
