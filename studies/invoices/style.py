"""How a vendor writes numbers, money, dates and labels: chosen once per vendor, as real vendors do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random

from studies.invoices.material import Vendor, words

# Decimal mark and thousands separators in use, by country; the first is the most frequent.
_NUMBERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "GB": (".", (",", ",", "")), "IE": (".", (",",)), "US": (".", (",", ",", "")), "CA": (".", (",",)), "JP": (".", (",",)),
    "DE": (",", (".", ".", "")), "AT": (",", (".",)), "CH": (".", ("'", "'", "’")), "FR": (",", (" ", " ", "")),
    "BE": (",", (".", " ")), "ES": (",", (".", ".", "")), "IT": (",", (".", "")), "NL": (",", (".",)),
    "PL": (",", (" ", " ", "")), "PT": (",", (".", " ")), "SE": (",", (" ", "")),
}  # fmt: skip

# {d} {dd} {m} {mm} {yy} {yyyy} {month} {mon}
_DATES: Mapping[str, tuple[str, ...]] = {
    "GB": ("{dd}/{mm}/{yyyy}", "{d} {month} {yyyy}", "{dd}-{mon}-{yyyy}", "{d}/{m}/{yy}"),
    "IE": ("{dd}/{mm}/{yyyy}", "{d} {month} {yyyy}"),
    "US": ("{mm}/{dd}/{yyyy}", "{m}/{d}/{yy}", "{month} {d}, {yyyy}", "{mon} {d}, {yyyy}"),
    "CA": ("{yyyy}-{mm}-{dd}", "{month} {d}, {yyyy}"),
    "JP": ("{yyyy}/{mm}/{dd}", "{yyyy}-{mm}-{dd}"),
    "DE": ("{dd}.{mm}.{yyyy}", "{d}. {month} {yyyy}", "{dd}.{mm}.{yy}", "{yyyy}-{mm}-{dd}"),
    "AT": ("{dd}.{mm}.{yyyy}", "{d}. {month} {yyyy}"),
    "CH": ("{dd}.{mm}.{yyyy}", "{d}.{m}.{yy}", "{d}. {month} {yyyy}"),
    "FR": ("{dd}/{mm}/{yyyy}", "{d} {month} {yyyy}", "{dd}/{mm}/{yy}"),
    "BE": ("{dd}/{mm}/{yyyy}", "{dd}-{mm}-{yyyy}"),
    "ES": ("{dd}/{mm}/{yyyy}", "{d} de {month} de {yyyy}", "{dd}-{mm}-{yy}"),
    "IT": ("{dd}/{mm}/{yyyy}", "{d} {month} {yyyy}", "{dd}.{mm}.{yyyy}"),
    "NL": ("{dd}-{mm}-{yyyy}", "{d} {month} {yyyy}"),
    "PL": ("{dd}.{mm}.{yyyy}", "{yyyy}-{mm}-{dd}", "{d} {month} {yyyy} r."),
    "PT": ("{dd}/{mm}/{yyyy}", "{d} de {month} de {yyyy}", "{yyyy}-{mm}-{dd}"),
    "SE": ("{yyyy}-{mm}-{dd}", "{d} {month} {yyyy}"),
}

# Labels that do not hold wherever their language is spoken.
_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "US": {
        "tax": "Sales tax", "included": "includes sales tax", "vat_id": "EIN", "register": "State file no.",
        "invoice": "Invoice",
        "exempt": "No sales tax: customer's resale certificate on file.", "proforma_note": "We ship when payment is in.",
        "net": "Subtotal",
    },
    "CA": {"tax": "HST", "included": "includes HST", "vat_id": "HST no.", "proforma_note": "We ship when payment is in."},
    "CH-de": {"register": "Firmennummer"},
    "CH-fr": {"register": "N° de registre"},
    "AT-de": {"register": "Firmenbuch FN"},
    "BE-fr": {"register": "N° d'entreprise"},
    "BE-nl": {"register": "Ondernemingsnr."},
    "JP": {"tax": "Consumption tax", "included": "of which consumption tax", "vat_id": "Registration no."},
}  # fmt: skip

_SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥", "PLN": "zł", "SEK": "kr"}
_SYMBOL_FIRST = ("GB", "IE", "US", "JP", "NL")


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """The habits of one vendor."""

    words: Mapping[str, str]
    decimal_mark: str
    thousands: str
    date_pattern: str
    money_pattern: str
    """With `{n}` for the number."""
    places: int
    """Digits after the decimal mark."""
    minus: str
    """How a credit note shows its amounts: `before`, `after`, `brackets`, or `none`."""

    def number(self, value: Decimal, places: int | None = None) -> str:
        """An amount without currency; negative ones with a minus in front."""
        return grouped(value, self.places if places is None else places, self.decimal_mark, self.thousands)

    def credited(self, value: Decimal) -> str:
        """An amount of a credit note, in the vendor's way of showing that it is negative."""
        digits = self.number(abs(value))
        return {"before": f"-{digits}", "after": f"{digits}-", "brackets": f"({digits})", "none": digits}[self.minus]

    def quantity(self, value: Decimal) -> str:
        """Without needless zeros."""
        return format(value.normalize(), "f").replace(".", self.decimal_mark)

    def date(self, day: date) -> str:
        """A date as this vendor writes it."""
        month = self.words["months"].split()[day.month - 1]
        return self.date_pattern.format(
            d=day.day, dd=f"{day.day:02}", m=day.month, mm=f"{day.month:02}", yyyy=day.year, yy=f"{day.year % 100:02}",
            month=month, mon=month[:3],
        )  # fmt: skip


def style_of(vendor: Vendor, rng: Random) -> Style:
    """Draw the habits of a vendor."""
    mark, separators = _NUMBERS[vendor.country]
    return Style(
        words={key: rng.choice(variants) for key, variants in words(vendor.language).items()}
        | dict(_ELSEWHERE.get(vendor.country) or _ELSEWHERE.get(f"{vendor.country}-{vendor.language}", {})),
        decimal_mark=mark,
        thousands=rng.choice(separators),
        date_pattern=rng.choice(_DATES[vendor.country]),
        money_pattern=_money_pattern(vendor, rng),
        places=0 if vendor.currency == "JPY" else 2,
        minus=rng.choice(("before", "before", "after", "brackets", "none")),
    )


def grouped(value: Decimal, places: int, mark: str, separator: str) -> str:
    """A number with its thousands set apart."""
    whole, _, rest = f"{value:,.{places}f}".partition(".")
    return whole.replace(",", separator) + (mark + rest if rest else "")


def _money_pattern(vendor: Vendor, rng: Random) -> str:
    code, symbol = vendor.currency, _SYMBOLS.get(vendor.currency)
    if symbol is None or rng.random() < 0.4:
        return f"{code} {{n}}" if rng.random() < 0.5 else f"{{n}} {code}"
    if vendor.country in _SYMBOL_FIRST:
        return f"{symbol} {{n}}" if vendor.country == "NL" else f"{symbol}{{n}}"
    return f"{{n}} {symbol}"
