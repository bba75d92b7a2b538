"""Runs of real and invented processors, loaded in a process and as programs."""

from __future__ import annotations

import ast
import dataclasses
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import mets_files, programs, running, warm, warm_pool
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.running import Order
from tests.conftest import wait_until
from tests.ocrd.conftest import ROOT

Maker = Callable[[str, str], Path]

#: A Python processor that does what its parameter requests.
OBEDIENT = """#!{python}
import os, signal, sys, time
import click
from ocrd import OcrdPageResult, Processor
from ocrd.decorators import ocrd_cli_options, ocrd_cli_wrap_processor

class Obedient(Processor):
    metadata = {{"version": "1.0.0", "git_url": "https://host", "tools": {{"ocrd-obedient": {{
        "executable": "ocrd-obedient", "description": "Obedient",
        "steps": ["layout/analysis"], "categories": ["Layout analysis"],
        "input_file_grp_cardinality": 1, "output_file_grp_cardinality": 1,
        "parameters": {{
            "do": {{"type": "string", "description": "what", "default": ""}},
            "list": {{"type": "array", "description": "anything", "default": []}},
        }},
    }}}}}}
    setups = 0

    def setup(self):
        Obedient.setups += 1

    def process_page_pcgts(self, *pages, page_id=None):
        do, _, what = self.parameter["do"].partition(" ")
        print(f"{{page_id}} by process {{os.getpid()}}, {{Obedient.setups}} set up")
        os.system("echo a program speaks")
        if do == "fail":
            raise ValueError(f"{{self.workspace.directory}}/page is no good")
        if do == "exit":
            sys.exit(3)
        if do == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "wait":
            open(what + ".waits", "w").close()
            while not os.path.exists(what):
                time.sleep(0.01)
        if do == "eat":
            print("eaten:", repr(sys.stdin.read()))
        return OcrdPageResult(pages[0])

@click.command()
@ocrd_cli_options
def cli(*args, **kwargs):
    return ocrd_cli_wrap_processor(Obedient, *args, **kwargs)

if __name__ == "__main__":
    sys.exit(cli())
"""

