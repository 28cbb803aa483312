"""``python -m pagewatch``: the command, where its script is not on PATH."""

from pagewatch.cli.entry import main

main()
