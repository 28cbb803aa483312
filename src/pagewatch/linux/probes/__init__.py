"""Feature probes: each shows an effect, on scratch memory of this process or on a child of its own.

None goes by the kernel's version or by what a call returns, and none leaves anything behind.
"""
