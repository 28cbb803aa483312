"""A hook of mkdocs: what docstrings mark as a name of Python is shown as that name.

Sphinx would make ``:class:`~pagewatch.vocab.regions.Regions``` a link; Markdown shows the markup.
"""

import re
from typing import Any

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """The page with every role as its name; of a name with a path, the last part."""
    return _ROLE.sub(lambda match: f"<code>{match[1].rsplit('.', 1)[-1]}</code>", html)
