"""Pages for people: the store in a browser, drawn by the server, useful without any script."""
