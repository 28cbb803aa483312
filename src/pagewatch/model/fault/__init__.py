"""Page faults (mm/memory.c): one module per way a fault is answered.

``handle`` takes the locks and chooses; ``anon`` and ``file`` map what is not there yet; ``wp`` answers
writes to read-only entries; ``swap`` everything that is neither empty nor present; ``notify`` tells a
userfaultfd. ``state`` is what they pass around.
"""
