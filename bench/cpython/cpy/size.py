"""Code size of builds, and their barriers as the pass counted them."""

import collections
import json
from pathlib import Path

from recipe.build import STATISTICS
from recipe.run import output


def code_size(build):
    """Bytes of executable code, and of all loaded sections, of python and its extension modules."""
    files = [build.python, *sorted((build.tree / "build").glob("lib*/*.so")),
             *sorted((build.tree / "Modules").glob("*.so"))]
    files = [path for path in dict.fromkeys(Path(path).resolve() for path in files)]
    text = loaded = 0
    for path in files:
        for line in output(["size", "-A", "-d", path]).splitlines():
            cells = line.split()
            if len(cells) == 3 and cells[0].startswith("."):
                if cells[0] in (".text", ".init", ".fini", ".plt", ".plt.got", ".text.ame"):
                    text += int(cells[1])
                if cells[2] != "0":  # has an address: is loaded
                    loaded += int(cells[1])
    return {"files": len(files), "text": text, "loaded": loaded}


def barriers(build):
    """Sums of the pass' statistics over all modules of the build (not configure's trials)."""
    path = build.folder / STATISTICS
    totals = {}
    if not path.exists():
        return totals
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if "conftest" in record["module"]:
            continue
        for group, table in record.items():
            if isinstance(table, dict):
                counts = totals.setdefault(record["phase"], {}).setdefault(
                    group, collections.Counter())
                counts.update({name: n for name, n in table.items() if isinstance(n, int)})
    return {phase: {group: {name: n for name, n in counts.items() if n}
                    for group, counts in groups.items()} for phase, groups in totals.items()}
