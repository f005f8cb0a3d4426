"""Lets parts of hivemind be imported without the rest of it.

`import hivemind.p2p` runs hivemind's own `__init__` first, which brings its trainers and with them
scipy: 48 MiB and 0.4 s for each process of ours, which needs none of it. Here the package stands
in `sys.modules` without having run; parts import as usual, and the rest comes when somebody
asks the package for a name, as in `from hivemind import Optimizer`.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType


class _NotYetRun(ModuleType):
    """A package whose `__init__` runs when a name is asked for that it does not have."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # a question about modules, not about this one
            raise AttributeError(name)
        part = sys.modules.get(f"{self.__name__}.{name}")
        if part is not None:  # it is just being imported, and imports what needs it
            return part
        self.__class__ = ModuleType  # type: ignore[assignment]  # asked once
        spec = self.__spec__
        assert spec is not None, "made from one"
        assert spec.loader is not None, "a package with an __init__ has one"
        spec.loader.exec_module(self)
        value: object = getattr(self, name)
        return value


def import_hivemind_in_parts() -> None:
    """Put the package where imports of its parts find it, unless it is there already."""
    if "hivemind" in sys.modules:
        return
    spec = find_spec("hivemind")
    if spec is None:  # importing a part will say so
        return
    package = module_from_spec(spec)
    package.__class__ = _NotYetRun
    sys.modules["hivemind"] = package
