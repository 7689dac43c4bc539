"""
The terminal face: the ``offload`` command.

It is light, since children of the demo's workers pass through here: the command line, and of it
only the command that is wanted, is imported when ``main`` runs.
"""

import sys
from importlib import import_module


def main() -> None:
    """Run the command that the program's arguments name, and end with its exit code."""
    sys.exit(import_module("offload.cli.shell").run(sys.argv[1:]))