#: A processor that is not written in Python: it copies a METS file that was created before.
IN_SHELL = """#!/bin/sh
echo "$*"
while [ $# -gt 0 ]; do case "$1" in
    --mets) mets=$2; shift;; --working-dir) cd "$2"; shift;; --overwrite) ;; *) shift;;
esac; shift; done
env
if [ -e fail ]; then
    echo "12:00:00.000 ERROR ocrd.shell - no $PWD/model"
    echo "so it ends"
    exit 4
fi
[ ! -e die ] || kill -9 $$
cp ready.xml "$mets"
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


@pytest.fixture
def obedient(processors: redis.Redis, ocrd_bin: Path, shared_bin: Path) -> str:
    path = shared_bin / "ocrd-obedient"
    if not path.exists():
        path.write_text(OBEDIENT.format(python=ocrd_bin / "python"))
        path.chmod(0o755)
    return path.name


_runs = iter(range(10**6))


def order(mets: Path, executable: str = "ocrd-dummy", output: str = "OUT", **more: Any) -> Order:
    """Returns the parameters of a run on the images."""
    return dataclasses.replace(
        Order(executable, mets, "key", ("OCR-D-IMG",), (output,), None, {}, f"run-{next(_runs)}"),
        **more,
    )


def pages(mets: Path, group: str = "OUT") -> list[str]:
    """Returns the pages that have an existing file in a group."""
    found = Mets.read(mets)
    assert all((mets.parent / file.href).stat().st_size for file in found.files(group))
    return sorted(found.pages_of(group))


def nothing_is_left(mets: Path) -> bool:
    return not list(mets.parent.glob(".mets*")) and not list((programs.home() / "tmp").iterdir())


def in_shell(mets: Path, program: Maker, group: str = "OUT") -> Order:
    """Returns a run of the Bash processor, which will create a group."""
    made = Mets.read(mets)
    for page in made.pages:
        href = f"{group}/{page}.xml"
        (mets.parent / group).mkdir(exist_ok=True)
        (mets.parent / href).write_text("<PcGts/>")
        made.add_file(group, f"{group}_{page}", page, "application/vnd.prima.page+xml", href)
    made.write(mets.parent / "ready.xml")
    program("ocrd-in-shell", IN_SHELL)
    return order(mets, "ocrd-in-shell", group)


# Loaded processors


def test_the_host_process_needs_only_python_3_9_and_its_standard_library() -> None:
    tree = ast.parse(Path(warm.__file__).read_text(), feature_version=(3, 9))
    loaded = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {str(name).partition(".")[0] for name in loaded} <= sys.stdlib_module_names


def test_the_cpu_time_limit_applies_to_each_run(obedient: str, kant: Path, log: Path) -> None:
    warm_pool.close_all()
    before = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (50_000, before[1]))
    try:
        running.run(order(kant, obedient), log)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
    ((_, loaded),) = warm_pool._idle

    assert resource.prlimit(loaded._process.pid, resource.RLIMIT_CPU)[0] >= 50_000


def test_cpu_time_before_a_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(warm.time, "process_time", lambda: 7.9)
    monkeypatch.setattr(resource, "setrlimit", lambda *asked: limits.append(asked))
    monkeypatch.setattr(resource, "getrlimit", lambda what: (50, resource.RLIM_INFINITY))

    warm.allow_cpu(50)

    assert limits == [(resource.RLIMIT_CPU, (57, resource.RLIM_INFINITY))]


def test_a_processor_stays_loaded_and_writes_into_the_log_of_each_run(
    obedient: str, kant: Path, tmp_path: Path
) -> None:
    logs = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for number, log in enumerate(logs):
        some = {"do": "eat", "list": [1, {"a": "b"}]}
        running.run(order(kant, obedient, f"OUT{number}", parameters=some), log)

        assert pages(kant, f"OUT{number}") == ["PHYS_0017", "PHYS_0020"]
    said = [log.read_text() for log in logs]
    for text in said:
        assert "PHYS_0017 by process" in text
        assert text.count("a program speaks") == 2
        assert "eaten: ''" in text
        assert "INFO ocrd.process.profile" in text
    process = [text.partition("by process ")[2].partition("\n")[0] for text in said]
    assert process[0] == process[1]  # and was set up only once
    assert nothing_is_left(kant)


def test_only_the_selected_pages_are_processed(
    processors: redis.Redis, kant: Path, log: Path
) -> None:
    running.run(order(kant, pages=["PHYS_0020"]), log)

    assert pages(kant) == ["PHYS_0020"]
    assert "PHYS_0017" not in log.read_text()


def test_a_failure_reports_the_error_in_the_log_without_paths(
    obedient: str, kant: Path, log: Path
) -> None:
    with pytest.raises(ocrd_errors.ProcessorFailed) as failed:
        running.run(order(kant, obedient, parameters={"do": "fail"}), log)

    assert str(kant.parent) not in failed.value.detail
    assert "too many failures" in failed.value.detail
    assert "page is no good" in log.read_text()
    assert "OUT" not in Mets.read(kant).groups
    assert nothing_is_left(kant)
    running.run(order(kant, obedient), log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]


def test_an_error_before_the_first_page_is_in_the_log(obedient: str, kant: Path, log: Path) -> None:
    with pytest.raises(ocrd_errors.ProcessorFailed, match="unknown"):
        running.run(order(kant, obedient, parameters={"unknown": 1}), log)
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("do", ["die", "exit"])
def test_a_processor_that_exits_fails_only_its_run(
    do: str, obedient: str, kant: Path, log: Path
) -> None:
    with pytest.raises(ocrd_errors.ProcessorFailed):
        running.run(order(kant, obedient, parameters={"do": do}), log)
    assert nothing_is_left(kant)

    running.run(order(kant, obedient), log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]


def test_a_processor_ends_with_its_parent_process(
    obedient: str, kant: Path, log: Path, tmp_path: Path
) -> None:
    asked = order(kant, obedient, parameters={"do": f"wait {tmp_path / 'go'}"})
    words = (
        "from pathlib import PosixPath; from ocr_tasks.ocrd import running; "
        f"from ocr_tasks.ocrd.running import Order; running.run({asked!r}, {log!r})"
    )
    with subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, start_new_session=True) as run:
        try:
            wait_until((tmp_path / "go.waits").exists)
            loaded = psutil.Process(run.pid).children()
            assert [os.getpgid(process.pid) for process in loaded] == [run.pid]
        finally:
            run.kill()  # it would wait forever
    _, alive = psutil.wait_procs(loaded, 20)
    assert alive == []
    assert not nothing_is_left(kant)

    (tmp_path / "go").touch()
    running.run(asked, log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]
    assert nothing_is_left(kant)


def test_real_tesseract_processes_a_page(processors: redis.Redis, kant: Path, log: Path) -> None:
    wishes = {"model": "deu", "segmentation_level": "region", "textequiv_level": "word"}
    asked = order(kant, "ocrd-tesserocr-recognize", "OCR", pages=["PHYS_0017"], parameters=wishes)
    running.run(asked, log)

    assert pages(kant, "OCR") == ["PHYS_0017"]
    (page,) = [file for file in Mets.read(kant).files("OCR") if file.media_type.endswith("xml")]
    assert "<pc:Unicode>" in (kant.parent / page.href).read_text()


# Programs


def test_a_bash_processor_is_called_as_a_program(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    asked = in_shell(kant, program)
    running.run(dataclasses.replace(asked, parameters={"a": "ü; rm -rf /"}), log)

    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]
    first = log.read_text().splitlines()[0]
    assert first == (
        f"--working-dir {kant.parent} --mets {kant.parent}/.mets-{asked.run_id}.xml "
        '--input-file-grp OCR-D-IMG --output-file-grp OUT --parameter {"a": "\\u00fc; rm -rf /"}'
        " --log-level INFO"
    )
    assert "OCRD_DOWNLOAD_INPUT=false" in log.read_text()
    assert nothing_is_left(kant)


def test_a_real_processor_runs_as_a_program(
    processors: redis.Redis, kant: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_WARM_PROCESSORS", "0")
    settings.clear()
    running.run(order(kant), log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]


def test_a_failed_program_reports_the_error_in_its_log(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    asked = in_shell(kant, program)
    (kant.parent / "fail").touch()
    with pytest.raises(ocrd_errors.ProcessorFailed) as failed:
        running.run(asked, log)

    assert failed.value.detail == "no model"
    assert failed.value.extra == {"exit_status": 4}
    assert nothing_is_left(kant)
    assert "OUT" not in Mets.read(kant).groups


def test_a_killed_program_is_reported_as_such(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    asked = in_shell(kant, program)
    (kant.parent / "die").touch()
    with pytest.raises(ocrd_errors.ProcessorFailed) as failed:
        running.run(asked, log)
    assert failed.value.extra == {"exit_status": -9}

    (kant.parent / "die").unlink()
    running.run(asked, log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]


def test_a_python_script_that_cannot_be_loaded_is_called_as_a_program(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    made = in_shell(kant, program)
    copy = f"shutil.copy('{kant.parent}/ready.xml', sys.argv[sys.argv.index('--mets') + 1])"
    program("ocrd-plain", f"#!{sys.executable}\nimport shutil, sys\n{copy}\n")
    running.run(dataclasses.replace(made, executable="ocrd-plain"), log)

    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]
    assert "ocrd-plain" in {path.name for path, _ in warm_pool._not_loadable}


def test_a_processor_that_is_not_installed_is_reported_as_missing(
    processors: redis.Redis, kant: Path, log: Path
) -> None:
    with pytest.raises(errors.ToolMissing):
        running.run(order(kant, "ocrd-nowhere"), log)
    with pytest.raises(errors.ToolMissing):
        running.run(order(kant, "ocrd-command"), log)


def test_a_program_that_cannot_be_started_fails(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    program("ocrd-broken", "#!/nowhere/sh\n")
    with pytest.raises(ocrd_errors.ProcessorFailed, match="cannot be started"):
        running.run(order(kant, "ocrd-broken"), log)


# Existing output


def test_pages_with_output_are_kept(processors: redis.Redis, kant: Path, log: Path) -> None:
    running.run(order(kant, pages=["PHYS_0017"]), log)
    (page,) = (kant.parent / "OUT").iterdir()
    before = page.stat()
    running.run(order(kant), log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]
    assert page.stat() == before

    done = kant.stat()
    running.run(order(kant), log)
    assert kant.stat().st_ino == done.st_ino
    assert "INFO ocr_tasks.ocrd.running - All pages already have output" in log.read_text()


def test_a_program_gets_the_remaining_pages(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    running.run(order(kant, pages=["PHYS_0017"]), log)
    log.unlink()
    running.run(in_shell(kant, program), log)

    assert "--page-id PHYS_0020 " in log.read_text()
    assert "--overwrite" not in log.read_text().splitlines()[0]


def test_a_page_with_incomplete_output_is_processed_again(
    processors: redis.Redis, kant: Path, log: Path, program: Maker
) -> None:
    running.run(order(kant, pages=["PHYS_0017"]), log)
    log.unlink()
    asked = in_shell(kant, program, "MORE")
    running.run(dataclasses.replace(asked, output_file_grps=("OUT", "MORE")), log)

    said = log.read_text().splitlines()[0]
    assert "--page-id PHYS_0017,PHYS_0020 " in said
    assert said.endswith("--overwrite")


def test_output_is_overwritten_with_that_setting(
    processors: redis.Redis, kant: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_EXISTING_OUTPUT", "overwrite")
    settings.clear()
    running.run(order(kant), log)
    (page,) = (kant.parent / "OUT").glob("*0017.xml")
    page.write_text("old")
    running.run(order(kant, pages=["PHYS_0017"]), log)

    assert page.read_text() != "old"
    assert len(Mets.read(kant).files("OUT")) == 2


def test_output_fails_a_run_with_that_setting(
    processors: redis.Redis, kant: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_EXISTING_OUTPUT", "abort")
    settings.clear()
    running.run(order(kant, pages=["PHYS_0017"]), log)
    with pytest.raises(ocrd_errors.ProcessorFailed, match="already output for PHYS_0017"):
        running.run(order(kant), log)
    running.run(order(kant, pages=["PHYS_0020"]), log)
    assert pages(kant) == ["PHYS_0017", "PHYS_0020"]


# Errors


@pytest.mark.parametrize("group", ["../x", "/tmp/x", "--debug", "a b", ""])
def test_a_group_name_that_is_a_path_is_refused(
    group: str, processors: redis.Redis, kant: Path, log: Path
) -> None:
    with pytest.raises(ocrd_errors.ProcessorFailed, match="not a valid name of a file group"):
        running.run(order(kant, output=group), log)


def test_a_missing_input_fails_the_run(processors: redis.Redis, kant: Path, log: Path) -> None:
    with pytest.raises(ocrd_errors.ProcessorFailed, match="no file group 'OCR-D-NONE'"):
        running.run(order(kant, input_file_grps=("OCR-D-NONE",)), log)


# Concurrent runs


def test_concurrent_runs_on_one_workspace_keep_all_output(
    obedient: str, kant: Path, tmp_path: Path
) -> None:
    kant.chmod(0o640)

    def run(number: int) -> None:
        # The first to begin ends last, after the second one has written the METS file.
        go = tmp_path / "go"
        if number:
            wait_until((tmp_path / "go.waits").exists, 20)
        told = {} if number else {"do": f"wait {go}"}
        asked = order(kant, obedient, f"OUT{number}", parameters=told)
        running.run(asked, tmp_path / f"log{number}")
        if number:
            go.touch()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))

    assert pages(kant, "OUT0") == pages(kant, "OUT1") == ["PHYS_0017", "PHYS_0020"]
    assert kant.stat().st_mode & 0o777 == 0o640
    assert nothing_is_left(kant)


def test_many_concurrent_runs_lose_nothing(service: redis.Redis, kant: Path) -> None:
    begin = threading.Barrier(6)

    def merge(number: int) -> None:
        asked = order(kant)
        added = Mets.read(kant)
        added.add_file(f"G{number}", f"G{number}_1", "PHYS_0017", "text/plain", f"G{number}/1")
        begin.wait()
        mets_files.put(kant, asked.key, f"run-{number}", added)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(merge, range(6)))

    assert {f"G{number}" for number in range(6)} <= set(Mets.read(kant).groups)


def test_the_number_of_loaded_processors_is_limited(
    obedient: str, kant: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_WARM_PROCESSORS", "1")
    settings.clear()
    running.run(order(kant), log)
    ((_, first),) = warm_pool._idle
    running.run(order(kant, obedient, "MORE"), log)

    assert not first.is_alive()
    assert [version[0].name for version, _ in warm_pool._idle] == [obedient]
