"""One invoice as a set of facts, before anybody lays it out, and what is expected of a reader of it.

The rules a reader goes by stand in `schema.json` and in the README of the study; `expected` is those rules in code.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import Any, Literal

from studies.invoices.material import TAX_RATES, Good, Vendor, described, goods
from studies.invoices.style import Style

Kind = Literal["invoice", "credit_note", "reminder", "proforma", "receipt"]
TaxNote = Literal["", "reverse", "exempt"]
Conflict = Literal["", "rows", "total"]

TERMS = (7, 10, 14, 14, 21, 30, 30, 45)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One row of what was sold."""

    description: str
    quantity: Decimal | None
    unit_price: Decimal | None
    discount: int
    """Percent off this row, already in `amount`."""
    rate: Decimal
    """Tax rate in percent."""
    amount: Decimal
    code: str
    day: date
    """Day the work was done or the thing was had; few layouts print it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaxLine:
    """Tax at one rate."""

    rate: Decimal
    base: Decimal
    amount: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Another invoice of the same vendor that this document mentions."""

    number: str
    day: date
    total: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Invoice:
    """Everything a document states; amounts of a credit note are negative."""

    vendor: Vendor
    style: Style
    kind: Kind
    number: str | None
    day: date | None
    due: date | None
    terms: int | None
    """Days to pay, where the document gives days in place of a date."""
    items: tuple[Item, ...]
    items_sum: Decimal
    discount: Decimal
    """Zero or negative."""
    shipping: Decimal
    subtotal: Decimal
    taxes: tuple[TaxLine, ...]
    tax: Decimal
    rounding: Decimal
    total: Decimal
    deposit: Decimal
    """Paid before; not part of `total`."""
    fee: Decimal
    """Of a reminder; not part of `total`."""
    tax_note: TaxNote
    includes_tax: bool
    """Whether row amounts hold the tax, as on a receipt."""
    prints_subtotal: bool
    prints_tax: bool
    conflict: Conflict
    """`rows`: they do not add up to the subtotal; `total`: it is not subtotal and tax."""
    earlier: Earlier | None
    order_number: str
    customer_number: str
    delivered: date
    reminded: date
    reminder_number: str
    serial: int
    """Any number: picks the details nobody is asked about."""

    @property
    def label(self) -> str:
        """Key of the word for the document's number."""
        return {"credit_note": "credit_number", "proforma": "proforma_number", "receipt": "receipt_number"}.get(
            self.kind, "number"
        )

    @property
    def title(self) -> str:
        """The document's name as its vendor writes it."""
        return self.style.words["invoice" if self.kind == "reminder" else self.kind]


def expected(invoice: Invoice, hidden: Collection[str]) -> dict[str, Any]:
    """What a careful reader takes from the document.

    Args:
        invoice: The facts.
        hidden: Parts of a row that the layout does not print: `quantity`, `unit_price`.
    """
    return {
        "vendor": invoice.vendor.name,
        "invoice_number": invoice.number,
        "invoice_date": invoice.day.isoformat() if invoice.day else None,
        "due_date": invoice.due.isoformat() if invoice.due else None,
        "currency": invoice.vendor.currency,
        "subtotal": _json(invoice.subtotal) if invoice.prints_subtotal else None,
        "tax": _json(invoice.tax) if invoice.prints_tax else None,
        "total": _json(invoice.total),
        "line_items": [
            {
                "description": item.description,
                "quantity": None if "quantity" in hidden else _json(item.quantity),
                "unit_price": None if "unit_price" in hidden else _json(item.unit_price),
                "amount": _json(item.amount),
            }
            for item in invoice.items
        ],
    }


def draw_items(
    vendor: Vendor, style: Style, n: int, day: date, rng: Random, *, flat: bool, discounts: bool
) -> tuple[Item, ...]:
    """Draw the rows of a document; `flat` ones have neither quantity nor unit price."""
    offered = goods(vendor.language, vendor.speciality)
    standard, reduced = (Decimal(rate) for rate in TAX_RATES[vendor.country])
    rows: list[Item] = []
    seen: set[str] = set()
    while len(rows) < n:
        good = rng.choice(offered)
        description = sold = described(good, rng)
        if description in seen and (len(seen) >= len(offered) or rng.random() < 0.9):
            if n <= len(offered):
                continue
            # A long list sells the same thing again, told apart by where it went.
            description = f"{description} ({rng.choice('ABCDEFGH')}{rng.randrange(1, 60)})"
        if description in seen:
            continue
        seen.add(description)
        price = _price(vendor, good, sold, style)
        quantity = _quantity(vendor, price / vendor.price_level, rng)
        off = rng.choice((5, 10, 15, 20)) if discounts and rng.random() < 0.4 else 0
        amount = _cents(quantity * price * (100 - off) / 100, style)
        rows.append(
            Item(
                description=description,
                quantity=None if flat else quantity,
                unit_price=None if flat else price,
                discount=off,
                rate=reduced if good.is_reduced else standard,
                amount=price if flat else amount,
                code=f"{rng.choice('ABDEGHKMPRT')}{rng.choice('AEKNTX')}-{rng.randrange(1000, 9999)}",
                day=day - timedelta(days=2 * (n - len(rows)) + rng.randrange(2)),
            )
        )
    return tuple(rows)


