from io import StringIO
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.style import Style

from pagewatch.report import scale, textmap
from pagewatch.report.figures import compute
from support import recordings
from support.recordings import SECOND_NS, PlainRecording


def staircase(n_steps: int = 8) -> PlainRecording:
    """Epoch i writes 100 pages, the i-th hundred."""
    return PlainRecording(
        header=recordings.header(),
        processes=[recordings.process()],
        mappings=[recordings.mapping(0x1000, 0x1000 + 100 * n_steps, "/stairs")],
        all_epochs=[recordings.epoch(i, 0x1000 + 100 * i + np.arange(100)) for i in range(n_steps)],
        ended_ns=n_steps * SECOND_NS // 10,
    )


render = Style.render


def rendered_afresh(style: Style, *arguments: object, **named: object) -> str:
    """A style keeps the codes of the first terminal that it was drawn on; another test has had its own."""
    style._ansi = None
    return render(style, *arguments, **named)


def drawn(*, in_colour: bool, rows: int, columns: int, width: int) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=in_colour, color_system="truecolor" if in_colour else None)
    with patch.object(Style, "render", rendered_afresh):
        console.print(textmap.heatmap(compute(staircase(), rows=rows, columns=columns), width, in_colour=in_colour))
    return out.getvalue()


def test_shades_stand_where_and_when_pages_were_written() -> None:
    lines = drawn(in_colour=False, rows=8, columns=8, width=36).splitlines()
    cells = [line.split("┤" if "┤" in line else "│", 1)[1] for line in lines[:8]]
    assert cells == [("  " * row + "██").ljust(16) for row in range(8)]
    assert lines[0].split()[0] == "/stairs"
    assert lines[1].split()[0] == "3.12"


def test_few_columns_are_stretched_to_the_width() -> None:
    lines = drawn(in_colour=False, rows=8, columns=8, width=60).splitlines()
    assert lines[0].endswith("┤" + "█████".ljust(40))


def test_columns_fill_the_width_to_the_last_letter() -> None:
    for n_columns, width in ((3, 10), (28, 54), (7, 7), (1, 40)):
        letters = textmap._letters(n_columns, width)
        assert len(letters) == n_columns
        assert letters.sum() == width
        assert letters.max() - letters.min() <= 1
    assert textmap._letters(5, 3).tolist() == [1] * 5


def test_the_legend_breaks_between_its_keys_only() -> None:
    lines = drawn(in_colour=False, rows=8, columns=8, width=60).splitlines()
    assert lines[-2:] == ["  pages written per collect:  · <0.1 %  ░ ≥0.1 %  ▒ ≥1 %", "  ▓ ≥10 %  █ ≥50 %"]


def test_half_blocks_show_two_rows_a_line() -> None:
    out = drawn(in_colour=True, rows=8, columns=8, width=36)
    red, green, blue = (int(scale.DARK[-1][i : i + 2], 16) for i in (1, 3, 5))
    code = f"\x1b[38;2;{red};{green};{blue}m"
    lines = out.splitlines()[:4]
    for number, line in enumerate(lines):
        assert f"{code}▀▀\x1b[0m" in line
        assert f"{code}▄▄\x1b[0m" in line
        assert line.index("▀") < line.index("▄")
        assert line.split("┤" if "┤" in line else "│")[1].split("▀")[0].count(" ") == 4 * number


def test_the_axis_names_times_and_the_peak_rate() -> None:
    out = drawn(in_colour=False, rows=8, columns=8, width=60)
    assert "800 ms" in out
    assert "≤ 3.91 MiB/s" in out  # 100 pages of 4 KiB in 0.1 s


def test_the_grid_fits_the_width() -> None:
    for width in (40, 80, 200):
        rows, columns = textmap.grid_size(width, in_colour=True)
        assert columns <= max(width - 19, 16)
        assert rows == 2 * textmap.grid_size(width, in_colour=False)[0]
