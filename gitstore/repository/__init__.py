"""A workspace's git repository: objects, trees, refs, work tree, and the journal that makes a change durable."""
