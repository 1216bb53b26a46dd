"""From the manifest's ``guard`` section to what a detector looks for. `ConfigError` says what is wrong and why."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from roadbed.guard.custom import PATTERNS_MAX, CustomTerms, read_dictionary, refusal_of
from roadbed.guard.detect import OPTIONAL_TYPES, Looking
from roadbed.guard.finding import CUSTOM, SECRET, TYPES
from roadbed.guard.letter_ids import LETTER_RULES
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.national_ids import NUMBER_RULES
from roadbed.guard.secret_table import PREFIX_TABLE, SERVICE_TABLE
from roadbed.kernel.errors import ConfigError

OTHER_RULES: Final = (
    "email", "phone_national", "phone_international", "iban", "ip_v4", "ip_v6", "mrz", "birth_date", "plate",
    "passport",
    "driving_licence", "address", "name_after_title", "first_name", "url_password", "assigned_secret", "private_key",
    "bearer_token", "user_option", "azure_client_secret", "facebook_app_token", "telegram_token", "discord_token",
    "terraform_token",
)  # fmt: skip
RULES: Final = frozenset(
    {rule.name for rule in NUMBER_RULES}
    | {rule.name for rule in LETTER_RULES}
    | {row[0] for row in (*PREFIX_TABLE, *SERVICE_TABLE)}
    | set(OTHER_RULES)
)


def looking_for(config: GuardConfig, folder: Path | None = None) -> Looking:
    """What a detector with this configuration looks for; dictionaries' files lie in ``folder``."""
    for name in config.off:
        if name not in RULES and name not in TYPES:
            raise ConfigError(f"guard.off: there is no type or rule {name!r}", hint=_nearest(name, RULES | set(TYPES)))
        if name == SECRET:
            raise ConfigError("guard.off: secrets cannot be turned off as a whole", hint="name single rules")
    for name in config.optional:
        if name not in OPTIONAL_TYPES:
            raise ConfigError(f"guard.optional: {name!r} is not one of {', '.join(sorted(OPTIONAL_TYPES))}")
    if len(config.patterns) > PATTERNS_MAX:
        raise ConfigError(f"guard.patterns: more than {PATTERNS_MAX}")
    return Looking(
        tuple(config.phone_regions),
        frozenset(config.off),
        frozenset(config.optional),
        config.strict,
        _custom(msgspec.json.encode((config.patterns, config.dictionaries)), folder) if _has_own(config) else None,
    )


def allowed_values(config: GuardConfig) -> re.Pattern[str] | None:
    """The pattern of whole values that are never treated as personal or secret."""
    for expression in config.allow_patterns:
        reason = refusal_of(expression)
        if reason:
            raise ConfigError(f"guard.allow_patterns: {expression!r}: {reason}")
    return (
        re.compile("|".join(f"(?:{expression})" for expression in config.allow_patterns))
        if config.allow_patterns
        else None
    )


def _has_own(config: GuardConfig) -> bool:
    return bool(config.patterns or config.dictionaries)


@lru_cache(maxsize=8)
def _custom(encoded: bytes, folder: Path | None) -> CustomTerms:
    """Compiled once for the same section, since `check` and each reload ask again."""
    patterns, dictionaries = msgspec.json.decode(encoded)
    terms: dict[str, list[str]] = {}
    for name, dictionary in dictionaries.items():
        terms[name] = list(dictionary["terms"])
        if dictionary["file"]:
            terms[name] += read_dictionary(_inside(folder, dictionary["file"]))
        if not terms[name]:
            raise ConfigError(f"guard.dictionaries.{name}: it has no terms")
    return CustomTerms({name: (row["pattern"], row["case"]) for name, row in patterns.items()}, terms)


def _inside(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise ConfigError(f"guard.dictionaries: {name} cannot be read here")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"guard.dictionaries: {name} lies outside the workspace")
    return path


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f"did you mean {near[0]}?" if near else f"types are {', '.join(kind for kind in TYPES if kind != CUSTOM)}"
