"""Recording: processes under tracking on one side, a recording on the other.

Policy only. What is recorded is behind two protocols, so nothing here needs a privilege, a kernel or real time.
"""

from pagewatch.record.processes import Ending as Ending
from pagewatch.record.processes import Processes as Processes
from pagewatch.record.processes import Session as Session
from pagewatch.record.recorder import Policy as Policy
from pagewatch.record.recorder import Progress as Progress
from pagewatch.record.recorder import Recorder as Recorder
