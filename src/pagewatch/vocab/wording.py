"""Numbers, and text that someone else chose, as a reader wants them: the same in every output."""

from collections.abc import Sequence
from datetime import UTC, datetime

_ELLIPSIS = "…"


def printable(text: str) -> str:
    """``text`` with everything escaped that could move a cursor, turn the reading order or fail to encode."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(n_bytes: float) -> str:
    """Such as ``1.5 MiB``: three digits at least, four at most."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1023.5:
            return f"{_three_digits(n_bytes)} {unit}"
    return f"{_three_digits(n_bytes / 1024)} TiB"


def count(number: float) -> str:
    """Such as ``9,876`` or ``12.3 M``."""
    if abs(number) < 100_000:
        return f"{number:,.0f}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.5:
            return f"{_three_digits(number)} {unit}"
    return f"{_three_digits(number / 1000)} T"


def plural(number: int, noun: str, nouns: str = "") -> str:
    """Such as ``1 page`` or ``1,234 pages``.

    :param nouns: the plural where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def duration(n_ns: float) -> str:
    """Such as ``12.3 s`` or ``1 h 02 min``."""
    seconds = n_ns / 1e9
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1000)} ms"
    if seconds < 99.95:
        return f"{_three_digits(seconds)} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 100 else f"{hours:,} h"


def moment(unix_s: float) -> str:
    """A date and time of day, such as ``2026-01-31 17:05 UTC``."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def percent(share: float) -> str:
    """Such as ``12 %``, ``0.3 %`` or ``<0.1 %``; never 100 % or 0 % unless it is all or nothing."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if share < 0.0995:
        return f"{share * 100:.1f} %" if share else "0 %"
    return f"{min(round(share * 100), 99) if share < 1 else 100} %"


def factor(number: float) -> str:
    """Such as ``×1.8``."""
    return f"×{_three_digits(number)}" if number else "–"


def shorten(text: str, width: int) -> str:
    """Printable ``text`` in at most ``width`` letters; of a path the end is what matters."""
    text = printable(text)
    if len(text) <= width:
        return text
    if text.startswith("/"):
        text = text.rsplit("/", 1)[1] or text
        if len(text) <= width:
            return text
    head = (width - 1) * 2 // 3
    return text[:head] + _ELLIPSIS + text[len(text) - (width - 1 - head) :]


def flow(items: Sequence[str], separator: str, width: int) -> list[str]:
    """The items side by side, in lines of at most ``width`` letters that break between items only.

    An item that is longer than that has a line of its own.
    """
    lines: list[str] = []
    for item in items:
        longer = f"{lines[-1]}{separator}{item}" if lines else item
        if lines and len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(item)
    return lines


def addresses(start: int, end: int) -> str:
    """A half-open range of addresses in hexadecimal."""
    return f"{start:x}-{end:x}"


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
