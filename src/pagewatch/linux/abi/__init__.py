"""Structures and numbers of the kernel's interfaces, in the kernel's own spelling, and nothing else."""
