"""Checks that texts use the project's terms: `python -m scripts.wording [FILE...]`.

It checks the documentation, docstrings, comments, configuration files, scripts and the texts of the
web page. A line that has to use such a word, e.g. in a quotation, contains `wording: ok`.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

#: Expressions that are not used, and what to say instead.
WORDS = {
    r"anew": "again",
    r"once more": "again",
    r"whoever": "the client, the administrator, the process that",
    r"lest": "so that … not",
    r"thereby|thereof|therein|whence|whereof": "a plain sentence",
    r"is told of|are told of|is told|are told": "is reported, receives",
    r"stands? in for": "replaces",
    r"how sure": "confidence",
    r"goes? on (where|from|with)": "resumes, continues",
    r"look(?:s|ed|ing)? into": "inspect, check",
    r"steps? aside|stepped aside|makes? place|made place": "yield",
    r"joined by (commas|colons|spaces)": "comma-separated, …",
    r"lies in": "is stored in, is in",
    r"nobody'?s": "a plain sentence",
    r"caretaker|reconciler|porter|triage": "the component's present name",
    r"beside (?!the point)": "next to, in addition to",
    r"has (?:it|them) (?:read|sent|made|done)": "an active sentence",
    r"(?:gives?|given|giving) [^.]{0,20}\bback|gave [^.]{0,20}\bback": "release, return",
    r"held back": "buffered, delayed",
    r"taken in": "accepted",
}
_PATTERN = re.compile("|".join(rf"\b(?:{word})\b" for word in WORDS), re.IGNORECASE)

_ALLOWED = "wording: ok"

#: Files of which each line is checked, in addition to scripts without a suffix.
_SUFFIXES = (
    *(".conf", ".css", ".env", ".html", ".js", ".lua", ".md", ".service", ".svg"),
    *(".sysusers", ".target", ".toml", ".yaml", ".yml"),
)
_NAMES = (".importlinter", "Dockerfile", "Makefile")


def main(names: list[str]) -> int:
    """Prints each finding as `file:line: word`; returns 1 if there is one."""
    names = names or subprocess.check_output(["git", "ls-files"], text=True).splitlines()
    found = [
        f"{name}:{line}: {word!r}; say: {_advice(word)}"
        for name in names
        for line, text in _texts(Path(name))
        if _ALLOWED not in text
        for word in (match[0] for match in _PATTERN.finditer(text))
    ]
    print("\n".join(found))
    return 1 if found else 0


def _advice(word: str) -> str:
    rows = ((re.compile(f"(?:{wrong})$", re.IGNORECASE), say) for wrong, say in WORDS.items())
    return next(say for pattern, say in rows if pattern.match(word))


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Returns the lines of a file that people read, with their numbers."""
    if path.suffix == ".py":
        yield from _python(path)
    elif path.suffix in _SUFFIXES or path.name in _NAMES or _is_script(path):
        yield from enumerate(path.read_text().splitlines(), start=1)
    elif path.parent.name == "texts" and not path.name.endswith("de.json"):
        yield from ((1, str(text)) for text in json.loads(path.read_text()).values())


def _is_script(path: Path) -> bool:
    return not path.suffix and path.is_file() and path.read_bytes().startswith(b"#!")


def _python(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node, clean=False)):
            first = node.body[0].lineno
            yield from enumerate(text.splitlines(), start=first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
