"""The annotation sets for extension modules, and the compiler that sysconfig names for them.

The sets of CPython name functions, structs and variables of its source files as well, by names such as `enqueue`:
what an extension calls so is another thing. The sets for extensions keep what its files can have from
CPython: functions of the API (Py..., _Py...) and the structs of its headers.
"""

import json
import re
import tomllib

from .cache import digest
from .toolchain import SET, SHIM, annotations

TARGET = "x86_64-linux"
LAYOUT = f".{TARGET}.layout.toml"


def write(result, compiler):
    """Into the installation, whose sysconfig gets a CC and CXX with these sets."""
    home, install = compiler.home, result.folder / "install"
    headers = "\n".join(path.read_text(errors="replace")
                        for path in sorted((install / "include").rglob("*.h")))
    old = new = ""
    for source in (home / SET, home / SHIM / "cpython-ame.toml"):
        with open(source, "rb") as file:
            chosen = choose(tomllib.load(file), headers)
        # Not with_suffix: cpython-3.13 has a dot.
        layout = source.with_name(source.name.removesuffix(".toml") + LAYOUT)
        with open(layout, "rb") as file:
            layouts = tomllib.load(file)
        layouts["struct"] = {name: each for name, each in layouts["struct"].items() if name in chosen["struct"]}
        target = install / "lib/ame" / source.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text(chosen))
        target.with_name(layout.name).write_text(text(layouts))
        old, new = old + annotations(source), new + annotations(target)
    for path in (*install.glob("lib/python3*/_sysconfigdata_*.py"), *install.glob("lib/python3*/config-*/Makefile")):
        path.write_text(path.read_text().replace(old, new))
    # Another version of Ame compiles extensions anew: its platform has another name (edits.py).
    for path in install.glob("lib/python3*/sysconfig/__init__.py"):
        path.write_text(path.read_text().replace('"-ame"', f'"-ame-{digest(*compiler.parts)[:8]}"'))


# What is private of bytes is not where an object writes to bytes that it owns, as extensions do (cpython-ame-buffers.toml).
OWN_BUFFERS = ("PyBytes_AS_STRING", "PyBytes_GET_SIZE")


def choose(rules, headers):
    """Those of a set's rules that are for extensions."""
    groups = [{**group, "names": [name for name in group["names"] if is_api(name) and name not in OWN_BUFFERS]}
              for group in rules["functions"]]
    return {
        "name": rules["name"], "description": rules["description"],
        "instrumented": rules.get("instrumented", []),
        "function": {name: rule for name, rule in rules["function"].items() if is_api(name)},
        "functions": [group for group in groups if group["names"]],
        "struct": {name: rule for name, rule in rules["struct"].items()
                   if re.search(rf"\b(struct|union)\s+{name}\b|\}}\s*{name}\s*;", headers)},
    }


def is_api(name):
    return name.startswith(("Py", "_Py", "ame_py_"))


def text(document):
    """TOML of plain values, tables of tables, and arrays of tables."""
    lines = []
    for kind, content in document.items():
        if isinstance(content, dict):
            tables = [(f"[{kind}.{json.dumps(name)}]", table) for name, table in content.items()]
        elif isinstance(content, list) and kind != "instrumented":
            tables = [(f"[[{kind}]]", table) for table in content]
        else:
            lines.append(f"{kind} = {value(content)}")
            continue
        for head, table in tables:
            lines += ["", head, *(f"{json.dumps(key)} = {value(item)}" for key, item in table.items())]
    return "\n".join(lines) + "\n"


def value(item):
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {value(each)}" for key, each in item.items()) + " }"
    if isinstance(item, list):
        return "[" + ", ".join(map(value, item)) + "]"
    return json.dumps(item)
