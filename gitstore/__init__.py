"""gitstore: workspaces as git repositories, changed through one durable write path."""
