"""What the HTTP interface promises, held against a server that really listens."""
