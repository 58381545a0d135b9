"""The hand-written material: words of nine languages, goods, vendors, and the branches that are billed.

A language file holds `[words]` (`key = variant / variant`) and, by speciality, the goods that vendors sell, with
the lowest and the highest unit price in the money of the language. `*` marks goods at the reduced tax rate.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "material"

LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pl", "pt", "sv")

TAX_RATES: Mapping[str, tuple[str, str]] = {
    "GB": ("20", "5"), "IE": ("23", "9"), "US": ("8.25", "8.25"), "CA": ("13", "13"), "JP": ("10", "8"),
    "DE": ("19", "7"), "AT": ("20", "10"), "CH": ("8.1", "2.6"), "FR": ("20", "5.5"), "BE": ("21", "6"),
    "ES": ("21", "10"), "IT": ("22", "10"), "NL": ("21", "9"), "PL": ("23", "8"), "PT": ("23", "13"), "SE": ("25", "12"),
}  # fmt: skip
"""Standard and reduced rate by country, in percent."""

_PRICE_LEVEL = {"JPY": 150, "SEK": 11, "PLN": 4}
_LANGUAGE_MONEY = {"pl": "PLN", "sv": "SEK"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Good:
    """Something a vendor sells."""

    description: str
    """With slots still open: `{mm}`, `{w}`, `{k}`, `{m}`, `{n}`."""
    low: Decimal
    high: Decimal
    is_reduced: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Vendor:
    """A company that sends invoices."""

    language: str
    country: str
    currency: str
    name: str
    street: str
    town: str
    speciality: str
    """Trade, and for services and utilities what kind of: the section its goods stand in."""
    number_pattern: str

    @property
    def trade(self) -> str:
        """`parts`, `office`, `food`, `services` or `utility`."""
        return self.speciality.split(" ")[0]

    @property
    def domain(self) -> str:
        """Web domain under the reserved `.example`."""
        letters = "".join(c for c in _plain(self.name).lower() if c.isalnum() or c == " ")
        return "-".join(letters.split()[:2]) + ".example"

    @property
    def slug(self) -> str:
        """Name for `meta.cluster`."""
        return self.domain.removesuffix(".example")

    @property
    def price_level(self) -> Decimal:
        """What a price in the language's own money is multiplied with."""
        own = _PRICE_LEVEL.get(_LANGUAGE_MONEY.get(self.language, "EUR"), 1)
        return Decimal(_PRICE_LEVEL.get(self.currency, 1)) / own


@cache
def words(language: str) -> Mapping[str, tuple[str, ...]]:
    """Every label and sentence of a language with its variants."""
    pairs = [line.split(" = ", 1) for line in _sections(language)["words"]]
    return {key: tuple(variant.strip() for variant in text.split(" / ")) for key, text in pairs}


@cache
def goods(language: str, speciality: str) -> tuple[Good, ...]:
    """What vendors of a speciality sell."""
    found = []
    for line in _sections(language)[speciality]:
        description, low, high = line.split(" | ")
        found.append(
            Good(
                description=description.removesuffix(" *"),
                low=Decimal(low),
                high=Decimal(high),
                is_reduced=description.endswith(" *"),
            )
        )
    return tuple(found)


@cache
def vendors() -> tuple[Vendor, ...]:
    """All vendors, in file order."""
    names = ("language", "country", "currency", "name", "street", "town", "speciality", "number_pattern")
    return tuple(Vendor(**dict(zip(names, row, strict=True))) for row in _rows("vendors"))


@cache
def buyer_lines(country: str) -> tuple[str, ...]:
    """Name and address of the branch that vendors of a country bill."""
    return next(row[1:] for row in _rows("buyers") if row[0] == country)


def described(good: Good, rng: Random) -> str:
    """The description with its slots filled."""
    text = good.description
    # One by one, because a slot can occur twice with two values.
    while "{mm}" in text:
        text = text.replace("{mm}", str(rng.choice((16, 20, 25, 32, 40, 60, 80, 120, 240, 300))), 1)
    return text.format(
        w=rng.choice((12, 18, 24, 36, 48, 60, 100)),
        k=f"{rng.choice('CDEHKMNRTVX')}{rng.randrange(20, 99)}",
        m=rng.choice((2, 3, 4, 6, 8)),
        n=rng.choice((2, 4, 5, 6)),
    )


# --- private ----------------------------------------------------------------------------------------------------


def _rows(name: str) -> list[tuple[str, ...]]:
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(cell.strip() for cell in line.split(" | ")) for line in lines if line and not line.startswith("#")]


@cache
def _sections(language: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for line in (FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def _plain(text: str) -> str:
    """Without diacritics."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ł", "l").replace("Ł", "L").replace("ß", "ss"))
    return "".join(c for c in decomposed if not unicodedata.combining(c))
