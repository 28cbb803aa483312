"""Events of a recording put together to life times."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pagewatch.trace.columns import MappingEvent, ProcessEvent
from pagewatch.trace.rows import MappingRow, ProcessRow


def process_rows(events: Iterable[ProcessEvent], until_ns: int) -> Iterator[ProcessRow]:
    """Processes in the order in which they started.

    :param until_ns: when the recording ended.
    :raises ValueError: a process starts twice, or ends without having started.
    """
    rows: list[ProcessRow] = []
    running: dict[int, int] = {}
    for event in events:
        if event.event == "started":
            if event.pid in running:
                raise ValueError(f"process {event.pid} starts twice")
            running[event.pid] = len(rows)
            parent_pid = event.parent_pid or 0
            rows.append(ProcessRow(event.pid, parent_pid, event.text, event.at_ns, until_ns, None, ""))
        elif event.pid not in running:
            raise ValueError(f"process {event.pid} ends without having started")
        else:
            index = running.pop(event.pid)
            rows[index] = replace(
                rows[index], last_ns=event.at_ns, exit_status=event.exit_status, ended_reason=event.text
            )
    return iter(rows)


def mapping_rows(events: Iterable[MappingEvent]) -> Iterator[MappingRow]:
    """Mappings in the order in which they were first seen.

    :raises ValueError: a mapping appears twice, or goes without having been there.
    """
    rows: dict[int, MappingRow] = {}
    for event in events:
        if event.mapping is None:
            if event.id not in rows or rows[event.id].last_ns is not None:
                raise ValueError(f"mapping {event.id} goes without having been there")
            rows[event.id] = replace(rows[event.id], last_ns=event.at_ns)
        elif event.id in rows:
            raise ValueError(f"mapping {event.id} appears twice")
        else:
            rows[event.id] = MappingRow(event.pid or 0, event.mapping, event.at_ns, None)
    return iter(rows.values())
