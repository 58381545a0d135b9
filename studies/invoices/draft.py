"""From a vendor and a moment to an invoice on paper: what kind, in which layout, with which complications."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import NamedTuple

from studies.invoices import lists, mails, tables
from studies.invoices.invoice import (
    TERMS,
    Conflict,
    Earlier,
    Invoice,
    Kind,
    TaxNote,
    credited,
    document_number,
    draw_items,
    summed,
)
from studies.invoices.material import Vendor, goods, vendors
from studies.invoices.page import Layout, Page
from studies.invoices.style import Style, style_of

LAYOUTS: tuple[Layout, ...] = (*mails.LAYOUTS, *tables.LAYOUTS, *lists.LAYOUTS)

_LONG = "pdf-pages"
_KINDS: dict[Kind, int] = {"invoice": 80, "credit_note": 9, "reminder": 6, "proforma": 5}
_EU = ("IE", "DE", "AT", "FR", "BE", "ES", "IT", "NL", "PL", "PT", "SE")
_SWITCH = date(2026, 1, 1)
"""From then on some vendors send from another program."""


class Draft(NamedTuple):
    """An invoice, its layout and its text."""

    invoice: Invoice
    layout: Layout
    text: str


@dataclass(kw_only=True)
class Drafter:
    """Writes the invoices of all vendors; keeps each vendor's habits and the count of its invoices."""

    rng: Random
    styles: dict[str, Style] = field(default_factory=dict)
    layouts: dict[str, tuple[Layout, Layout]] = field(default_factory=dict)
    """Before and after the turn of the year; the same for most."""
    exempt: set[str] = field(default_factory=set)
    serials: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used: Counter[str] = Counter()
        for vendor in self.rng.sample(vendors(), len(vendors())):
            self.styles[vendor.name] = style_of(vendor, self.rng)
            self.serials[vendor.name] = self.rng.randrange(20, 900) * self.rng.choice((1, 1, 7, 31))
            first = self._usual_layout(vendor, used)
            second = self._usual_layout(vendor, used) if self.rng.random() < 0.15 else first
            self.layouts[vendor.name] = (first, second)
            if vendor.trade == "services" and self.rng.random() < 0.2:
                self.exempt.add(vendor.name)

    def draft(self, vendor: Vendor, when: datetime) -> Draft:
        """Write a document that arrives at a moment."""
        kind, layout = self._kind_and_layout(vendor, when.date())
        invoice = self._invoice(vendor, kind, layout, when.date())
        return Draft(invoice, layout, layout.render(Page(invoice=invoice, rng=self.rng)).rstrip())

    # --- what kind, in which form -------------------------------------------------------------------------------

    def _usual_layout(self, vendor: Vendor, used: Counter[str]) -> Layout:
        """The least used of the layouts that fit, so that every layout has vendors of its own."""
        kind: Kind = "receipt" if vendor.trade == "food" else "invoice"
        able = [layout for layout in _fitting(vendor, kind) if layout.name != _LONG]
        own = [layout for layout in able if len(layout.trades) == 1]
        if own and self.rng.random() < 0.45:
            able = own
        layout = min(able, key=lambda layout: (used[layout.name], self.rng.random()))
        used[layout.name] += 1
        return layout

    def _kind_and_layout(self, vendor: Vendor, day: date) -> tuple[Kind, Layout]:
        if vendor.trade == "food":
            return "receipt", self.layouts[vendor.name][day >= _SWITCH]
        if vendor.trade == "office" and self.rng.random() < 0.12:
            return "receipt", self.rng.choice(_fitting(vendor, "receipt"))
        kind = self.rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
        usual = self.layouts[vendor.name][day >= _SWITCH]
        if kind == "invoice" and vendor.trade in ("parts", "office") and self.rng.random() < 0.18:
            return kind, next(layout for layout in LAYOUTS if layout.name == _LONG)
        if kind in usual.kinds and not (kind == "credit_note" and self.rng.random() < 0.25):
            return kind, usual
        return kind, self.rng.choice(_fitting(vendor, kind))

    # --- the facts ----------------------------------------------------------------------------------------------

    def _invoice(self, vendor: Vendor, kind: Kind, layout: Layout, arrived: date) -> Invoice:
        rng, style = self.rng, self.styles[vendor.name]
        serial = self.serials[vendor.name] = self.serials[vendor.name] + rng.randrange(1, 14)
        term = rng.choice(TERMS)
        reminded = arrived - timedelta(days=rng.randrange(1, 4))
        if kind == "reminder":
            due = reminded - timedelta(days=rng.randrange(9, 40))
            day = due - timedelta(days=term)
        else:
            day = arrived - timedelta(days=rng.choice((0, 0, 1, 1, 2, 3, 5, 8)))
            due = day + timedelta(days=term)
        items = draw_items(
            vendor, style, _n_items(vendor, layout, rng), day, rng,
            flat=layout.is_flat, discounts=layout.shows_row_discounts,
        )  # fmt: skip
        is_plain = (
            len({item.rate for item in items}) == 1 and not layout.includes_tax and kind in ("invoice", "proforma")
        )
        trades_goods = vendor.trade in ("parts", "office") and layout.name != _LONG
        note = self._tax_note(vendor, kind)
        conflict = self._conflict(is_plain=is_plain and not note and kind == "invoice" and layout.name != _LONG)
        items_sum = sum((item.amount for item in items), Decimal(0))
        discount, shipping = Decimal(0), Decimal(0)
        if is_plain and not layout.shows_row_discounts and rng.random() < 0.13:
            discount = -_money(items_sum * Decimal(rng.choice(("0.02", "0.03", "0.05", "0.1"))), style)
        if is_plain and trades_goods and rng.random() < 0.3:
            shipping = _money(Decimal(rng.choice(("4.9", "6.5", "9.95", "12", "18", "35"))) * vendor.price_level, style)
        # In North America prices on receipts are without tax.
        includes_tax = layout.includes_tax and vendor.country not in ("US", "CA")
        is_summed = bool(discount or shipping or conflict or layout.shows_tax_table)
        knows_number = kind not in ("invoice", "receipt") or rng.random() > (0.1 if kind == "receipt" else 0.03)
        # A mail's own date would pass for the invoice's.
        knows_day = kind != "invoice" or layout.name in ("mail-headed", _LONG) or rng.random() > 0.035
        payment = rng.random() if kind in ("invoice", "proforma") else 1.0
        shows_due = kind == "reminder" or payment < 0.5
        before = day - timedelta(days=rng.randrange(20, 70))
        mentions_earlier = kind == "credit_note" or (kind == "invoice" and rng.random() < 0.05)
        invoice = Invoice(
            vendor=vendor,
            style=style,
            kind=kind,
            number=document_number(vendor.number_pattern, serial, day) if knows_number else None,
            day=day if knows_day else None,
            due=due if shows_due else None,
            terms=term if 0.4 < payment < 0.75 else None,
            items=items,
            items_sum=items_sum,
            discount=discount,
            shipping=shipping,
            subtotal=items_sum,
            taxes=(),
            tax=Decimal(0),
            rounding=Decimal(0),
            total=items_sum,
            deposit=Decimal(0),
            fee=_money(Decimal(rng.choice((5, 10, 12))) * vendor.price_level, style)
            if kind == "reminder"
            else Decimal(0),
            tax_note=note,
            includes_tax=includes_tax,
            prints_subtotal=is_summed or rng.random() < (0.35 if kind == "receipt" else 0.93),
            prints_tax=is_summed or not includes_tax or rng.random() < 0.85,
            conflict=conflict,
            earlier=Earlier(
                number=document_number(vendor.number_pattern, max(1, serial - rng.randrange(2, 12)), before),
                day=before,
                total=_money(items_sum * Decimal(rng.randrange(70, 190)) / 100, style),
            )
            if mentions_earlier or layout.name == "statement"
            else None,
            order_number=f"{rng.choice(('PO', 'B', 'MB-'))}{rng.randrange(10_000, 99_999)}",
            customer_number=str(rng.randrange(1_000, 99_999)),
            delivered=day - timedelta(days=rng.randrange(1, 6)),
            reminded=reminded,
            reminder_number=str(rng.randrange(100, 9_999)),
            serial=serial,
        )
        invoice = summed(invoice, rng, has_deposit=is_plain and not conflict and rng.random() < 0.08)
        return credited(invoice) if kind == "credit_note" else invoice

    def _tax_note(self, vendor: Vendor, kind: Kind) -> TaxNote:
        if kind == "receipt":
            return ""
        if vendor.name in self.exempt:
            return "exempt"
        return "reverse" if vendor.country in _EU and self.rng.random() < 0.1 else ""

    def _conflict(self, *, is_plain: bool) -> Conflict:
        drawn = self.rng.random()
        return "" if not is_plain or drawn > 0.09 else "rows" if drawn < 0.03 else "total"


# --- private ----------------------------------------------------------------------------------------------------


def _fitting(vendor: Vendor, kind: Kind) -> list[Layout]:
    return [
        layout
        for layout in LAYOUTS
        if kind in layout.kinds
        and vendor.trade in layout.trades
        and (not layout.countries or vendor.country in layout.countries)
    ]


def _n_items(vendor: Vendor, layout: Layout, rng: Random) -> int:
    """How many rows: only who sells things of many sizes has more rows than things."""
    fewest, most = layout.items
    offered = len(goods(vendor.language, vendor.speciality))
    return rng.randint(fewest, most if vendor.trade in ("parts", "office") else min(most, offered))


def _money(value: Decimal, style: Style) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-style.places), ROUND_HALF_UP)
