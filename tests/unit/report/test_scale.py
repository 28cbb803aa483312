import numpy as np

from pagewatch.report import scale


def test_levels_are_logarithmic_and_nothing_has_none() -> None:
    levels = scale.levels(np.array([0.0, 1e-9, 0.001, 0.01, 0.1, 1.0]))
    assert np.isnan(levels[0])
    assert np.allclose(levels[1:], [0, 0, 1 / 3, 2 / 3, 1])


def test_colours_run_from_the_first_stop_to_the_last() -> None:
    assert scale.colours(("#000000", "#ff8000"), 3) == ["#000000", "#804000", "#ff8000"]
    for stops in (scale.DARK, scale.LIGHT):
        assert (scale.colours(stops, 255)[0], scale.colours(stops, 255)[-1]) == (stops[0], stops[-1])


def test_brightness_follows_the_level_in_both_themes() -> None:
    def brightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    rising = [brightness(colour) for colour in scale.colours(scale.DARK, 64)]
    falling = [brightness(colour) for colour in scale.colours(scale.LIGHT, 64)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
