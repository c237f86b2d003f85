"""Whole meshes in one process: the real core over a network, disks and clocks that fail as a seed says.

world.py       the edges of one run, and what happens to them
process.py     one edge while it runs: the real Replica and the real PurgeTable, and what a runner does with them
disk.py        what of it survives
judge.py       what must hold at every step, and what must come about once all faults have ended
breakages.py   guarantees taken out one at a time: each has to be found
run.py         seed after seed; or one again, told step by step
cities.py      one purge round the world
"""
