"""The page /swarm, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.conftest import Configure
from web.swarm import page


def test_without_its_assets_the_page_of_the_swarm_tells_what_to_do(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_VENDOR", tmp_path)
    said = configure().get("/swarm").text

    assert "make swarm-assets" in said
    assert 'id="join"' not in said


def test_the_page_of_the_swarm_lists_the_installed_languages(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_VENDOR", tmp_path)
    for code in ("fra", "deu"):
        (tmp_path / f"{code}.traineddata.gz").touch()
    said = configure().get("/swarm").text

    assert 'data-languages="deu fra"' in said
    assert "French, German" in said


def test_only_the_page_of_the_swarm_and_its_worker_may_run_webassembly(
    configure: Configure,
) -> None:
    client = configure()
    policies = {}
    for path in ("/", "/docs", "/swarm", "/static/app.js", "/static/swarm/vendor/worker.min.js"):
        with client.get(path) as answer:
            policies[path] = answer.headers["Content-Security-Policy"]

    allowed = [path for path, policy in policies.items() if "wasm-unsafe-eval" in policy]
    assert allowed == ["/swarm", "/static/swarm/vendor/worker.min.js"]
    assert "sandbox" in policies["/static/app.js"]
    assert "'unsafe-eval'" not in "".join(policies.values())
