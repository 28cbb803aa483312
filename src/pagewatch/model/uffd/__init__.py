"""userfaultfd (mm/userfaultfd.c): one module per group of its operations.

``context`` is what a descriptor knows and the messages it gives out; ``register`` attaches it to areas,
``writeprotect`` changes protection, ``fill`` puts pages in place; ``fd`` is what user code holds.
"""
