"""Invoices as a PDF reader gives them back: columns made of spaces, rules made of dashes."""

from __future__ import annotations

from collections.abc import Sequence

from studies.invoices.invoice import Kind, percent
from studies.invoices.page import Layout, Page, at_right, beside, grid, wrapped


def _head(page: Page, *keys: str) -> list[str]:
    return [page.word(key) for key in keys]


def _beside_facts(page: Page, width: int) -> list[str]:
    facts = grid([[f"{fact.label}:", fact.text] for fact in page.facts()], "<<")
    return beside(page.buyer_lines, facts, width)


def _bank(page: Page) -> str:
    return "  ".join(f"{fact.label}: {fact.text}" for fact in page.footer())


def _joined(*blocks: Sequence[str] | str) -> str:
    """Blocks with an empty line between them; empty blocks leave none."""
    texts = [block if isinstance(block, str) else "\n".join(block) for block in blocks]
    return "\n\n".join(text for text in texts if text.strip())


def _plain_table(page: Page) -> list[str]:
    rows = [
        [item.description, page.quantity(item), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    return grid([_head(page, "description", "quantity", "unit_price", "amount"), *rows], "<>>>")


def classic(page: Page) -> str:
    """Letterhead, address beside the facts, table, sums on the right."""
    table = _plain_table(page)
    width = max(map(len, table))
    return _joined(
        page.vendor_lines,
        _beside_facts(page, 32),
        [page.invoice.title, *page.opening()],
        [table[0], "-" * width, *table[1:], "-" * width, *at_right(page.sums(), width)],
        page.closing(),
        _bank(page),
    )


def rows_first(page: Page) -> str:
    """The reader took the table before the letterhead."""
    table = _plain_table(page)
    return _joined(
        table,
        at_right(page.sums(), max(map(len, table))),
        [page.invoice.title, *[f"{fact.label} {fact.text}" for fact in page.facts()]],
        page.vendor_lines,
        [f"{page.word('to')}:", *page.buyer_lines],
        [*page.opening(), *page.closing()],
    )


def numbered(page: Page) -> str:
    """With position and article code before the description."""
    rows = [
        [str(k), item.code, item.description, page.quantity(item), page.price(item), page.number(item.amount)]
        for k, item in enumerate(page.invoice.items, start=1)
    ]
    table = grid([["#", *_head(page, "code", "description", "quantity", "unit_price", "amount")], *rows], "<<<>>>")
    return _joined(
        f"{page.invoice.title.upper():>50}",
        beside(page.vendor_lines, page.buyer_lines, 36),
        grid([[fact.label, fact.text] for fact in page.facts()], "<<", "   "),
        page.opening(),
        table,
        at_right(page.sums(), max(map(len, table))),
        [*page.closing(), _bank(page)],
    )


def wrapped_rows(page: Page) -> str:
    """A narrow description column: long descriptions go on in the next line."""
    rows: list[list[str]] = []
    for item in page.invoice.items:
        first, *more = wrapped(item.description, 16)
        rows.append([first, page.quantity(item), page.price(item), page.number(item.amount)])
        rows += [[part, "", "", ""] for part in more]
    table = grid([_head(page, "description", "quantity", "unit_price", "amount"), *rows], "<>>>", "    ")
    return _joined(
        [*page.vendor_lines, _bank(page)],
        _beside_facts(page, 30),
        page.opening(),
        table,
        at_right(page.sums(), max(map(len, table))),
        page.closing(),
    )


def pipes(page: Page) -> str:
    """Cells between pipes."""
    rows = [
        [item.description, page.quantity(item, unit=True), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    cells = grid([_head(page, "description", "quantity", "unit_price", "amount"), *rows], "<>>>", " | ")
    return _joined(
        [page.invoice.vendor.name, f"{page.invoice.vendor.street}, {page.invoice.vendor.town}"],
        [f"{page.invoice.title} | " + " | ".join(f"{fact.label}: {fact.text}" for fact in page.facts())],
        [f"{page.word('to')}: {', '.join(page.buyer_lines)}", *page.opening()],
        [f"| {row} |" for row in cells],
        [f"| {fact.label} | {fact.text} |" for fact in page.sums()],
        page.closing(),
    )


def boxed(page: Page) -> str:
    """A box of plus and minus signs."""
    rows = [
        [item.description, page.quantity(item), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    cells = grid([_head(page, "description", "quantity", "unit_price", "amount"), *rows], "<>>>", " | ")
    width = max(map(len, cells))
    rule = f"+{'-' * (width + 2)}+"
    body = [f"| {cell:<{width}} |" for cell in cells]
    return _joined(
        f"*** {page.invoice.title} ***",
        beside([*page.vendor_lines, page.vat_id()], [f"{f.label}: {f.text}" for f in page.facts()], 34),
        page.opening(),
        [rule, body[0], rule, *body[1:], rule],
        at_right(page.sums(), width + 4),
        page.closing(),
    )


def total_on_top(page: Page) -> str:
    """The total stands in the heading and again below."""
    table = _plain_table(page)
    centre = max(48, *map(len, table))
    return _joined(
        [line.center(centre).rstrip() for line in page.vendor_lines],
        [f"{page.word('total')}: {page.money(page.invoice.total)}", *[f"{f.label}: {f.text}" for f in page.facts()]],
        [f"{page.word('to')} {page.buyer_lines[0]}, {page.buyer_lines[-1]}", *page.opening()],
        table,
        at_right(page.sums(), centre),
        page.closing(),
        _bank(page),
    )


def heavy_footer(page: Page) -> str:
    """Three columns of small print at the end, the way letter paper has them."""
    vendor = page.invoice.vendor
    table = _plain_table(page)
    footer = page.footer()
    columns = beside(
        [vendor.name, vendor.street, vendor.town],
        [f"{page.word('holder')} {vendor.name}", *[f"{fact.label} {fact.text}" for fact in footer]],
        30,
    )
    return _joined(
        [f"{vendor.name} - {vendor.street} - {vendor.town}", "", *_beside_facts(page, 30)],
        [page.invoice.title, *page.opening()],
        table,
        at_right(page.sums(), max(map(len, table))),
        page.closing(),
        ["_" * 60, *columns, f"billing@{vendor.domain}   www.{vendor.domain}"],
    )


def tax_by_row(page: Page) -> str:
    """Each row with its tax rate, and a summary by rate."""
    style = page.invoice.style
    is_taxed = not page.invoice.tax_note
    rows = [
        [item.description, page.quantity(item), page.price(item), percent(item.rate, style) if is_taxed else "-",
         page.number(item.amount)]
        for item in page.invoice.items
    ]  # fmt: skip
    head = _head(page, "description", "quantity", "unit_price", "tax", "amount")
    table = grid([head, *rows], "<>>>>")
    summary = [
        f"{percent(line.rate, style)}: {page.number(line.base)} -> {page.number(line.amount)}"
        for line in page.invoice.taxes
    ]
    return _joined(
        beside(page.vendor_lines, [page.invoice.title, *[f"{f.label} {f.text}" for f in page.facts()]], 36),
        page.buyer_lines,
        page.opening(),
        table,
        [f"{page.word('tax')}  {'   '.join(summary)}"] if summary else [],
        at_right(page.sums(), max(map(len, table))),
        [*page.closing(), _bank(page)],
    )


def row_discounts(page: Page) -> str:
    """A column with the percentage taken off the row."""
    rows = [
        [item.description, page.quantity(item), page.price(item), f"{item.discount}%" if item.discount else "",
         page.number(item.amount)]
        for item in page.invoice.items
    ]  # fmt: skip
    table = grid([_head(page, "description", "quantity", "unit_price", "discount", "amount"), *rows], "<>>>>")
    return _joined(
        [page.invoice.title, *page.vendor_lines],
        _beside_facts(page, 32),
        page.opening(),
        table,
        at_right(page.sums(), max(map(len, table))),
        page.closing(),
        _bank(page),
    )


def bilingual(page: Page) -> str:
    """Labels in the vendor's language and English."""
    english = ("Description", "Qty", "Unit price", "Amount")
    keys = ("description", "quantity", "unit_price", "amount")
    head = [f"{page.word(key)}/{other}" for key, other in zip(keys, english, strict=True)]
    rows = [
        [item.description, page.quantity(item), page.price(item), page.number(item.amount)]
        for item in page.invoice.items
    ]
    table = grid([head, *rows], "<>>>")
    return _joined(
        f"{page.invoice.title} / Invoice",
        [*page.vendor_lines, f"{page.word('vat_id')} / VAT ID {page.vat_id()}"],
        _beside_facts(page, 30),
        page.opening(),
        table,
        at_right(page.sums(), max(map(len, table))),
        page.closing(),
    )


def pages(page: Page) -> str:
    """Many rows over several pages, each with its sum carried forward."""
    items = page.invoice.items
    per_page = 7 + page.invoice.serial % 3
    n_pages = -(-len(items) // per_page)
    rows = [[item.description, page.quantity(item), page.price(item), page.number(item.amount)] for item in items]
    table = grid([_head(page, "description", "quantity", "unit_price", "amount"), *rows], "<>>>")
    width = max(map(len, table))
    number = page.invoice.number or ""
    blocks: list[list[str]] = []
    for k in range(n_pages):
        start, end = k * per_page, min((k + 1) * per_page, len(items))
        place = page.word("page").format(a=k + 1, b=n_pages)
        head = f"{page.invoice.vendor.name}   {page.invoice.title} {number}   {place}"
        block = [*page.vendor_lines, "", *_beside_facts(page, 32), "", place, ""] if k == 0 else [head, ""]
        block.append(table[0])
        if k:
            before = sum((item.amount for item in items[:start]), start=page.invoice.shipping * 0)
            block.append(f"{page.word('brought'):<20}{page.number(before):>{width - 20}}")
        block += table[1 + start : 1 + end]
        if k < n_pages - 1:
            so_far = sum((item.amount for item in items[:end]), start=page.invoice.shipping * 0)
            block.append(f"{page.word('carried'):<20}{page.number(so_far):>{width - 20}}")
        else:
            block += ["", *at_right(page.sums(), width), "", *page.closing()]
        blocks.append([*block, "", _bank(page)])
    return "\n\n\f\n".join("\n".join(block) for block in blocks).replace("\f", "- - -")


def credit_letter(page: Page) -> str:
    """A credit note that names the invoice it corrects first."""
    table = _plain_table(page)
    return _joined(
        page.vendor_lines,
        page.buyer_lines,
        [page.invoice.title, *page.opening(), *[f"{fact.label} {fact.text}" for fact in page.facts(extra=False)]],
        table,
        at_right(page.sums(), max(map(len, table))),
        [page.word("bye"), _bank(page)],
    )


_ALL: tuple[Kind, ...] = ("invoice", "credit_note", "reminder", "proforma")

LAYOUTS = (
    Layout(name="pdf-classic", form="pdf", render=classic, kinds=_ALL),
    Layout(name="pdf-rows-first", form="pdf", render=rows_first),
    Layout(name="pdf-numbered", form="pdf", render=numbered, kinds=("invoice", "proforma"), items=(2, 7)),
    Layout(name="pdf-wrapped", form="pdf", render=wrapped_rows, items=(2, 5)),
    Layout(name="pdf-pipes", form="pdf", render=pipes, kinds=("invoice", "proforma", "credit_note")),
    Layout(name="pdf-boxed", form="pdf", render=boxed),
    Layout(name="pdf-total-on-top", form="pdf", render=total_on_top, kinds=("invoice", "proforma"), items=(1, 5)),
    Layout(name="pdf-heavy-footer", form="pdf", render=heavy_footer, kinds=("invoice", "reminder"), items=(1, 4)),
    Layout(
        name="pdf-tax-by-row", form="pdf", render=tax_by_row, trades=("office",), shows_tax_table=True, items=(2, 6)
    ),
    Layout(name="pdf-row-discounts", form="pdf", render=row_discounts, shows_row_discounts=True, items=(2, 6)),
    Layout(
        name="pdf-bilingual", form="pdf", render=bilingual, items=(1, 4),
        countries=("DE", "AT", "CH", "FR", "BE", "ES", "IT", "NL", "PL", "PT", "SE"),
    ),
    Layout(name="pdf-pages", form="pdf", render=pages, trades=("parts", "office"), items=(11, 25)),
    Layout(name="pdf-credit-letter", form="pdf", render=credit_letter, kinds=("credit_note",), items=(1, 3)),
)  # fmt: skip
