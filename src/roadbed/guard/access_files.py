"""The policies of a workspace: ``policies/*.cedar`` read and held against the schema, and the set shipped beside them.

Reading is pure but for the files. The invariant: texts that `check_policies` lets pass can be evaluated, and name
nothing that the schema does not know.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from roadbed.kernel.errors import ConfigError

POLICY_FOLDER: Final = "policies"
DEFAULT_NAME: Final = "default.cedar"
TESTS_NAME: Final = "tests.yaml"
POLICY_FILES_MAX: Final = 100
POLICY_BYTES_MAX: Final = 256 * 1024
ERRORS_SHOWN: Final = 20


@functools.cache
def schema_text() -> str:
    """What policies may speak of."""
    return (files("roadbed.guard") / "policies" / "schema.cedarschema").read_text(encoding="utf-8")


@functools.cache
def default_text() -> str:
    """The shipped set."""
    return (files("roadbed.guard") / "policies" / DEFAULT_NAME).read_text(encoding="utf-8")


@functools.cache
def parsed_schema() -> Any:
    """`schema_text`, parsed once."""
    import cedarpy

    return cedarpy.Schema.from_str(schema_text())


def policy_paths(folder: Path) -> list[Path]:
    """The policy files of a workspace, by name."""
    return sorted((folder / POLICY_FOLDER).glob("*.cedar"))


def read_policies(folder: Path) -> dict[str, str]:
    """The texts of the workspace's policies by file name. `ConfigError`."""
    paths = policy_paths(folder)
    if len(paths) > POLICY_FILES_MAX:
        raise ConfigError(f"{POLICY_FOLDER}/ holds more than {POLICY_FILES_MAX} files of policies")
    texts = {}
    for path in paths:
        shown = f"{POLICY_FOLDER}/{path.name}"
        try:
            if path.stat().st_size > POLICY_BYTES_MAX:
                raise ConfigError(f"the file is larger than {POLICY_BYTES_MAX} bytes", file=shown)
            texts[path.name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError("the file is not UTF-8 text", file=shown) from None
        except OSError as error:
            raise ConfigError(f"the file cannot be read: {error.strerror}", file=shown) from None
    return texts


def check_policies(texts: Mapping[str, str]) -> Iterator[ConfigError]:
    """What is wrong with policies, at most `ERRORS_SHOWN` of each file."""
    if not texts:
        return
    import cedarpy

    for name, text in texts.items():
        shown = f"{POLICY_FOLDER}/{name}"
        try:
            parsed = cedarpy.PolicySet.from_str(text)
        except ValueError as error:
            yield ConfigError(f"not valid Cedar: {_first_line(error)}", file=shown)
            continue
        if parsed.templates():
            yield ConfigError("templates are not taken", hint="write one policy for each, or use a Group", file=shown)
        found = cedarpy.validate_policies(text, parsed_schema())
        names = found.id_annotations_by_policy_id
        for problem in found.errors[:ERRORS_SHOWN]:
            where = names.get(problem.policy_id) or problem.policy_id
            hint = "`roadbed policy schema` prints what policies may name"
            yield ConfigError(f"policy {where}: {_first_line(problem.error)}", hint=hint, file=shown)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0][:300]
