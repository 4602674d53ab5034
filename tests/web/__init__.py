"""The pages, with a real browser and without one, against a server that really listens."""
