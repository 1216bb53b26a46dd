"""What tokens cost: a dated table of known models, overridden per endpoint, in integer pico-dollars per token.

One USD per million tokens is exactly 1,000,000 pico-dollars per token, so a cost is a dot product of integers,
rounded once when it is shown. Tables are read from ``prices.json`` beside this file. It settles nothing: the ledger
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib import resources

import msgspec

from roadbed.gateway.manifest import PriceConfig
from roadbed.gateway.types import Usage

PICOUSD_PER_USD_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-dollars per token for each class of `Usage`.

    ``source`` names the row: table date and model, or the manifest.
    """

    source: str
    input_uncached: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    input_max: int = field(init=False)
    """The dearest class of input."""

    def __post_init__(self) -> None:
        dearest = max(self.input_uncached, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        object.__setattr__(self, "input_max", dearest)

    @property
    def is_free(self) -> bool:
        """Whether nothing is paid by the token."""
        return not (self.input_uncached or self.output or self.cache_write_5m or self.cache_write_1h)

    def cost_picousd(self, usage: Usage) -> int:
        """The cost of a call."""
        return (
            usage.input_uncached * self.input_uncached
            + usage.cache_read * self.cache_read
            + usage.cache_write_5m * self.cache_write_5m
            + usage.cache_write_1h * self.cache_write_1h
            + usage.output_tokens * self.output
        )


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: str
    model: str
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    date: str
    unit: str
    note: str
    rows: list[_Row]


def _pico(usd_per_million: Decimal | float) -> int:
    return int(Decimal(str(usd_per_million)) * PICOUSD_PER_USD_PER_MILLION)


def price_from_usd(source: str, input_usd: float | Decimal, output_usd: float | Decimal) -> Price:
    """A price from USD per million tokens, cached input as dear as fresh input."""
    return Price(source, _pico(input_usd), _pico(output_usd), _pico(input_usd), _pico(input_usd), _pico(input_usd))


class PriceTable:
    """A dated table of prices by provider and model.

    A dated model name (``gpt-5-2025-08-07``) finds its family's row.
    """

    def __init__(self, date: str, rows: dict[tuple[str, str], Price]) -> None:
        self.date = date
        self._rows = rows

    def find(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model, or None when the table does not know it."""
        exact = self._rows.get((provider, model))
        if exact is not None:
            return exact
        name = model
        while "-" in name:
            name, _, rest = name.rpartition("-")
            if not (rest.isdigit() or rest == "latest"):
                return None
            if (provider, name) in self._rows:
                return self._rows[provider, name]
        return None

    def __len__(self) -> int:
        return len(self._rows)

    def with_rows(self, declared: Mapping[str, PriceConfig]) -> PriceTable:
        """The table with the manifest's rows, by ``provider/model``, before its own."""
        if not declared:
            return self
        rows = dict(self._rows)
        for name, price in declared.items():
            provider, _, model = name.partition("/")
            read = price.input if price.cache_read is None else price.cache_read
            write = _pico(price.input if price.cache_write is None else price.cache_write)
            rows[provider, model] = Price(
                f"prices.{name}", _pico(price.input), _pico(price.output), _pico(read), write, write
            )
        return PriceTable(self.date, rows)


def parse_price_table(data: bytes) -> PriceTable:
    """A table from its JSON; `msgspec.ValidationError` when it is not one."""
    table = msgspec.json.decode(data, type=_Table)
    rows = {}
    for row in table.rows:
        rows[row.provider, row.model] = Price(
            source=f"{table.date}:{row.provider}/{row.model}",
            input_uncached=_pico(row.input),
            output=_pico(row.output),
            cache_read=_pico(row.input if row.cache_read is None else row.cache_read),
            cache_write_5m=_pico(row.input if row.cache_write_5m is None else row.cache_write_5m),
            cache_write_1h=_pico(row.input if row.cache_write_1h is None else row.cache_write_1h),
        )
    return PriceTable(table.date, rows)


@cache
def shipped_prices() -> PriceTable:
    """The table that comes with Roadbed."""
    return parse_price_table(resources.files("roadbed.gateway").joinpath("prices.json").read_bytes())
