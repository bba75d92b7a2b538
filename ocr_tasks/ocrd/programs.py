"""How processors of OCR-D are called: as which program, in which environment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import ocr_tasks
from ocr_tasks import orphans, settings
from ocr_tasks.ocrd.model import RECOGNIZE

#: Where our own processor is.
OURS = Path(__file__).with_name("recognize.py")

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
    folder = settings.get().data_dir / "ocrd-home"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def temporary(run_id: str) -> Path:
    """The folder for the temporary files of a run."""
    return home() / "tmp" / run_id


def environment(path: Path, **more: str) -> dict[str, str]:
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
    if path == OURS:
        found |= {name: value for name, value in os.environ.items() if name in _FOR_OURS}
        found["OCR_DATA_DIR"] = str(settings.get().data_dir)
        found["PYTHONPATH"] = str(Path(ocr_tasks.__file__).parents[1])
    return found | more


#: Settings by which our own processor reads pages.
_FOR_OURS = frozenset({"OCR_GREY", "OCR_PAGE_SECONDS", "OCR_MAX_IMAGE_MEGAPIXELS", "OCR_LOG_LEVEL"})


def name(path: Path) -> str:
    """The name of the processor that is called by this path."""
    return RECOGNIZE if path == OURS else path.name


def command(path: Path) -> list[str]:
    """What to call for a processor, before its options."""
    return [sys.executable, "-m", "ocr_tasks.ocrd.recognize"] if path == OURS else [str(path)]


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
