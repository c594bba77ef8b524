"""``python -m dkcore.emit``: see `dkcore.engine.emit`."""

from dkcore.engine.emit import main

if __name__ == "__main__":
    main()
