"""``python -m dkcore`` is the command ``dkcore``."""

from dkcore.cli import main

main(prog_name="dkcore")
