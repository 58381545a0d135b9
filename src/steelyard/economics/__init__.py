"""Economics: the ledger of one successful task."""
