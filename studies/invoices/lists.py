"""Invoices without a table: labels and values, leaders of dots, exports of programs, till rolls, folios."""

from __future__ import annotations

from decimal import Decimal

from studies.invoices.invoice import percent, total_quantity
from studies.invoices.page import Fact, Layout, Page, at_right, beside, dotted, grid

_TILL = 38
"""Characters on a till roll."""


def _lines(facts: list[Fact], between: str = ": ") -> list[str]:
    return [f"{fact.label}{between}{fact.text}" for fact in facts]


def key_values(page: Page) -> str:
    """Nothing but labels and values."""
    lines = [page.invoice.title, f"{page.word('from')}: {', '.join(page.vendor_lines)}"]
    lines += [f"{page.word('to')}: {', '.join(page.buyer_lines)}", *_lines(page.facts()), *page.opening(), ""]
    for item in page.invoice.items:
        lines += [
            f"{page.word('description')}: {item.description}",
            f"{page.word('quantity')}: {page.quantity(item)}",
            f"{page.word('unit_price')}: {page.price(item)}",
            f"{page.word('amount')}: {page.number(item.amount)}",
            "",
        ]
    return "\n".join([*lines, *_lines(page.sums()), *page.closing()])


def leaders(page: Page) -> str:
    """Dots from the description to the amount, quantity in a line of its own."""
    lines = [*page.vendor_lines, "", *_lines(page.facts(), " "), *page.opening(), ""]
    for k, item in enumerate(page.invoice.items, start=1):
        lines.append(dotted(f"{k}. {item.description}", page.number(item.amount), 62))
        lines.append(f"   {page.quantity(item, unit=True)} x {page.price(item)}")
    lines += ["", *[dotted(fact.label, fact.text, 62) for fact in page.sums()], ""]
    return "\n".join([*lines, *page.closing(), *_lines(page.footer())])


