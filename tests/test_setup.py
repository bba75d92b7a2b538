"""`scripts/setup` if it cannot install anything, and `scripts/install-locked` if it can."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SETUP = ROOT / "scripts" / "setup"
LOCKS = ROOT / "requirements"


def run(tmp_path: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/setup in its own folder with only these programs on PATH."""
    (tmp_path / "scripts").mkdir()
    setup = shutil.copy(SETUP, tmp_path / "scripts")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "mktemp", "rm", *programs):
        found = shutil.which(name)
        assert found
        (folder / Path(name).name).symlink_to(found)
    return subprocess.run(
        [folder / "bash", setup],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_apt_the_missing_packages_are_named(tmp_path: Path) -> None:
    told = run(tmp_path, "python3")

    assert told.returncode == 1
    for package in ("tesseract-ocr", "ghostscript", "redis-server", "unpaper", "jbig2dec"):
        assert package in told.stderr
    assert "no apt-get" in told.stderr


def test_without_root_or_sudo_there_is_one_command_to_copy(tmp_path: Path) -> None:
    for name, words in (("apt-get", "exit 1"), ("id", "echo 1000")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{words}\n")
        program.chmod(0o755)
    told = run(tmp_path, "python3", str(tmp_path / "apt-get"), str(tmp_path / "id"))

    assert told.returncode == 1
    assert "you are not root" in told.stderr
    (command,) = [line.strip() for line in told.stderr.splitlines() if "apt-get install" in line]
    assert command.startswith("apt-get update && apt-get install -y --no-install-recommends ")
    assert " tesseract-ocr " in command


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    assert "python3 python3-venv" in run(tmp_path).stderr


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("setup", ["--ocr"]),
        ("setup", ["--then"]),
        ("install-locked", []),
        ("install-locked", ["--help"]),
        ("install-locked", ["--add", ".venv"]),
        ("build-line-images", []),
        ("build-line-images", ["one", "two"]),
    ],
)
def test_invalid_arguments_change_nothing(script: str, arguments: list[str]) -> None:
    program = SETUP.with_name(script)
    told = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)

    assert told.returncode == 2
    assert told.stderr.startswith(f"usage: scripts/{script} ")


#: Replaces scripts/install-locked: creates an environment with the given Python.
INSTALL = """#!/bin/sh
[ "$1" != --add ] || exit 0
mkdir -p "$1/bin" "$1/lib/python3/site-packages"
ln -sf "$PYTHON" "$1/bin/python"
ln -sf /bin/true "$1/bin/uv"
"""


class Checkout:
    """A folder in which `scripts/setup` installs almost nothing.

    A new environment has no `.venv/mark`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / ".venv"
        self.mark = self.venv / "mark"
        shutil.copytree(LOCKS, folder / "requirements")
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "scripts").mkdir()
        self.setup = Path(shutil.copy(SETUP, folder / "scripts"))
        self.program("scripts/install-locked", INSTALL)
        self.library = self.venv / "lib" / "python3" / "site-packages" / "library"
        self.program("scripts/build-line-images", '#!/bin/sh\ntouch "$1"/library\n')
        source = folder / "ocr_tasks" / "plugin" / "line_images.c"
        source.parent.mkdir(parents=True)
        source.touch()

    def program(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, **environment: str) -> subprocess.Popen[str]:
        known = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        return subprocess.Popen(
            [self.setup],
            env=known | environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        """Returns the exit code and the output."""
        with self.start(**environment) as process:
            try:
                said = process.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            return process.returncode, said


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in a folder with a space in its name, after setup."""
    found = Checkout(tmp_path / "check out")
    code, said = found.run(PYTHON=sys.executable)
    assert code == 0, said
    found.mark.touch()
    return found


def test_a_second_run_changes_nothing(checkout: Checkout) -> None:
    code, said = checkout.run()

    assert (code, checkout.mark.exists()) == (0, True)
    assert "Python packages: already installed" in said


def test_an_unfinished_environment_is_created_again(checkout: Checkout) -> None:
    (checkout.venv / ".installed").unlink()
    (checkout.venv / "bin" / "uv").unlink()

    code, said = checkout.run()

    assert (code, checkout.mark.exists()) == (0, False), said
    assert (checkout.venv / ".installed").exists()


@pytest.mark.parametrize("name", ["requirements/runtime.txt", "ocr_tasks/plugin/line_images.c"])
def test_a_change_is_installed_into_the_existing_environment(checkout: Checkout, name: str) -> None:
    checkout.library.unlink()
    with (checkout.folder / name).open("a") as file:
        file.write("# newer\n")

    code, said = checkout.run()

    assert (code, checkout.mark.exists(), checkout.library.exists()) == (0, True, True), said
    assert "already installed" not in said.partition("Python packages")[2]


def test_the_interpreter_of_the_environment_is_kept_if_none_is_named(checkout: Checkout) -> None:
    asked = checkout.folder / "asked"
    other = checkout.program("other/python3", f"#!/bin/sh\ntouch '{asked}'\nexit 1\n")

    code, said = checkout.run(PATH=f"{other.parent}:{os.environ['PATH']}")

    assert (code, checkout.mark.exists(), asked.exists()) == (0, True, False), said


