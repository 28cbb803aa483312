"""Recordings: a directory of Arrow IPC streams under a journal, written append-safe, read with suspicion.

``docs/format.md`` is the format. Nothing here needs Linux: a recording can be read anywhere.
"""

from pagewatch.trace.directory import check_output as check_output
from pagewatch.trace.reader import Trace as Trace
from pagewatch.trace.rows import EpochRow as EpochRow
from pagewatch.trace.rows import Header as Header
from pagewatch.trace.rows import MappingRow as MappingRow
from pagewatch.trace.rows import Note as Note
from pagewatch.trace.rows import ProcessRow as ProcessRow
from pagewatch.trace.writer import TraceWriter as TraceWriter
