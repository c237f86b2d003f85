"""`banish`, but what waits half a minute before it tries a disk again that has failed waits half a second.

For tests of failing disks alone; all else runs `banish` as it is.
"""

from banish.cli.main import main
from banish.store import disk

disk.RETRY_S = 0.5

if __name__ == "__main__":
    main()
