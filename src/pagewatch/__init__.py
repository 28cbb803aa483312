"""pagewatch: which pages of memory were written, exactly and cheaply, on Linux."""

from pagewatch._version import __version__ as __version__
