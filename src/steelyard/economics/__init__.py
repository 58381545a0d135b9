"""Economics: the ledger of one successful task, break-even volumes, and what the ranking hinges on."""