def tabs(page: Page) -> str:
    """Copied out of a spreadsheet."""
    rows = [
        [item.code, item.description, page.quantity(item), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    head = [page.word(key) for key in ("code", "description", "quantity", "unit_price", "amount")]
    lines = [page.invoice.vendor.name, "\t".join(page.vendor_lines[1:]), *["\t".join(fact) for fact in page.facts()]]
    lines += [*page.opening(), "", *["\t".join(row) for row in [head, *rows]], ""]
    return "\n".join([*lines, *["\t\t\t".join(fact) for fact in page.sums()], *page.closing()])


def semicolons(page: Page) -> str:
    """An export with semicolons."""
    rows = [
        ";".join([item.description, page.quantity(item), page.price(item), page.number(item.amount)])
        for item in page.invoice.items
    ]
    head = ";".join(page.word(key) for key in ("description", "quantity", "unit_price", "amount"))
    lines = [f"{page.invoice.title};{page.invoice.vendor.name};{page.invoice.vendor.town}"]
    lines += [*_lines(page.facts(), ";"), *page.opening(), head, *rows, *_lines(page.sums(), ";")]
    return "\n".join([*lines, *_lines(page.footer(), ";"), *page.closing()])


def segments(page: Page) -> str:
    """What a converter makes of an electronic invoice: one tag a line, labels only as codes."""
    invoice = page.invoice
    lines = ["DOC+INVOICE", f"SELLER+{invoice.vendor.name}+{invoice.vendor.town}", f"BUYER+{page.buyer_lines[0]}"]
    if invoice.number is not None:
        lines.append(f"DOCNO+{invoice.number}")
    if invoice.day is not None:
        lines.append(f"ISSUE-DATE+{page.date(invoice.day)}")
    lines += [f"ORDER-REF+{invoice.order_number}", f"DELIVERY-DATE+{page.date(invoice.delivered)}"]
    if invoice.due is not None:
        lines.append(f"DUE-DATE+{page.date(invoice.due)}")
    lines.append(f"CURRENCY+{invoice.vendor.currency}")
    for k, item in enumerate(invoice.items, start=1):
        lines.append(f"LINE+{k}+{item.description}+QTY {page.quantity(item)}+PRICE {page.price(item)}")
        lines.append(f"LINE-AMOUNT+{k}+{page.number(item.amount)}")
    lines += [f"SUM+{fact.label}+{fact.text}" for fact in page.sums()]
    return "\n".join([*lines, *[f"NOTE+{line}" for line in [*page.opening(), *page.closing()]], f"END+{len(lines)}"])


def column_dump(page: Page) -> str:
    """A PDF reader that goes down each column in turn."""
    items, word = page.invoice.items, page.word
    return "\n".join(
        [
            *page.vendor_lines,
            *[fact.label for fact in page.facts()],
            *[fact.text for fact in page.facts()],
            *page.opening(),
            word("description"),
            *[item.description for item in items],
            word("quantity"),
            *[page.quantity(item) for item in items],
            word("unit_price"),
            *[page.price(item) for item in items],
            word("amount"),
            *[page.number(item.amount) for item in items],
            *_lines(page.sums(), " "),
            *page.closing(),
        ]
    )


def timesheet(page: Page) -> str:
    """Work by day: the days are not the invoice's date."""
    rows = [
        [
            page.date(item.day),
            item.description,
            page.quantity(item, unit=True),
            page.price(item),
            page.number(item.amount),
        ]
        for item in page.invoice.items
    ]
    table = grid(rows, "<<>>>")
    return "\n".join(
        [
            *page.vendor_lines,
            "",
            *beside(page.buyer_lines, _lines(page.facts()), 30),
            "",
            *page.opening(),
            *table,
            *at_right(page.sums(), max(map(len, table))),
            "",
            *page.closing(),
            *_lines(page.footer()),
        ]
    )


def flat_charges(page: Page) -> str:
    """A supplier of lines and power: a period and charges, no quantities."""
    invoice = page.invoice
    period = f"{page.date(invoice.delivered.replace(day=1))} - {page.date(invoice.delivered)}"
    rows = [[item.description, page.number(item.amount)] for item in invoice.items]
    lines = [*page.vendor_lines, "", *_lines(page.facts()), f"{page.word('period')}: {period}"]
    lines += ["", *page.opening(), *grid(rows, "<>", "      "), ""]
    return "\n".join([*lines, *_lines(page.sums(), "  "), "", *page.closing(), *_lines(page.footer())])


def charges_in_words(page: Page) -> str:
    """The same as a letter, amounts with currency and the total repeated."""
    invoice = page.invoice
    lines = [invoice.vendor.name, ", ".join(page.vendor_lines[1:]), "", *page.buyer_lines, "", *page.opening()]
    lines += [f"{invoice.title}: {', '.join(f'{f.label} {f.text}' for f in page.facts())}", ""]
    lines += [f"+ {item.description} ({page.money(item.amount)})" for item in invoice.items]
    lines += ["", *_lines(page.sums()), "", *page.closing()]
    return "\n".join([*lines, f">> {page.word('total')}: {page.money(invoice.total)} <<"])


def till_roll(page: Page) -> str:
    """A shop's receipt: prices with tax, a clock, means of payment."""
    invoice, lines = page.invoice, [line.center(_TILL).rstrip() for line in page.vendor_lines]
    lines += [f"{page.word('vat_id')} {page.vat_id()}".center(_TILL).rstrip(), "-" * _TILL]
    lines += [f"{fact.label} {fact.text}" for fact in page.facts(extra=False)]
    lines += [f"{9 + invoice.serial % 11:02}:{invoice.serial % 60:02}  #{invoice.serial % 97:02}", "-" * _TILL]
    for item in invoice.items:
        lines.append(item.description)
        left = f"  {page.quantity(item)} x {page.price(item)}"
        lines.append(f"{left}{page.number(item.amount):>{_TILL - len(left)}}")
    lines.append("-" * _TILL)
    lines += [f"{fact.label}{fact.text:>{max(1, _TILL - len(fact.label))}}" for fact in page.sums()]
    if invoice.serial % 2 and invoice.vendor.currency != "JPY":
        given = (invoice.total // 10 + 1) * 10
        for key, value in (("cash", given), ("change", given - invoice.total)):
            lines.append(f"{page.word(key)}{page.number(value):>{_TILL - len(page.word(key))}}")
    else:
        lines.append(f"{page.word('card')} **** **** **** {1000 + invoice.serial * 7 % 9000}")
    return "\n".join(lines)


def table_bill(page: Page) -> str:
    """A restaurant's bill: no unit prices."""
    invoice = page.invoice
    names = ("Ada", "Luc", "Marta", "Jonas", "Eva")
    lines = [*page.vendor_lines, "", f"{page.word('table')} {invoice.serial % 23 + 1}"]
    lines += [f"{page.word('served')}: {names[invoice.serial % 5]}", *_lines(page.facts(extra=False), " "), ""]
    rows = [[page.quantity(item), item.description, page.number(item.amount)] for item in invoice.items]
    lines += [*grid(rows, "><>", "  "), "", *_lines(page.sums(), "  ")]
    return "\n".join([*lines, page.word("paid") if invoice.serial % 2 else page.word("thanks")])


def slip(page: Page) -> str:
    """As little as a receipt can say: goods and one sum."""
    invoice = page.invoice
    lines = [invoice.vendor.name, invoice.vendor.town, *_lines(page.facts(extra=False), " ")]
    lines += [dotted(item.description, page.number(item.amount), 34) for item in invoice.items]
    return "\n".join([*lines, *[dotted(fact.label, fact.text, 34) for fact in page.sums()]])


def coded_receipt(page: Page) -> str:
    """Tax codes behind the amounts and a key to them at the end."""
    invoice = page.invoice
    codes = {line.rate: "ABC"[k] for k, line in enumerate(invoice.taxes)}
    rows = [
        [
            item.description,
            page.quantity(item),
            page.price(item),
            f"{page.number(item.amount)} {codes.get(item.rate, '')}",
        ]
        for item in invoice.items
    ]
    key = [
        f"{codes[line.rate]} {percent(line.rate, invoice.style)}: {page.number(line.base)} + {page.number(line.amount)}"
        for line in invoice.taxes
    ]
    lines = [" ".join(page.vendor_lines), f"{invoice.title}", *_lines(page.facts(extra=False)), ""]
    lines += [*grid(rows, "<>>>"), f"({total_quantity(invoice.items)})", "", *_lines(page.sums())]
    return "\n".join([*lines, *key, page.word("paid")])


def statement(page: Page) -> str:
    """The account's history above the new invoice."""
    invoice = page.invoice
    zero = invoice.style.money_pattern.format(n=invoice.style.number(Decimal(0)))
    lines = [f"{invoice.vendor.name}, {invoice.vendor.street}, {invoice.vendor.town}"]
    lines += [f"{page.word('customer_no')} {invoice.customer_number} ({page.buyer_lines[0]})", "", *page.opening()]
    lines += [f"{page.word('balance')}: {zero}", "", invoice.title, *_lines(page.facts(extra=False)), ""]
    rows = [
        [item.description, f"{page.quantity(item)} x {page.price(item)}", page.number(item.amount)]
        for item in invoice.items
    ]
    lines += [*grid(rows, "<>>"), "", *_lines(page.sums()), "", *page.closing()]
    return "\n".join([*lines, *_lines(page.footer())])


_WORK = ("parts", "services", "office")

LAYOUTS = (
    Layout(name="key-value", form="pdf", render=key_values, kinds=("invoice", "credit_note"), items=(1, 4), trades=_WORK),
    Layout(name="leaders", form="pdf", render=leaders, trades=_WORK, kinds=("invoice", "proforma"), items=(1, 5)),
    Layout(name="tabs", form="mail", render=tabs, trades=("parts", "office"), items=(2, 7)),
    Layout(name="semicolons", form="mail", render=semicolons, trades=("parts", "office"), items=(2, 6)),
    Layout(name="segments", form="mail", render=segments, trades=("parts", "office"), items=(1, 5)),
    Layout(name="column-dump", form="pdf", render=column_dump, trades=_WORK, items=(2, 4)),
    Layout(name="timesheet", form="pdf", render=timesheet, trades=("services",), items=(2, 5)),
    Layout(name="flat-charges", form="pdf", render=flat_charges, trades=("utility",), is_flat=True, items=(2, 5)),
    Layout(name="charges-letter", form="mail", render=charges_in_words, trades=("utility",), is_flat=True, items=(2, 4)),
    Layout(name="statement", form="pdf", render=statement, trades=_WORK, items=(1, 4)),
    Layout(name="till-roll", form="receipt", render=till_roll, kinds=("receipt",), trades=("food",), includes_tax=True),
    Layout(
        name="table-bill", form="receipt", render=table_bill, kinds=("receipt",), trades=("food",), includes_tax=True,
        hidden=("unit_price",), items=(2, 6),
    ),
    Layout(
        name="slip", form="receipt", render=slip, kinds=("receipt",), trades=("food",), includes_tax=True, is_flat=True,
        items=(1, 3),
    ),
    Layout(
        name="coded-receipt", form="receipt", render=coded_receipt, kinds=("receipt",), trades=("food", "office"),
        includes_tax=True, shows_tax_table=True, items=(2, 6),
    ),
)  # fmt: skip