def summed(invoice: Invoice, rng: Random, *, has_deposit: bool) -> Invoice:
    """The invoice with everything below its rows worked out, from rows, discount, shipping and notes."""
    style = invoice.style
    items_sum = sum((item.amount for item in invoice.items), Decimal(0))
    if invoice.conflict == "rows":
        items_sum += _cents(items_sum * Decimal(rng.choice(("-0.09", "0.04", "0.1", "0.18"))), style)
    net = items_sum + invoice.discount + invoice.shipping
    rates = sorted({item.rate for item in invoice.items}, reverse=True)
    taxes: list[TaxLine] = []
    for rate in rates:
        base = net if len(rates) == 1 else sum((i.amount for i in invoice.items if i.rate == rate), Decimal(0))
        if invoice.tax_note:
            break
        share = rate / (100 + rate) if invoice.includes_tax else rate / 100
        amount = _cents(base * share, style)
        taxes.append(TaxLine(rate=rate, base=base - amount if invoice.includes_tax else base, amount=amount))
    tax = sum((line.amount for line in taxes), Decimal(0))
    subtotal = net - tax if invoice.includes_tax else net
    total = subtotal + tax
    rounding = _rounding(total, invoice)
    total += rounding
    if invoice.conflict == "total":
        total += _slip(total, style, rng)
    deposit = -_cents(total * Decimal(rng.choice(("0.2", "0.3", "0.5"))), style) if has_deposit else Decimal(0)
    return replace(
        invoice, items_sum=items_sum, subtotal=subtotal, taxes=tuple(taxes), tax=tax, rounding=rounding, total=total,
        deposit=deposit,
    )  # fmt: skip


def credited(invoice: Invoice) -> Invoice:
    """The same as a credit note: every amount negative, quantities and unit prices as they are."""
    return replace(
        invoice,
        items=tuple(replace(item, amount=-item.amount) for item in invoice.items),
        items_sum=-invoice.items_sum,
        subtotal=-invoice.subtotal,
        taxes=tuple(replace(line, base=-line.base, amount=-line.amount) for line in invoice.taxes),
        tax=-invoice.tax,
        rounding=-invoice.rounding,
        total=-invoice.total,
    )


def document_number(pattern: str, serial: int, day: date) -> str:
    """A vendor's number for its document with this serial."""
    padded = {f"n{width}": f"{serial % 10**width:0{width}}" for width in range(3, 9)}
    return pattern.format(yyyy=day.year, yy=f"{day.year % 100:02}", mm=f"{day.month:02}", **padded)


def percent(rate: Decimal, style: Style) -> str:
    """`19%`, `5,5%`."""
    return f"{style.quantity(rate)}%"


# --- private ----------------------------------------------------------------------------------------------------


def _price(vendor: Vendor, good: Good, sold: str, style: Style) -> Decimal:
    """What a vendor asks for a thing: the same on each of its documents."""
    rng = Random(f"{vendor.name}/{sold}")
    price = Decimal(str(rng.uniform(float(good.low), float(good.high)))) * vendor.price_level
    steps = ("0.10", "0.50") if vendor.trade == "food" else ("0.01", "0.05", "0.10", "0.50", "1")
    step = Decimal(1) if style.places == 0 else Decimal(rng.choice(steps))
    if price < 3 and style.places and vendor.trade != "food":
        step = Decimal("0.01")
    return max(step, (price / step).to_integral_value() * step).quantize(Decimal(1).scaleb(-style.places))


def _quantity(vendor: Vendor, price: Decimal, rng: Random) -> Decimal:
    if vendor.trade == "services":
        return Decimal(rng.choice(("1", "1.5", "2", "2.5", "3", "4", "5.5", "6", "8", "12", "0.75")))
    if vendor.trade in ("food", "utility"):
        return Decimal(rng.choice((1, 1, 1, 2, 2, 3, 4)))
    if price < 3:
        return Decimal(rng.choice((50, 100, 120, 200, 250, 400, 500, 1000)))
    return Decimal(rng.choice((1, 2, 3, 4, 5, 6, 8, 10, 12, 20) if price < 60 else (1, 1, 2, 2, 3, 4)))


def _rounding(total: Decimal, invoice: Invoice) -> Decimal:
    """To five centimes in Switzerland, to the krona in Sweden."""
    step = {"CHF": Decimal("0.05"), "SEK": Decimal(1)}.get(invoice.vendor.currency)
    if step is None or invoice.serial % 5 == 0:
        return Decimal("0.00")
    return (total / step).quantize(Decimal(1), ROUND_HALF_UP) * step - total


def _slip(total: Decimal, style: Style, rng: Random) -> Decimal:
    """What a printed total is off by: a few cents, a round sum, or two digits that changed places."""
    kind = rng.random()
    if kind < 0.3 and style.places:
        return Decimal(rng.choice(("0.01", "-0.01", "0.10", "-0.02")))
    if kind < 0.6:
        return Decimal(rng.choice((10, -10, 5, 20)))
    digits = list(str(int(total)))
    at = next((k for k in range(len(digits) - 1, 0, -1) if digits[k] != digits[k - 1] != "0"), None)
    if at is None or len(digits) < 3:
        return Decimal(9)
    digits[at], digits[at - 1] = digits[at - 1], digits[at]
    return Decimal("".join(digits)) - int(total)


def _cents(value: Decimal, style: Style) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-style.places), ROUND_HALF_UP)


def _json(value: Decimal | None) -> int | float | None:
    if value is None:
        return None
    return int(value) if value == int(value) else float(value)


def total_quantity(items: Sequence[Item]) -> int:
    """How many pieces, for receipts that print it."""
    return int(sum((item.quantity or 0 for item in items), Decimal(0)))