def test_an_environment_is_not_replaced_while_a_program_runs_in_it(checkout: Checkout) -> None:
    (checkout.venv / "bin" / "python").unlink()
    checkout.program(".venv/bin/python", "#!/bin/sh\necho Python 3.99.0\n")
    (checkout.venv / ".installed").write_text("for Python 3.99.0\n")
    running = checkout.venv / "bin" / "running"
    shutil.copy("/bin/sleep", running)
    with subprocess.Popen([running, "600"]) as process:
        code, said = checkout.run(PYTHON=sys.executable)
        process.kill()
    assert (code, checkout.mark.exists()) == (1, True)
    assert f"process {process.pid} runs from it" in said

    code, said = checkout.run(PYTHON=sys.executable)

    assert (code, checkout.mark.exists()) == (0, False), said


def test_two_concurrent_runs_take_turns(checkout: Checkout) -> None:
    folder = os.open(checkout.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with checkout.start() as process:
        assert process.stderr
        assert "another scripts/setup is running" in process.stderr.readline()
        os.close(folder)
        assert process.wait(60) == 0


def test_a_daemon_that_a_package_starts_does_not_block_the_next_run(checkout: Checkout) -> None:
    number = checkout.folder / "daemon"
    start = f"sleep 600 >/dev/null 2>&1 &\necho $! >'{number}'\n"
    checkout.program("scripts/install-locked", INSTALL.replace("mkdir", start + "mkdir"))
    (checkout.venv / ".installed").unlink()
    try:
        assert checkout.run()[0] == 0
        code, said = checkout.run()
    finally:
        os.kill(int(number.read_text()), signal.SIGKILL)

    assert code == 0
    assert "waiting" not in said


def test_a_missing_interpreter_is_named_before_anything_is_installed(
    checkout: Checkout,
) -> None:
    code, said = checkout.run(PYTHON="/nowhere/python")

    assert code == 1
    assert said == "setup: PYTHON is set to /nowhere/python, and there is no such program.\n"


def test_a_user_without_write_access_to_the_folder_is_asked_to_clone(checkout: Checkout) -> None:
    (checkout.venv / ".installed").unlink()
    # Root may write anywhere, except on read-only file systems.
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$0/scripts/setup"',
        checkout.folder,
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert told.returncode == 1
    assert "Clone the repository into a folder of your own." in told.stderr
    assert checkout.mark.exists()


def test_the_commit_hooks_run_the_same_tools_as_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (lint,) = re.findall(r"^lint:\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)

    assert repository["repo"] == "local"  # nothing is downloaded
    entries = " ".join(hook["entry"] for hook in repository["hooks"])
    tools = re.findall(r"^\t(\.venv/bin/[\w-]+(?: (?:format|check|-m [\w.]+))?)", lint, re.M)
    assert len(tools) == 6
    for tool in tools:
        assert tool in entries


def pinned(lock: Path) -> dict[str, str]:
    """Returns the versions in a lock file for this interpreter and platform, by package name."""
    rows = re.findall(r"^([a-z0-9][^\\\n]*==[^\\\n]*)", lock.read_text(), re.M)
    requirements = [Requirement(row) for row in rows]
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def wheel(folder: Path, name: str, version: str, extra: str) -> Path:
    """Creates a wheel of a package with only an extra."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        words = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: {extra}\n"
        )
        file.writestr(f"{info}/METADATA", words)
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Runs a package index (PEP 503) of the files below this folder, one folder per package."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Logs nothing."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


#: The pip versions of Debian 12, Ubuntu 24.04 and Debian 13, and the newest one, each with its
#: Python. Not every pip runs with a newer Python.
PIPS = {"pip==23.0.1": (3, 11), "pip==24.0": (3, 12), "pip==25.1.1": (3, 13), "pip": (3, 14)}
OWN, *NEWER = [pip for pip, since in PIPS.items() if sys.version_info[:2] <= since or pip == "pip"]


@pytest.mark.parametrize(
    "pip", [OWN, *(pytest.param(pip, marks=pytest.mark.slow) for pip in NEWER)]
)
def test_the_lock_file_is_installed_with_every_pip_although_a_newer_release_has_the_extra(
    pip: str, tmp_path: Path
) -> None:
    # Before pip 25, pip resolved OCRmyPDF's `pikepdf[pdfa]` with the newest pikepdf.
    index, environment = tmp_path / "index", tmp_path / "venv"
    (index / "pikepdf").mkdir(parents=True)
    version = pinned(LOCKS / "runtime.txt")["pikepdf"]
    download = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*download, f"pikepdf=={version}", "-d", index / "pikepdf"], check=True)
    wheel(index / "pikepdf", "pikepdf", "9999.0", "pdfa")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", "--no-compile", pip], check=True)

    with serving(index) as url:
        settings = {"UV_INDEX": url, "PIP_EXTRA_INDEX_URL": url, "UV_COMPILE_BYTECODE": "false"}
        ran = subprocess.run(
            [ROOT / "scripts" / "install-locked", environment, LOCKS / "runtime.txt"],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    assert ran.returncode == 0, ran.stderr
    assert "warning" not in ran.stderr.lower()
    frozen = subprocess.run(
        [environment / "bin" / "uv", "pip", "freeze", "--python", python],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = dict(line.split("==") for line in frozen.stdout.splitlines())
    installed.pop("pip", None)  # part of each new environment
    assert installed == pinned(LOCKS / "runtime.txt") | pinned(LOCKS / "uv.txt")


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_file_is_complete(lock: Path, tmp_path: Path) -> None:
    # Here uv resolves with only the pinned versions: a missing one is an error.
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
    ran = subprocess.run(
        [
            *(uv, "pip", "install", "--dry-run", "--require-hashes", "--no-config"),
            *("--python", tmp_path / "venv" / "bin" / "python", "-r", lock),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert set(re.findall(r"^ \+ (\S+)==", ran.stderr, re.M)) == set(pinned(lock))
