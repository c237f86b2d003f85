"""The mesh: every edge hears of every purge, from whoever holds it, and says so.

Pure: what is held of each stream (`frontier.py`), who belongs (`members.py`), what is said (`messages.py`), and the
core that decides (`replica.py`). I/O: how it travels (`transport.py` is the seam, `zenoh_transport.py` the real one),
and by which certificates (`authority.py`).
"""
