"""Crashes: a real edge under load is killed, unplugged, paused, given old files and failing disks, and started again.

world.py    what is true: content, its versions, the oldest that may be seen, and the trace of all that happened
load.py     origin, clients and purgers around the edge, which judge as they go
disks.py    what a data directory can be on, and how the power is taken from it
scene.py    one data directory, and the edges that live and die on it
checks.py   what the log and the store hold after a crash
kinds.py    the kinds of crashes
run.py      `python -m tests.crash.run`: kind after kind, seed after seed
broken.py   an edge that is broken on purpose
"""
