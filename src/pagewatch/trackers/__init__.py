"""Policy: when to arm, collect and give up. Trackers stand on ``pagewatch.ports`` and know no world."""
