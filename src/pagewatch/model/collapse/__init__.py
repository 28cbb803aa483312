"""Collapse: putting small pages together to a huge one (mm/khugepaged.c).

``anon`` copies the pages of anonymous memory; ``file`` replaces the page cache's; ``retract`` takes the
emptied tables from every mapping of the file; ``ptemapped`` maps a huge page of the cache by one entry
where a table still stands. ``call`` is MADV_COLLAPSE and ``daemon`` what khugepaged does on its own.
``result`` are the ways it can end.
"""
