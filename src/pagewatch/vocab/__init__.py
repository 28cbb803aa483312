"""The words every room shares: addresses, categories, queries, regions, mappings, errors.

Plain values over numpy; nothing here knows an operating system, so recordings and reports can be
read anywhere.
"""
