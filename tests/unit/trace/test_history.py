"""Events that contradict each other are refused."""

import pytest

import support.recorded as rec
from pagewatch.trace.columns import MappingEvent, ProcessEvent
from pagewatch.trace.history import mapping_rows, process_rows

STARTED = ProcessEvent(1, 5, "started", 1, None, "sh")
ENDED = ProcessEvent(2, 5, "ended", None, 0, "exited with status 0")
MAPPED = MappingEvent(1, 0, 5, rec.HEAP)
GONE = MappingEvent(2, 0, None, None)


def test_a_number_that_is_used_again_is_another_process() -> None:
    rows = list(process_rows([STARTED, ENDED, STARTED], 9))
    assert [(row.first_ns, row.last_ns, row.exit_status) for row in rows] == [(1, 2, 0), (1, 9, None)]


@pytest.mark.parametrize("events", [[STARTED, STARTED], [ENDED], [STARTED, ENDED, ENDED]])
def test_impossible_lives_of_processes_are_refused(events: list[ProcessEvent]) -> None:
    with pytest.raises(ValueError, match="process 5"):
        list(process_rows(events, 9))


@pytest.mark.parametrize("events", [[MAPPED, MAPPED], [GONE], [MAPPED, GONE, GONE], [MAPPED, GONE, MAPPED]])
def test_impossible_lives_of_mappings_are_refused(events: list[MappingEvent]) -> None:
    with pytest.raises(ValueError, match="mapping 0"):
        list(mapping_rows(events))
