"""Print the requirements of dkcore and of the extras that are named, for pip: what `pip install .[extra]` would take,
without building dkcore."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
names = project["dependencies"] + [name for extra in sys.argv[1:] for name in project["optional-dependencies"][extra]]
print(" ".join(name.replace(" ", "") for name in names))
