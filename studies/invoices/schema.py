"""The JSON Schema that ships with the study: shape of an output, and the rule for each field in its description."""

from __future__ import annotations

from typing import Any

# Lengths are bounded because an endpoint that enforces the schema then cuts short a weak model that cannot stop.
_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Invoice",
    "description": "What an invoice, credit note, receipt or pro-forma says; null for what the document does not state.",
    "type": "object",
    "properties": {
        "vendor": {
            "type": "string",
            "minLength": 1,
            "maxLength": 80,
            "description": "Name of the company that issued the document.",
        },
        "invoice_number": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": 40,
            "description": "Number of this document; in a reminder, of the invoice it reminds of.",
        },
        "invoice_date": {
            "type": ["string", "null"],
            "pattern": _DAY,
            "description": "Date of issue as YYYY-MM-DD; not of delivery, order, mail or reminder.",
        },
        "due_date": {
            "type": ["string", "null"],
            "pattern": _DAY,
            "description": "Due date as YYYY-MM-DD where a date is printed; null for 'within 14 days'.",
        },
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 code."},
        "subtotal": {
            "type": ["number", "null"],
            "description": "Printed net sum after discount and shipping, before tax.",
        },
        "tax": {
            "type": ["number", "null"],
            "description": "Tax in all, several rates added up; 0 where the document says that none is charged.",
        },
        "total": {
            "type": "number",
            "description": "Printed grand total with tax, before payments on account and fees of a reminder; "
            "negative for a credit note.",
        },
        "line_items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "description": {"type": "string", "minLength": 1, "maxLength": 120},
                    "quantity": {"type": ["number", "null"]},
                    "unit_price": {"type": ["number", "null"]},
                    "amount": {"type": "number", "description": "As printed; negative in a credit note."},
                },
                "required": ["description", "quantity", "unit_price", "amount"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 40,
            "description": "Rows of goods and services, without code and unit; not discount, shipping or deposit.",
        },
    },
    "required": [
        "vendor",
        "invoice_number",
        "invoice_date",
        "due_date",
        "currency",
        "subtotal",
        "tax",
        "total",
        "line_items",
    ],
    "additionalProperties": False,
}
