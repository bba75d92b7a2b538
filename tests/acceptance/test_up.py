"""`ocr-tasks up` and `ocr-tasks ocr` in a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import documents
from tests.acceptance.conftest import open_gate
from tests.conftest import (
    DATA,
    SIX_PAGES,
    Stack,
    free_port,
    matching,
    running_stack,
    submit,
    wait_for_end,
    wait_until,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

PAGE = DATA / "huckleberry-finn-p22.pdf"
WORD = "garden"
SCAN = ("scan.pdf", documents.scan("garden", "orchard"))


def family(stack: Stack) -> list[psutil.Process]:
    assert stack.process is not None
    return psutil.Process(stack.process.pid).children(recursive=True)


def redis_servers(stack: Stack) -> list[psutil.Process]:
    found = []
    for process in family(stack):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end during the check
            if "redis" in process.name():
                found.append(process)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    def is_alive(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [p for p in processes if p.is_running() and is_alive(p)]


#: Settings with which no server responds at the default URL.
NO_SERVER = {"OCR_PORT": "9"}


def ocr(*arguments: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ocr_tasks.cli", "ocr", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(
        tmp_path_factory.mktemp("up"),
        OCR_PLUGINS="tests.plugins.faults",
        OCR_WORKER_PROCESSES="1",
    ) as running:
        yield running


@pytest.fixture
def own(started: Stack) -> Stack:
    """A stack that tests may end; it runs again for the next one."""
    assert started.process
    if started.process.poll() is not None:
        started.start()
    return started


def test_a_component_that_dies_is_restarted(own: Stack) -> None:
    (server,) = redis_servers(own)
    server.kill()
    wait_until(lambda: [p for p in redis_servers(own) if p != server])

    wait_until(own.ready)
    with own.client() as http:
        assert wait_for_end(http, submit(http, SCAN).json())["state"] == "succeeded"


def test_one_ctrl_c_ends_everything_and_a_restart_keeps_finished_work(own: Stack) -> None:
    with own.client() as http:
        finished = wait_for_end(http, submit(http, SCAN).json())
        running = submit(http, SCAN, title="fault: gate 2").json()
        link = running["links"]["self"]
        wait_until(lambda: http.get(link).json()["progress"]["pages_done"] == 1)
        before = http.get(link).json()["progress"]["percent"]
    processes = family(own)
    assert redis_servers(own)

    assert own.stop() == 0

    assert alive(processes) == []
    assert not (own.data_dir / "redis" / "redis.sock").exists()

    own.start()
    with own.client() as http:
        found = http.get(finished["links"]["self"]).json()
        assert found["state"] == "succeeded"
        assert http.get(f"{found['links']['self']}/pdf").status_code == 200
        resumed = http.get(link).json()
        assert resumed["progress"]["percent"] >= before
        open_gate(own, running)
        assert wait_for_end(http, running)["state"] == "succeeded"


def test_child_processes_of_a_killed_supervisor_end_too(own: Stack) -> None:
    processes = family(own)
    assert own.process is not None
    own.process.kill()
    own.process.wait()

    wait_until(lambda: not alive(processes))


def test_ocr_has_a_lower_priority_than_the_web_server(stack: Stack) -> None:
    assert stack.process is not None
    supervisor = psutil.Process(stack.process.pid)
    children = {child.cmdline()[-1]: child for child in supervisor.children()}
    base = supervisor.nice()

    assert {process.nice() for process in children["worker"].children()} == {min(19, base + 5)}
    assert {children["worker"].nice(), children["web"].nice()} == {base}
    assert {process.nice() for process in children["web"].children()} == {base}


def test_a_second_stack_on_the_same_folder_is_refused(stack: Stack) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "ocr_tasks.cli", "up"],
        env=stack.environment | {"OCR_PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 69
    assert "another `ocr-tasks up` uses" in second.stderr
    assert "OCR_DATA_DIR" in second.stderr


def test_a_port_in_use_is_reported(stack: Stack, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "ocr_tasks.cli", "up"],
        env=stack.environment | {"OCR_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 69
    assert f"cannot listen on 127.0.0.1:{stack.port}" in second.stderr


def test_an_invalid_setting_is_reported(stack: Stack) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "ocr_tasks.cli", "up"],
        env=stack.environment | {"OCR_MAX_PAGES": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "OCR_MAX_PAGES" in told.stderr


def test_ocr_uses_a_running_server(stack: Stack, tmp_path: Path) -> None:
    output, text = tmp_path / "out.pdf", tmp_path / "out.txt"
    done = ocr(PAGE, "-o", output, "--text", text, "--url", stack.url, env=stack.environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(output)
    assert output.read_bytes().startswith(b"%PDF-")
    assert WORD in text.read_text()


def test_ocr_reads_and_writes_standard_streams(stack: Stack) -> None:
    command = [sys.executable, "-m", "ocr_tasks.cli", "ocr", "-", "--url", stack.url]
    done = subprocess.run(
        command, input=PAGE.read_bytes(), env=stack.environment, capture_output=True, check=True
    )

    assert done.stdout.startswith(b"%PDF-")
    assert done.stdout.rstrip().endswith(b"%%EOF")


def test_ocr_writes_to_the_second_file_and_replaces_it_only_with_force(
    stack: Stack, tmp_path: Path
) -> None:
    output = tmp_path / "out.pdf"
    url = stack.environment | {"OCR_URL": stack.url}
    for arguments, code in (((), 0), ((), 2), (("--force",), 0)):
        assert ocr(PAGE, output, *arguments, env=url).returncode == code
        assert output.read_bytes().startswith(b"%PDF-")


def test_ocr_starts_its_own_stack_if_none_runs(stack: Stack, tmp_path: Path) -> None:
    source = tmp_path / "scan.pdf"
    shutil.copy(PAGE, source)
    before = {p.pid for p in psutil.process_iter()}
    done = ocr(source, env=stack.environment | NO_SERVER)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scan-ocr.pdf").read_bytes().startswith(b"%PDF-")
    left = [
        p.name()
        for p in psutil.process_iter()
        if p.pid not in before and "redis" in p.name() and p.ppid() == 1
    ]
    assert left == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.pdf"], 2, "file not found"),
        ([PAGE, "--option", "deskew"], 2, "NAME=VALUE"),
        ([PAGE, "-o", "/nowhere/out.pdf"], 2, "cannot write to /nowhere"),
        ([PAGE, "--text", "/nowhere/text"], 2, "cannot write to /nowhere"),
        ([PAGE, "--option", "nosuch=1"], 65, "[invalid_options]"),
        ([PAGE, "-l", "tlh"], 65, "[language_unavailable]"),
        ([SIX_PAGES, "--option", "mode=refuse"], 70, "[prior_text]"),
        ([PAGE, PAGE], 2, "exists; use --force"),
        ([PAGE, PAGE, "out.pdf"], 2, "with -o"),
        (["-", "-", "-o", "out.pdf"], 2, "only one document"),
        ([PAGE, "--url", "http://127.0.0.1:9"], 69, "http://127.0.0.1:9"),
    ],
    ids=[
        "no file",
        "no value",
        "no folder",
        "no folder for the text",
        "unknown option",
        "unknown language",
        "failed job",
        "existing result",
        "several documents",
        "standard input twice",
        "no server at the URL",
    ],
)
def test_ocr_reports_errors(
    stack: Stack, arguments: list[str | Path], code: int, words: str
) -> None:
    url = {"OCR_URL": stack.url}
    told = ocr(*arguments, env=stack.environment | url)

    assert told.returncode == code
    assert words in told.stderr


def test_ocr_connects_to_the_configured_port(stack: Stack, tmp_path: Path) -> None:
    environment = {name: text for name, text in stack.environment.items() if name != "OCR_URL"}
    output = tmp_path / "out.pdf"

    done = ocr(PAGE, "-o", output, env=environment | {"OCR_PORT": str(stack.port)})

    assert done.returncode == 0, done.stderr
    with stack.client() as http:
        newest = http.get("/v1/jobs?limit=1").json()["jobs"][0]
        assert http.get(f"{newest['links']['self']}/pdf").content == output.read_bytes()


@pytest.mark.usefixtures("hangup_is_default")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ocr_leaves_nothing_when_it_is_terminated(
    number: signal.Signals, stack: Stack, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ocr_tasks.cli", "ocr", PAGE, "-o", tmp_path / "out.pdf"]
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = subprocess.Popen(
        command,
        env=stack.environment | NO_SERVER | {"TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: matching(folder, "*/data/redis/*"))
    started = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)

    assert process.wait(60) == 130
    assert list(folder.iterdir()) == []
    assert started
    assert alive(started) == []


def test_full_shared_memory_is_reported(stack: Stack, tmp_path: Path) -> None:
    # A file system with space for only its root.
    mount = "mount -t tmpfs -o nr_inodes=1 tmpfs /dev/shm"
    environment = stack.environment | {
        "OCR_DATA_DIR": str(tmp_path),
        "OCR_PORT": str(free_port()),
    }
    told = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" -m ocr_tasks.cli up', sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 69
    assert "/dev/shm" in told.stderr
    assert "Traceback" not in told.stderr


def test_ctrl_c_cancels_the_job_of_ocr(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    scan = tmp_path / "held.pdf"
    scan.write_bytes(SCAN[1])
    command = [sys.executable, "-m", "ocr_tasks.cli", "ocr", scan, scan]
    command += ["--option", "title=fault: gate", "-o", tmp_path / "out.pdf", "--url", stack.url]
    process = subprocess.Popen(command, env=stack.environment, stderr=subprocess.DEVNULL)

    def running() -> str | None:
        jobs = http.get("/v1/jobs?state=running&limit=1").json()["jobs"]
        return jobs[0]["links"]["self"] if jobs and jobs[0]["input"]["files"] == 2 else None

    link = wait_until(running)
    os.kill(process.pid, signal.SIGINT)

    assert process.wait(60) == 130
    assert http.get(link).json()["state"] == "cancelled"
    assert list(tmp_path.iterdir()) == [scan]
