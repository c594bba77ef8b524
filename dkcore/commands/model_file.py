"""``--model FILE.py:FUNCTION``: whether file and function are there, found without running the file, which may import a framework."""

import ast
import symtable
from pathlib import Path

from dkcore.errors import ModelError, expected, nearest

__all__ = ["locate_model"]

BY_STRING = {"exec", "globals", "locals", "setattr", "vars"}  # a module may bind names by these that nobody can read off it


def locate_model(model: str) -> str:
    """The absolute path of FILE.keras, or of FILE.py with :FUNCTION; ModelError when there is no such file, or function in it."""
    file, separator, function = model.rpartition(":")
    if model.endswith(".keras"):
        file, separator, function = model, "", ""
    elif not file.endswith(".py") or not function:
        raise ModelError(expected("FILE.py:FUNCTION or FILE.keras", repr(model), "The function returns a Keras model."))
    if not Path(file).is_file():
        raise ModelError(expected("a file with the model", repr(file), f"There is none, seen from {Path.cwd().name}/."))
    if function:
        check_function(Path(file), function)
    return f"{Path(file).resolve()}{separator}{function}"


def check_function(file: Path, function: str) -> None:
    """ModelError when it is sure that a module has no such name once it is imported."""
    source = file.read_bytes()
    try:
        tree = ast.parse(source, str(file))
        table = symtable.symtable(source, str(file), "exec")  # type: ignore[arg-type]  # it takes bytes, as compile does
    except (SyntaxError, ValueError) as error:
        what = "a Python file with the model"
        raise ModelError(expected(what, f"{file}: {error}", "Mend it; `python FILE.py` shows the place.")) from error
    names = bound_names(table)
    if function in names or "__getattr__" in names or any(map(by_string, ast.walk(tree))):
        return
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    advice = f"Its functions: {', '.join(functions)}." if functions else "It defines none."
    raise ModelError(expected(f"a function {function!r} in {file}", "none of that name", nearest(function, names, advice)))


def bound_names(module: symtable.SymbolTable) -> list[str]:
    """Names that a module binds by def, class, import and assignment, wherever it does."""
    tables, names = [module], []
    while tables:
        here = tables.pop()
        tables += here.get_children()
        names += [each.get_name() for each in here.get_symbols() if binds(each) and (here is module or each.is_declared_global())]
    return names


def binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def by_string(node: ast.AST) -> bool:
    """Whether a node may bind names that it does not spell out."""
    if isinstance(node, ast.ImportFrom):
        return node.names[0].name == "*"
    return isinstance(node, ast.Name) and node.id in BY_STRING
