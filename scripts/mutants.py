"""Mutation testing of one module: shows small changes of its code that no test detects.

    make mutants MODULE=jobs/leases [MOST=60]
    .venv/bin/python -m scripts.mutants plugin/parallel 60 is_slow    # functions with `is_slow`

It works in a copy of the repository in build/mutants, where it also installs mutmut
(https://mutmut.readthedocs.io). It runs only the module's tests in `TESTS`.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = "mutmut==3.8.1 libcst==1.9.0 setproctitle==1.3.8 textual==8.2.8 coverage==7.17.5"

#: The tests of each module: paths below tests/ocr_tasks or tests, without `test_` and `.py`.
TESTS = {
    "jobs/lifecycle": "jobs/lifecycle jobs/result_backend jobs/owners jobs/idempotency "
    "jobs/retention webhooks",
    "jobs/leases": "jobs/leases jobs/lifecycle worker/maintenance ocrd/waiting",
    "jobs/page_queue": "jobs/page_queue plugin/parallel",
    "jobs/queues": "jobs/queues jobs/page_queue jobs/leases jobs/lifecycle ocrd/waiting",
    "jobs/result_backend": "jobs/result_backend jobs/lifecycle jobs/leases jobs/owners "
    "jobs/idempotency worker/remote_control ocrd/waiting",
    "storage/layout": "storage/layout jobs/retention uploads/receive jobs/lifecycle",
    "webhooks": "webhooks worker/webhook_sender",
    "plugin": "plugin/executor plugin/parallel jobs/page_queue plugin/progress plugin/plugin",
    "plugin/engine": "plugin/engine",
    "plugin/tesseract": "plugin/engine",
    "plugin/textlayer": "plugin/textlayer",
    "plugin/crop_box": "pipeline/geometry",
    "plugin/kept_pages": "pipeline/damaged pipeline/document",
    "plugin/links": "pipeline/preservation",
    "uploads/merging": "uploads/merging",
}

#: Lines that are not changed: log messages and casts.
NOT_CHANGED = r"^\s*log\.|cast\("

#: mutmut's exit codes of changes with which all tests pass, and of those that no test executes.
SURVIVED = (0, 33)


def main(module: str, most: int = 60, only: str = "") -> None:
    """Tries at most `most` changes of a module, in functions whose names contain `only`.

    The changes are chosen at random, but are the same each time.
    """
    path = f"ocr_tasks/{module}.py"
    if not Path(path).is_file():
        sys.exit(f"there is no {path}; MODULE is a path in ocr_tasks without .py, e.g. jobs/leases")
    work = Path("build/mutants").absolute()
    tools = work / "tools"
    if not tools.exists():
        install = ["-m", "pip", "install", "-q", "--no-deps", "--target"]
        subprocess.run([sys.executable, *install, tools, *TOOLS.split()], check=True)
    list_files = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(list_files, text=True).splitlines():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, work / name)
    os.chdir(work)
    shutil.rmtree("mutants", ignore_errors=True)
    names = [Path(name) for name in TESTS.get(module, TESTS["plugin"]).split()]
    files = [name.with_name(f"test_{name.name}.py") for name in names]
    tests = [Path("tests", folder, name) for name in files for folder in ("", "ocr_tasks")]
    Path("setup.cfg").write_text(
        f"[mutmut]\nsource_paths=ocr_tasks\nonly_mutate={path}\nalso_copy=\n web\n docs\n"
        # A process per run, because Celery would keep connections to the Redis of an earlier run.
        "process_isolation=forkserver\n"
        f"do_not_mutate_patterns={NOT_CHANGED}\npytest_add_cli_args_test_selection=\n "
        + "\n ".join(str(test) for test in tests if test.exists())
    )
    os.environ["PYTHONPATH"] = str(tools)
    sys.path.insert(0, str(tools))
    mutmut = importlib.import_module("mutmut.__main__")
    mutmut.copy_src_dir()
    mutmut.create_file_mutants(Path(path))
    results = Path(f"mutants/{path}.meta")
    changes = [name for name in sorted(_codes(results)) if only in name]
    chosen = random.Random(16).sample(changes, min(most, len(changes)))
    mutmut.run.callback(chosen, max_children=1)
    survived = [name for name in chosen if _codes(results)[name] in SURVIVED]
    for name in survived:
        mutmut.show.callback(name)
    print(f"{module}: tried {len(chosen)} of {len(changes)} changes, {len(survived)} not detected")


def _codes(results: Path) -> dict[str, int]:
    codes: dict[str, int] = json.loads(results.read_text())["exit_code_by_key"]
    return codes


if __name__ == "__main__":
    main(sys.argv[1], int((*sys.argv, "60")[2]), "".join(sys.argv[3:]))
