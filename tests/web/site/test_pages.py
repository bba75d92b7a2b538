"""The web pages, in this process."""

from __future__ import annotations

from tests.web.conftest import Configure
from web import extensions


def test_pages_have_scripts_of_this_server_only_and_other_responses_none(
    configure: Configure,
) -> None:
    client = configure()
    policies = {}
    for path in ("/", "/docs", "/static/app.js"):
        with client.get(path) as answer:
            policies[path] = answer.headers["Content-Security-Policy"]

    assert "script-src 'self';" in policies["/"]
    assert policies["/docs"] == policies["/"]
    assert "sandbox" in policies["/static/app.js"]


def test_the_page_links_to_those_of_its_extensions(configure: Configure) -> None:
    text = configure().get("/").text

    for extension in extensions.installed():
        for path in extension.links:
            assert f'<a href="{path}">' in text
