"""The soak: random clients, origins and purges against a whole edge on real sockets, drawn from one seed.

world.py    what is true: pages, their states, what was purged when, and the trace of all that happened
origin.py   an origin that misbehaves as the seed says
clients.py  what clients do, drawn before anything runs
checks.py   what must hold of each response
scene.py    one run: the edge, everybody at once, and what must be left over afterwards, which is nothing
run.py      `python -m tests.soak.run`: seed after seed
"""
