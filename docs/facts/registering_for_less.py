"""UFFDIO_REGISTER for less than a range is watched for changes nothing; for something else it replaces."""

from common import ASYNC, MISSING, SIGBUS, WP, Watch, categories, mapped


def after(*modes: int) -> str:
    """What a page is called that was registered with each mode in turn."""
    page = mapped(1)
    watch = Watch(ASYNC | SIGBUS)
    for mode in modes:
        watch.register(page, 1, mode)
    return "watched for writes" if "WPALLOWED" in categories(page)[0] else "not watched for writes"


print("WP:                      ", after(WP))
print("MISSING|WP, then MISSING:", after(MISSING | WP, MISSING))
print("WP, then MISSING:        ", after(WP, MISSING))
