"""Scenarios: small stories on the modelled kernel, written down as files and replayed step by step.

``session`` runs one statement after the other, by hand or from a file; ``script`` reads a file; ``play``
runs its threads under the schedule it gives, or under every schedule there is. The files that come with
the package show a defect and the kernel's way side by side.
"""
