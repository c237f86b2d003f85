"""The public cache suite: its runner, the pinned npm edition, and the recorded score."""
