"""The texts of the web pages, in all languages."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from ocr_tasks import errors
from tests.web.conftest import Configure
from web import extensions
from web.site import texts

WEB = Path(texts.__file__).parent
EXTENSIONS = [
    Path(module.__file__).parent
    for module in (importlib.import_module(f"web.{name}") for name in extensions.NAMES)
    if module.__file__
]
#: /docs describes the API, in the language of its responses.
TEMPLATES = [
    path
    for folder in (WEB, *EXTENSIONS)
    for path in (folder / "templates").glob("*.html")
    if path.name != "docs.html"
]
SCRIPTS = [
    path for path in (WEB / "static").rglob("*.js") if "vendor" not in path.relative_to(WEB).parts
]

#: Texts that are the same in every language: names, and a command of the administrator.
NAMES = ("OCR Tasks", "make swarm-assets")
#: Attributes that people see or hear.
READ = re.compile(r'\b(?:alt|aria-label|content|placeholder|title|value)="([^"]*)"')
OTHERS = [code for code in texts.LANGUAGES if code != "en"]


def own(code: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((WEB / "texts" / f"{code}.json").read_text())
    return found


@pytest.mark.parametrize("code", OTHERS)
def test_all_languages_have_the_same_texts(code: str) -> None:
    english, other = own("en"), own(code)

    assert list(other) == list(english)
    for key, text in english.items():
        assert text.strip(), key
        assert other[key].strip(), key
        places = re.findall(r"\{\w+\}", text)
        assert sorted(re.findall(r"\{\w+\}", other[key])) == sorted(places), key


@pytest.mark.parametrize("code", OTHERS)
def test_translated_error_codes_exist(code: str) -> None:
    translated = json.loads((WEB / "texts" / f"errors.{code}.json").read_text())

    assert set(translated) <= set(errors.by_code())
    # Every error with which a document can end is displayed.
    ends = {code for code, cls in errors.by_code().items() if issubclass(cls, errors.JobError)}
    ours = {"processor_failed", "dependency_failed", "job_cancelled"}  # not for documents
    assert ends - ours <= set(translated)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_text_in_a_template_is_untranslated(path: Path) -> None:
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text(), flags=re.S)
    source = re.sub(r'<meta (?:name="(?:viewport|theme-color)"|charset)[^>]*>', "", source)
    source = re.sub(r'<option value="[^"]*"', "<option", source)
    attributes = READ.findall(source)
    said = " ".join([*attributes, re.sub(r"<[^>]*>", " ", source)])
    for name in NAMES:
        said = said.replace(name, "")

    assert not re.findall(r"[^\W\d_]{2,}", said)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_sentence_in_a_script_is_untranslated(path: Path) -> None:
    source = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M)

    assert not re.findall(r"""["'`][A-Z][a-z]+ [^"'`\n]*[a-z][^"'`\n]*["'`]""", source)


def used() -> tuple[set[str], set[str]]:
    """Returns the keys in use, and the prefixes of keys that scripts compose."""
    keys: set[str] = set()
    beginnings: set[str] = set()
    for extension in extensions.installed():
        keys |= set(extension.links.values())
    for path in TEMPLATES:
        keys |= set(re.findall(r"t\[['\"]([\w.]+)['\"]\]", path.read_text()))
    for path in SCRIPTS:
        parts = re.split(r"\b(say|count)\(", path.read_text())
        for call, after in zip(parts[1::2], parts[2::2], strict=True):
            arguments = after.partition("\n")[0]
            # Both of `say(condition ? "a" : "b")`.
            for key in re.findall(r'"([a-z_]+(?:\.\w+)+)"', arguments):
                keys |= {key} if call == "say" else {f"{key}.one", f"{key}.other"}
            beginnings |= set(re.findall(r"`([a-z_]+\.)(?:\w*\.)?\$\{", arguments))
            beginnings |= set(re.findall(r"`([a-z_]+\.\w+\.)\$\{", arguments))
    return keys, beginnings


def test_each_used_text_exists() -> None:
    keys, _beginnings = used()

    assert len(keys) > 100
    assert keys - set(own("en")) == set()


def test_each_text_is_used() -> None:
    keys, beginnings = used()
    there = set(own("en"))

    assert {key for key in there - keys if not key.startswith(tuple(beginnings))} == set()


@pytest.mark.parametrize(
    ("accept", "cookie", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "", "de"),
        ("fr,en;q=0.5", "", "en"),
        ("fr", "", "en"),
        ("", "", "en"),
        ("de", "en", "en"),
        ("en", "de", "de"),
        ("de", "xx", "de"),
    ],
)
def test_the_page_uses_the_chosen_language_or_that_of_the_browser(
    configure: Configure, accept: str, cookie: str, language: str
) -> None:
    client = configure()
    if cookie:
        client.set_cookie(texts.COOKIE, cookie)
    links = [path for extension in extensions.installed() for path in extension.links]
    for path in ("/", *links):
        answer = client.get(path, headers={"Accept-Language": accept} if accept else {})

        assert f'<html lang="{language}">' in answer.text
        assert {"Accept-Language", "Cookie"} <= set(answer.headers["Vary"].split(", "))
    assert ("Dateien auswählen" in client.get("/", headers={"Accept-Language": accept}).text) == (
        language == "de"
    )


def test_no_text_can_break_out_of_the_page(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = {**texts.table("en"), "jobs.empty": "</script><script>alert(1)</script>"}
    monkeypatch.setattr(texts, "table", lambda _code: evil)

    assert "<script>alert" not in configure().get("/").text
