"""``python -m pagewatch``: the command, where its script is not on PATH."""

from pagewatch.cli.main import main

main()
