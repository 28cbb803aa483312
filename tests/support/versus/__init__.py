"""The kernel of this machine versus the model: the same steps, the same outcomes.

A step is a tuple ``(name, who, argument...)`` of plain values: process ``who`` does something to its arena, a
few pages at a fixed address. ``driver`` carries steps out in real processes, ``modelled`` in the model; both
say what came of each in the same words, :mod:`support.versus.outcomes`. ``scripts`` runs a list of steps on both
sides and compares; ``histories`` is the Hypothesis machine that thinks lists up.
"""
