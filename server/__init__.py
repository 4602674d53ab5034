"""The HTTP doors of the store: the only part that knows HTTP, and it knows no git."""
