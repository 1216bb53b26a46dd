"""Whether a numbering plan knows a telephone number: the tables of ``phonenumberslite``, asked directly.

The library's own parse takes about 40 us a number, four times as long as the guard's pass over a prompt; its patterns
compiled once answer in a few. The tests hold both to the same answers. Loaded on first need: 60 ms and some megabytes.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

_KINDS: Final = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan",
    "voicemail",
)  # fmt: skip


class _Plan:
    """The plan of one region."""

    def __init__(self, metadata: Any) -> None:
        general = metadata.general_desc
        self.lengths = frozenset(general.possible_length)
        self.general = re.compile(general.national_number_pattern or r"(?!)")
        self.kinds = [
            (re.compile(kind.national_number_pattern), frozenset(kind.possible_length) or self.lengths)
            for kind in (getattr(metadata, name) for name in _KINDS)
            if kind is not None and kind.national_number_pattern
        ]
        prefix = metadata.national_prefix_for_parsing
        self.prefix = re.compile(prefix) if prefix else None
        self.rule = metadata.national_prefix_transform_rule
        self.code = str(metadata.country_code)

    def without_prefix(self, digits: str) -> str:
        """The number as it is within the country, without the digit that is dialled before it there."""
        match = self.prefix.match(digits) if self.prefix is not None else None
        if match is None:
            return digits
        if self.rule and match.lastindex and match[match.lastindex] is not None:
            bare = re.sub(r"\$(\d)", lambda group: match[int(group[1])] or "", self.rule) + digits[match.end() :]
        else:
            bare = digits[match.end() :]
        if self.general.fullmatch(digits) and not self.general.fullmatch(bare):
            return digits
        return bare

    def knows(self, national: str) -> bool:
        """Whether the plan has given out numbers such as this one."""
        length = len(national)
        if length not in self.lengths or not self.general.fullmatch(national):
            return False
        for kind, lengths in self.kinds:  # noqa: SIM110 - a generator costs as much as an answer
            if length in lengths and kind.fullmatch(national):
                return True
        return False


@cache
def _plan(region: str) -> _Plan | None:
    import phonenumbers

    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    return _Plan(metadata) if metadata is not None else None


@cache
def _regions_of_code() -> dict[str, tuple[str, ...]]:
    import phonenumbers

    return {str(code): regions for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()}


@cache
def _plans_of_code(code: str) -> tuple[_Plan, ...]:
    plans = (_plan(region) for region in _regions_of_code().get(code, ()))
    return tuple(plan for plan in plans if plan is not None)


def warm_up() -> None:
    """Load the tables now, so that no request waits for them."""
    is_possible("4722334455")


def is_valid(digits: str, region: str) -> bool:
    """Whether ``region``'s plan knows the number as it is dialled there."""
    plan = _plan(region)
    if plan is None:
        return False
    if plan.knows(plan.without_prefix(digits)):
        return True
    return digits.startswith(plan.code) and plan.knows(plan.without_prefix(digits.removeprefix(plan.code)))


def is_possible(digits: str) -> bool:
    """Whether an international number, without its ``+``, has a country code and a length that the country uses.

    Plans are open to new ranges, so that a possible length is enough where the writing says what it is.
    """
    codes = _regions_of_code()
    for size in (1, 2, 3):
        if digits[:size] in codes:
            national = digits[size:]
            for plan in _plans_of_code(digits[:size]):
                if len(national) in plan.lengths or len(plan.without_prefix(national)) in plan.lengths:
                    return True
            return False
    return False
