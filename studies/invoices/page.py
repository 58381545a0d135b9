"""What every layout needs: the invoice's facts as text in its vendor's language and habits, and columns of text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random
from typing import NamedTuple

from studies.invoices.invoice import Invoice, Item, Kind, percent
from studies.invoices.material import buyer_lines

_IBAN_COUNTRIES = ("DE", "AT", "CH", "FR", "BE", "ES", "IT", "NL", "PL", "PT", "SE", "GB", "IE")


class Fact(NamedTuple):
    """A label and what stands beside it."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """An invoice about to be laid out."""

    invoice: Invoice
    rng: Random

    def word(self, key: str) -> str:
        """A label or sentence in the vendor's words."""
        return self.invoice.style.words[key]

    # --- values as text ---------------------------------------------------------------------------------------

    def number(self, value: Decimal) -> str:
        """An amount without currency."""
        if self.invoice.kind == "credit_note":
            return self.invoice.style.credited(value) if value else self.invoice.style.number(value)
        return self.invoice.style.number(value)

    def money(self, value: Decimal) -> str:
        """An amount with currency."""
        return self.invoice.style.money_pattern.format(n=self.number(value))

    def date(self, day: date) -> str:
        """A date."""
        return self.invoice.style.date(day)

    def quantity(self, item: Item, *, unit: bool = False) -> str:
        """How much of a row, with its unit if asked for."""
        if item.quantity is None:
            return ""
        text = self.invoice.style.quantity(item.quantity)
        return f"{text} {self.word('h' if self.invoice.vendor.trade == 'services' else 'pcs')}" if unit else text

    def price(self, item: Item) -> str:
        """The unit price of a row."""
        return "" if item.unit_price is None else self.invoice.style.number(item.unit_price)

    # --- blocks -----------------------------------------------------------------------------------------------

    @property
    def vendor_lines(self) -> list[str]:
        """Name and address of the vendor."""
        vendor = self.invoice.vendor
        return [vendor.name, vendor.street, vendor.town]

    @property
    def buyer_lines(self) -> list[str]:
        """Name and address of the branch that is billed; a foreign one where the customer owes the tax."""
        country = self.invoice.vendor.country
        if self.invoice.tax_note == "reverse":
            country = "NL" if country in ("DE", "AT") else "DE"
        return list(buyer_lines(country))

    def facts(self, *, extra: bool = True) -> list[Fact]:
        """Number and dates, and, where wanted, numbers and dates of other things among them."""
        invoice = self.invoice
        found = []
        if invoice.number is not None:
            found.append(Fact(self.word(invoice.label), invoice.number))
        if invoice.day is not None:
            # On a credit note "invoice date" would be that of the invoice it corrects.
            label = "date" if invoice.kind in ("invoice", "reminder") else "day"
            found.append(Fact(self.word(label), self.date(invoice.day)))
        others = [
            Fact(self.word("customer_no"), invoice.customer_number),
            Fact(self.word("order_no"), invoice.order_number),
            Fact(self.word("delivery_date"), self.date(invoice.delivered)),
        ]
        if extra:
            at = invoice.serial % 3
            found[at:at] = [fact for k, fact in enumerate(others) if (invoice.serial >> k) % 2]
        if invoice.due is not None:
            found.append(Fact(self.word("due"), self.date(invoice.due)))
        return found

    def sums(self) -> list[Fact]:
        """Everything below the rows, in order, with amounts as money."""
        invoice, word = self.invoice, self.word
        rows: list[tuple[str, Decimal]] = []
        if invoice.discount or invoice.shipping:
            rows.append((word("items_sum"), invoice.items_sum))
        if invoice.discount:
            rows.append((word("discount"), invoice.discount))
        if invoice.shipping:
            rows.append((word("shipping"), invoice.shipping))
        if invoice.prints_subtotal:
            rows.append((word("net"), invoice.subtotal))
        if invoice.prints_tax and not invoice.includes_tax:
            rows += [(f"{word('tax')} {percent(line.rate, invoice.style)}", line.amount) for line in invoice.taxes]
        if invoice.tax_note == "reverse" and invoice.serial % 2:
            rows.append((f"{word('tax')} 0%", Decimal(0)))
        if invoice.rounding:
            rows.append((word("rounding"), invoice.rounding))
        rows.append((word("total"), invoice.total))
        if invoice.prints_tax and invoice.includes_tax:
            rows += [(f"{word('included')} {percent(line.rate, invoice.style)}", line.amount) for line in invoice.taxes]
        if invoice.deposit:
            rows += [(word("deposit"), invoice.deposit), (word("balance"), invoice.total + invoice.deposit)]
        if invoice.kind == "reminder":
            rows += [(word("fee"), invoice.fee), (word("now_due"), invoice.total + invoice.fee)]
        return [Fact(label, self.money(value)) for label, value in rows]

    def opening(self) -> list[str]:
        """What a credit note, a reminder or an earlier invoice makes the vendor say above the rows."""
        invoice, lines = self.invoice, []
        if invoice.kind == "reminder":
            lines += [
                self.word("reminder").upper(),
                f"{self.word('reminder_number')} {invoice.reminder_number}",
                f"{self.word('reminder_date')} {self.date(invoice.reminded)}",
                self.word("reminder_intro"),
            ]
        earlier = invoice.earlier
        if earlier is not None:
            sentence = self.word("corrects" if invoice.kind == "credit_note" else "previous")
            total = invoice.style.money_pattern.format(n=invoice.style.number(earlier.total))
            lines.append(sentence.format(n=earlier.number, d=self.date(earlier.day), m=total))
        return lines

    def closing(self) -> list[str]:
        """Notes on tax and terms below the sums."""
        invoice, lines = self.invoice, []
        if invoice.tax_note:
            lines.append(self.word(invoice.tax_note))
        if invoice.kind == "proforma":
            lines.append(self.word("proforma_note"))
        if invoice.terms is not None:
            lines.append(self.word("terms").format(k=invoice.terms))
        if invoice.serial % 4 == 1 and invoice.kind in ("invoice", "proforma"):
            lines.append(self.word("thanks"))
        return lines

    def vat_id(self) -> str:
        """A tax number in the country's form that no authority gives out: all begin with zeros."""
        country, digits = self.invoice.vendor.country, f"000{self._fixed(10**6):06}"
        if country in ("US", "CA", "JP"):
            return f"00-{digits[2:]}"
        if country == "CH":
            return f"CHE-{digits[:3]}.{digits[3:6]}.{digits[6:]}"
        return f"{country}{'B' if country == 'NL' else ''}{digits}{'99' if country in ('FR', 'PL', 'SE', 'IT') else ''}"

    def account(self) -> str:
        """A bank account; check digits 00 never occur in a real IBAN."""
        country = self.invoice.vendor.country
        if country not in _IBAN_COUNTRIES:
            return f"000{self._fixed(10**7):07}"
        return f"{country}00 {self._fixed(10**4, 1):04} {self._fixed(10**4, 2):04} {self._fixed(10**4, 3):04} {self._fixed(100, 4):02}"

    def footer(self) -> list[Fact]:
        """Bank and registers: numbers that look like the invoice's and are not."""
        facts = [
            Fact(self.word("bank"), self.account()),
            Fact(self.word("vat_id"), self.vat_id()),
            Fact(self.word("register"), str(10_000 + self._fixed(80_000, 5))),
        ]
        if self.invoice.serial % 3 == 0 and self.invoice.number is not None:
            facts.insert(1, Fact(self.word("reference"), self.invoice.number))
        return facts[: 2 + self.invoice.serial % 3]

    def _fixed(self, below: int, salt: int = 0) -> int:
        """A number that belongs to the vendor, the same on all its documents."""
        return Random(f"{self.invoice.vendor.name}/{salt}").randrange(below)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to put an invoice on paper."""

    name: str
    form: str
    """`mail`, `pdf` or `receipt`."""
    render: Callable[[Page], str]
    kinds: tuple[Kind, ...] = ("invoice",)
    trades: Collection[str] = ("parts", "services", "office", "utility")
    items: tuple[int, int] = (1, 6)
    """Fewest and most rows."""
    hidden: Collection[str] = ()
    """Parts of a row it does not print."""
    is_flat: bool = False
    """Rows have neither quantity nor unit price."""
    includes_tax: bool = False
    shows_row_discounts: bool = False
    shows_tax_table: bool = False
    """Prints net amounts and tax in a summary of their own."""
    countries: Collection[str] = ()
    """Only vendors of these; empty for all."""


# --- columns of text --------------------------------------------------------------------------------------------


def grid(rows: Sequence[Sequence[str]], align: str, gap: str = "  ") -> list[str]:
    """Rows as columns of even width.

    Args:
        rows: Cells of text, as many in each as `align` has letters.
        align: `<` or `>` for each column.
        gap: Between columns.
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(align))]
    return [
        gap.join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]


def at_right(facts: Sequence[Fact], width: int) -> list[str]:
    """Labels and amounts as a block that ends at a column."""
    amounts = max(len(fact.text) for fact in facts)
    labels = max(len(fact.label) for fact in facts)
    return [f"{f'{fact.label:<{labels}}  {fact.text:>{amounts}}':>{width}}" for fact in facts]


def beside(left: Sequence[str], right: Sequence[str], width: int) -> list[str]:
    """Two blocks next to each other; `width` is that of the left one."""
    n = max(len(left), len(right))
    pairs = zip([*left, *[""] * (n - len(left))], [*right, *[""] * (n - len(right))], strict=True)
    return [f"{a:<{width}}  {b}".rstrip() for a, b in pairs]


def dotted(label: str, text: str, width: int) -> str:
    """`Label ........ text`."""
    return f"{label} {'.' * max(3, width - len(label) - len(text) - 2)} {text}"


def wrapped(text: str, width: int) -> list[str]:
    """A text broken between words."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
