"""The colour scale of heatmaps: the same in every renderer and every report, so that reports compare.

Density is the share of a cell's pages that was written per collect. It spans orders of magnitude, so the
scale is logarithmic, from 0.1 % (and anything below) to all.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_DENSITY = 0.001
"""What the lowest level shows, together with anything below it."""

TICKS = (0.001, 0.01, 0.1, 1.0)
"""Densities worth naming in a legend."""

DARK = ("#1b1033", "#431a64", "#7a1f6c", "#b3305d", "#e0503b", "#f98e2b", "#fcd34d", "#fefce0")
"""Stops for a dark background: violet through red to white heat."""

LIGHT = ("#e6e1f5", "#c3b3e8", "#a778d8", "#a33cb4", "#b01a7c", "#a3123f", "#6e0d22", "#2b0610")
"""Stops for a light background: lavender through crimson to near black."""


def levels(density: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Density as a place on the scale: 0 to 1, NaN where nothing was written."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place: npt.NDArray[np.float64] = 1 - np.log10(density) / np.log10(LEAST_DENSITY)
    return np.where(density > 0, np.clip(place, 0, 1), np.nan)


def colours(stops: Sequence[str], n_colours: int) -> list[str]:
    """``n_colours`` equidistant colours along the stops, as ``#rrggbb``."""
    channels = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], np.float64)
    at = np.linspace(0, len(stops) - 1, n_colours)
    mixed = [np.interp(at, np.arange(len(stops)), channel) for channel in channels.T]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.rint(np.stack(mixed, axis=1)).astype(int).tolist()]
