"""The engine: schedules cases, makes and journals every model call, keeps the budget."""
