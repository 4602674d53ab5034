"""One file a resource; each has a tuple `ROUTES` that `server.app` joins."""
