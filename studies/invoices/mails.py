"""Invoices that come as the text of a mail."""

from __future__ import annotations

from datetime import timedelta

from studies.invoices.invoice import Item
from studies.invoices.page import Fact, Layout, Page, grid


def _sender(page: Page) -> str:
    return f"{page.invoice.vendor.name} <billing@{page.invoice.vendor.domain}>"


def _subject(page: Page) -> str:
    number = page.invoice.number
    title = page.word("reminder") if page.invoice.kind == "reminder" else page.invoice.title.capitalize()
    return f"{title} {number}" if number else title


def _row(page: Page, item: Item) -> str:
    """`2 x pump, 12.00 each: 24.00`."""
    return f"{page.quantity(item)} x {item.description}, {page.price(item)} {page.word('each')}: {page.number(item.amount)}"


def _lines(facts: list[Fact]) -> list[str]:
    return [f"{fact.label}: {fact.text}" for fact in facts]


def bullets(page: Page) -> str:
    """A short mail with a list."""
    sums = page.sums()
    return "\n".join(
        [
            page.word("hello"),
            "",
            page.word("intro"),
            *page.opening(),
            "",
            *_lines(page.facts()),
            "",
            *[f"- {_row(page, item)}" for item in page.invoice.items],
            "",
            *_lines(sums),
            "",
            *page.closing(),
            page.word("bye"),
            *page.vendor_lines,
        ]
    )


def headed(page: Page) -> str:
    """With the header lines of the mail program; the mail's date is not the invoice's."""
    day = page.invoice.reminded if page.invoice.kind == "reminder" else (page.invoice.day or page.invoice.delivered)
    return "\n".join(
        [
            f"{page.word('from')}: {_sender(page)}",
            f"{page.word('sent')}: {page.date(day + timedelta(days=page.invoice.serial % 3 + 1))}",
            f"{page.word('subject')}: {_subject(page)}",
            "",
            page.word("hello"),
            *page.opening(),
            "",
            *_lines(page.facts()),
            *[f"* {_row(page, item)}" for item in page.invoice.items],
            *[f"  {line}" for line in _lines(page.sums())],
            "",
            *page.closing(),
            *_lines(page.footer()[:2]),
        ]
    )


def forwarded(page: Page) -> str:
    """Forwarded by a colleague, every line quoted."""
    inner = bullets(page).splitlines()
    colleague = ("Ines", "Tomasz", "Ruth", "Yannick")[page.invoice.serial % 4]
    head = [
        f"{page.word('from')}: {colleague}, Mossbeck",
        f"{page.word('subject')}: FW: {_subject(page)}",
        "",
        f"{page.word('from')}: {_sender(page)}",
    ]
    return "\n".join([*head, *[f"> {line}".rstrip() for line in inner]])


def table_in_mail(page: Page) -> str:
    """A mail whose rows stand in columns."""
    rows = [
        [item.description, page.quantity(item, unit=True), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    facts = page.facts(extra=page.invoice.serial % 2 == 0)
    return "\n".join(
        [
            f"{page.word('subject')}: {_subject(page)}",
            page.word("hello"),
            page.word("intro"),
            *page.opening(),
            "",
            *grid(rows, "<>>>"),
            "",
            *grid([[fact.label, fact.text] for fact in page.sums()], "<>"),
            "",
            ", ".join(f"{fact.label} {fact.text}" for fact in facts),
            *page.closing(),
            "",
            f"{page.word('bye')}, {page.invoice.vendor.name}",
            f"{page.invoice.vendor.street}, {page.invoice.vendor.town}",
            *_lines(page.footer()),
        ]
    )


def signature_only(page: Page) -> str:
    """The vendor's name stands in the signature alone, the numbers in running lines."""
    return "\n".join(
        [
            page.word("hello"),
            *page.opening(),
            "",
            "; ".join(f"{fact.label} {fact.text}" for fact in page.facts()),
            "",
            *[
                f"{item.description} ({page.quantity(item, unit=True)} x {page.price(item)}) = {page.number(item.amount)}"
                for item in page.invoice.items
            ],
            " / ".join(f"{fact.label} {fact.text}" for fact in page.sums()),
            "",
            *page.closing(),
            page.word("bye"),
            "-- ",
            f"{page.invoice.vendor.name} | {page.invoice.vendor.street} | {page.invoice.vendor.town}",
            " | ".join(f"{fact.label} {fact.text}" for fact in page.footer()),
        ]
    )


def phone_note(page: Page) -> str:
    """Terse, from a small firm: one line a job."""
    sums = page.sums()
    return "\n".join(
        [
            page.invoice.vendor.name,
            f"{page.invoice.vendor.street}, {page.invoice.vendor.town}",
            f"{page.word('to')}: {page.buyer_lines[0]}",
            " - ".join(f"{fact.label} {fact.text}" for fact in page.facts(extra=False)),
            *page.opening(),
            *[
                f"{item.description}: {page.quantity(item, unit=True)} à {page.price(item)} = {page.number(item.amount)}"
                for item in page.invoice.items
            ],
            *[f"{fact.label} = {fact.text}" for fact in sums],
            *page.closing(),
        ]
    )


LAYOUTS = (
    Layout(
        name="mail-bullets", form="mail", render=bullets, kinds=("invoice", "credit_note", "proforma"), items=(1, 4)
    ),
    Layout(name="mail-headed", form="mail", render=headed, kinds=("invoice", "reminder"), items=(1, 4)),
    Layout(name="mail-forwarded", form="mail", render=forwarded, items=(1, 3)),
    Layout(
        name="mail-table", form="mail", render=table_in_mail, kinds=("invoice", "reminder", "proforma"), items=(2, 6)
    ),
    Layout(name="mail-signature", form="mail", render=signature_only, kinds=("invoice", "credit_note"), items=(1, 3)),
    Layout(name="mail-note", form="mail", render=phone_note, trades=("services",), items=(1, 3)),
)
