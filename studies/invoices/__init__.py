"""The `invoices` study: invoices of invented vendors to one fictional company, put together by a seeded generator."""
