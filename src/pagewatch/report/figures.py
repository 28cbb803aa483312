"""Computing all numbers of a report, once, for every renderer."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pagewatch.report.blindness import by_reason
from pagewatch.report.counting import Count, Survey
from pagewatch.report.recording import Recording
from pagewatch.report.values import Figures, Heatmap, HotRange, MappingFigure, ProcessFigure, Totals
from pagewatch.vocab.errors import InvalidArgument

if TYPE_CHECKING:
    from pagewatch.trace.rows import ProcessRow

_N_HOTTEST = 20


def compute(recording: Recording, *, rows: int, columns: int, pid: int | None = None) -> Figures:
    """All figures of a recording.

    :param rows: of the heatmap, at most; ``columns``: of the heatmap and the timeline, at most.
    :param pid: report on this process only.
    :raises InvalidArgument: the recording has no such process or claims more than can be, or a size is below 1.
    :raises TraceError: the recording cannot be read.
    """
    if rows < 1 or columns < 1:
        raise InvalidArgument("a heatmap needs at least one row and one column")
    survey = Survey(recording, pid)
    if pid is not None and not survey.processes:
        known = ", ".join(str(row.pid) for row in recording.processes) or "none"
        raise InvalidArgument(f"the recording has no process {pid}; it has: {known}")
    count = Count(survey, rows=rows, columns=columns)
    order = _order(survey, count)
    names = {row.pid: row.name for row in survey.processes}
    blind_spots = survey.blindness.figures()
    return Figures(
        header=recording.header,
        complete=recording.complete,
        ended_reason=recording.ended_reason,
        notes=tuple(recording.notes),
        totals=_totals(survey, count),
        processes=_processes(survey, count),
        mappings=tuple(_mapping(index, survey, count, names) for index in order),
        hottest=_hottest(survey, count, order),
        rewrites=count.rewrites.distribution(),
        timeline=count.timeline(),
        heatmap=_heatmap(survey, count, order),
        blind_spots=blind_spots,
        blind_reasons=by_reason(blind_spots),
    )


def _order(survey: Survey, count: Count) -> list[int]:
    """Indices of the areas that are reported, hottest first; those that nobody could write are left out."""
    areas = survey.areas.areas
    worth_telling = [i for i, area in enumerate(areas) if len(area.writable) or count.page_writes[i]]
    return sorted(worth_telling, key=lambda i: (-count.page_writes[i], -areas[i].writable.pages, i))


def _totals(survey: Survey, count: Count) -> Totals:
    rounds = survey.round_pages
    return Totals(
        duration_ns=survey.duration_ns,
        epochs=len(survey.pids),
        rounds=len(rounds),
        page_writes=int(count.page_writes.sum()),
        unique_pages=survey.written.pages,
        assumed_page_writes=int(count.assumed.sum()),
        median_round_pages=float(np.median(rounds)) if len(rounds) else 0.0,
        peak_round_pages=int(rounds.max(initial=0)),
    )


def _processes(survey: Survey, count: Count) -> tuple[ProcessFigure, ...]:
    epochs = Counter(survey.pids)
    page_writes: Counter[int] = Counter()
    unique_pages: Counter[int] = Counter()
    for index, area in enumerate(survey.areas.areas):
        page_writes[area.pid] += int(count.page_writes[index])
        unique_pages[area.pid] += int(count.unique_pages[index])
    rows: dict[int, list[ProcessRow]] = {}
    for row in survey.processes:
        rows.setdefault(row.pid, []).append(row)
    return tuple(
        ProcessFigure(
            pid=pid,
            parent_pid=own[-1].parent_pid,
            name=own[-1].name,
            first_ns=own[0].first_ns,
            last_ns=own[-1].last_ns,
            exit_status=own[-1].exit_status,
            ended_reason=own[-1].ended_reason,
            epochs=epochs[pid],
            page_writes=page_writes[pid],
            unique_pages=unique_pages[pid],
        )
        for pid, own in rows.items()
    )


def _mapping(index: int, survey: Survey, count: Count, names: dict[int, str]) -> MappingFigure:
    area = survey.areas.areas[index]
    start, end, writable_pages = survey.areas.counted(index, survey.written)
    first_write_ns = int(count.first_write_ns[index])
    last_ns = survey.duration_ns if area.last_ns is None else area.last_ns
    return MappingFigure(
        pid=area.pid,
        process=names.get(area.pid, ""),
        label=area.label,
        start=start,
        end=end,
        writable_pages=writable_pages,
        unique_pages=int(count.unique_pages[index]),
        page_writes=int(count.page_writes[index]),
        assumed_page_writes=int(count.assumed[index]),
        first_write_ns=None if first_write_ns < 0 else first_write_ns,
        last_write_ns=None if first_write_ns < 0 else int(count.last_write_ns[index]),
        first_ns=area.first_ns,
        last_ns=area.last_ns,
        life_ns=max(last_ns - area.first_ns, 0),
    )


def _hottest(survey: Survey, count: Count, order: list[int]) -> tuple[HotRange, ...]:
    rank = {area: position for position, area in enumerate(order)}
    epochs_of = Counter(survey.pids)
    ranges = count.rewrites.hottest(_N_HOTTEST)
    holders = survey.areas.holding([start for start, _, _ in ranges])
    return tuple(
        HotRange(
            mapping=rank[index],
            start=survey.areas.address(index, start),
            end=survey.areas.address(index, end),
            epochs=epochs,
            of_epochs=epochs_of[survey.areas.areas[index].pid],
        )
        for index, (start, end, epochs) in zip(holders, ranges, strict=True)
    )


def _heatmap(survey: Survey, count: Count, order: list[int]) -> Heatmap:
    rank = {area: position for position, area in enumerate(order)}
    axis, areas = count.axis, survey.areas
    firsts, lasts = axis.rows.starts, axis.rows.ends - 1
    holders = areas.holding(firsts)
    starts = [areas.address(i, first) for i, first in zip(holders, firsts.tolist(), strict=True)]
    ends = [areas.address(i, last + 1) for i, last in zip(areas.holding(lasts), lasts.tolist(), strict=True)]
    return Heatmap(
        row_start=np.array(starts, np.uint64),
        row_end=np.array(ends, np.uint64),
        row_pages=axis.pages,
        row_mapping=np.array([rank[i] for i in holders], np.int64),
        row_blocks=axis.blocks,
        cuts=axis.cuts,
        page_writes=count.cells,
        rounds=count.columns.rounds,
    )
