"""Plugins of this suite; helpers are in ``support``."""

pytest_plugins = ["support.needs"]
