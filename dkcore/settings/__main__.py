"""``python -m dkcore.settings`` writes the table of all settings into docs/training.md anew."""

from dkcore.settings.table import main

main()
