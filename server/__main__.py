"""`python -m server`: the same as the command `gitstore`."""

from server.cli import main

main(prog_name="gitstore")
