"""Conformance suites: what every tracker on every world must do.

Plain classes with test methods; a test module subclasses them and gives a ``world`` fixture. They import neither
world, need nothing but the standard library, and their oracle is the list of stores that they made themselves.
"""
