"""The explorer: runs a program of simulated threads under chosen schedules.

It knows nothing of page tables; it and the programs it runs share only :mod:`pagewatch.steps`.
"""
