"""The floors of the house: imports go down only, and the two halves never meet.

Each check is also run on sources with a planted breach, so that it is known to be able to fail.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "llmprof"

FLOORS = {
    "llmprof": 0,
    "llmprof.collection": 1,
    "llmprof.errors": 1,
    "llmprof.units": 1,
    "llmprof.paths": 1,
    "llmprof.sources": 1,
    "llmprof.spec": 2,
    "llmprof.importing": 2.1,
    "llmprof.catalog": 2.2,
    "llmprof.routing": 3,
    "llmprof.workload": 3,
    "llmprof.workload_rules": 3,
    "llmprof.training_rules": 3,
    "llmprof.objectives": 3,
    "llmprof.sharding": 3,
    "llmprof.work": 3,
    "llmprof.sharding_rules": 3,
    "llmprof.sharding_degrees": 3,
    "llmprof.sharding_stages": 3,
    "llmprof.sharding_options": 3,
    "llmprof.ledger": 3,
    "llmprof.lengths": 3,
    "llmprof.device": 3,
    "llmprof.device_document": 3,
    "llmprof.device_figures": 3,
    "llmprof.predict": 4,
    "llmprof.twin": 4,
    "llmprof.stored": 4.5,
    "llmprof.engines": 5,
    "llmprof.measure": 5,
    "llmprof.latency": 5,
    "llmprof.planning": 5.5,
    "llmprof.confirm": 6,
    "llmprof.conformance": 6,
    "llmprof.profiling": 6,
    "llmprof.report": 6,
    "llmprof.check": 6,
    "llmprof.claims": 6,
    "llmprof.drawing": 6,
    "llmprof.cli": 7,
    "llmprof.pytest_plugin": 7,
    "llmprof.__main__": 8,
}

APART = [
    ("llmprof.predict", "llmprof.twin"),
    ("llmprof.predict", "llmprof.measure"),
    ("llmprof.predict", "llmprof.drawing"),
    ("llmprof.stored", "llmprof.twin"),
    ("llmprof.engines", "llmprof.twin"),
    ("llmprof.engines", "llmprof.measure"),
]
"""The halves: neither may import the other, in any way. A picture shows the mask that the twin applies, and no other."""

TORCH_FLOORS = {"llmprof.twin", "llmprof.measure"}
"""Where torch may be imported at the top of a file."""

TORCH_INSIDE = {"llmprof.profiling", "llmprof.conformance", "llmprof.drawing"}
"""Where torch may be imported inside functions; `profiling` and `conformance` alone know both halves."""

TWIN_INSIDE = {"llmprof.cli", "llmprof.drawing"}
"""Where the floors of torch may be imported inside functions alone: to import the top of a file must not load torch."""

TORCH = {"torch", "fvcore", "transformers"}


def unit_of(module: str) -> str:
    """The part of the house that a module belongs to: its first two names."""
    return ".".join(module.split(".")[:2])


def imports(source: str, module: str, *, is_package: bool = False) -> list[tuple[str, bool, bool]]:
    """(imported module, at the top of the file, only for type checking) for every import in `source`."""
    found = []
    tree = ast.parse(source)

    def visit(node: ast.AST, top: bool, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner_top = top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            inner_typing = typing_only or (
                isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and child in node.body
            )
            if isinstance(child, ast.Import):
                found.extend((alias.name, inner_top, inner_typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = module.split(".")
                    parts = parts[: len(parts) - child.level + (1 if is_package else 0)]
                    base = ".".join([*parts, base] if base else parts)
                found.append((base, inner_top, inner_typing))
                found.extend((f"{base}.{alias.name}", inner_top, inner_typing) for alias in child.names)
            else:
                visit(child, inner_top, inner_typing)

    visit(tree, True, False)
    return found


def breaches(sources: dict[str, str]) -> list[str]:
    """Every breach of the floors in `sources`, which maps module names to texts."""
    bad = []
    for module, source in sources.items():
        unit = unit_of(module)
        if unit not in FLOORS:
            bad.append(f"{module} stands on no floor")
            continue
        for name, top, typing_only in imports(source, module, is_package=module in FLOORS):
            target = unit_of(name)
            if name.split(".")[0] in TORCH and not typing_only:
                if unit not in TORCH_FLOORS and unit not in TORCH_INSIDE:
                    bad.append(f"{module} imports {name}")
                elif unit in TORCH_INSIDE and top:
                    bad.append(f"{module} imports {name} at the top")
            if target == unit or target not in FLOORS or target == "llmprof":
                continue
            if FLOORS[target] > FLOORS[unit]:
                bad.append(f"{module} imports {name}, a higher floor")
            if unit in TWIN_INSIDE and target in TORCH_FLOORS and not typing_only and top:
                bad.append(f"{module} imports {name} at the top")
            if unit == "llmprof.report" and target in TORCH_FLOORS:
                bad.append(f"{module} imports {name}: exporters never measure")
            bad.extend(
                f"{module} imports {name}: the halves met" for a, b in APART if (unit, target) in ((a, b), (b, a))
            )
    return bad


def house() -> dict[str, str]:
    """Every module of the package and its text."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["llmprof", *path.relative_to(PACKAGE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def test_the_house_keeps_its_floors() -> None:
    sources = house()
    assert len(sources) > 40, "the walk must see the whole house"
    assert breaches(sources) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("llmprof.predict.cores", "from llmprof.twin import core"),
        ("llmprof.predict.cores", "def f():\n    import llmprof.measure.run"),
        ("llmprof.twin.core", "from ..predict import api"),
        ("llmprof.measure.run", "from llmprof import predict"),
        ("llmprof.measure.cache", "from llmprof.engines import hf"),
        ("llmprof.spec.load", "from llmprof.workload import Workload"),
        ("llmprof.confirm", "import torch"),
        ("llmprof.predict.api", "def f():\n    import torch"),
        ("llmprof.cli.count", "def f():\n    import torch"),
        ("llmprof.cli.profile", "from llmprof.measure import run"),
        ("llmprof.profiling", "import torch"),
        ("llmprof.drawing.masks", "import torch"),
        ("llmprof.drawing.masks", "from llmprof.twin.visibility import visible"),
        ("llmprof.drawing.masks", "def f():\n    from llmprof.predict import masks"),
        ("llmprof.report.tables", "def f():\n    from llmprof.measure import time"),
        ("llmprof.errors", "import llmprof.units\nfrom llmprof.cli import app"),
        ("llmprof.attic", "x = 1"),
    ],
)
def test_a_planted_breach_is_seen(module: str, text: str) -> None:
    assert breaches({module: text}) != []


def test_type_checking_imports_and_lazy_ones_are_allowed_where_meant() -> None:
    assert (
        breaches({"llmprof.profiling": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"}) == []
    )
    assert breaches({"llmprof.profiling": "def f():\n    from llmprof.measure import run"}) == []
    assert breaches({"llmprof.drawing": "def f():\n    import torch\n    from llmprof.twin import visibility"}) == []
    assert breaches({"llmprof.twin.core": "import torch\nfrom llmprof.spec import arch"}) == []


LOADED = (
    "import sys; loaded = sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'fvcore', 'transformers', 'numpy'})"
)


def _loaded_after(statement: str) -> str:
    code = f"{statement}\n{LOADED}\nprint('loaded:', loaded)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


RUN = (
    "import sys; sys.argv = {argv!r}\nfrom llmprof.cli.app import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
)


@pytest.mark.parametrize(
    "argv",
    [
        ["llmprof", "count", "llama-2-70b", "--explain", "--by", "op"],
        ["llmprof", "count", "t5-small", "--format", "json"],
        ["llmprof", "count", "gemma-2-9b", "--kv-engine", "vllm"],
        ["llmprof", "specs", "list"],
        ["llmprof", "import", "specs/configs/deepseek-v3.json"],
        ["llmprof", "count", "specs/configs/llama-2-70b.json"],
        ["llmprof", "specs", "schema"],
        ["llmprof", "claims"],
        ["llmprof", "profile", "--help"],
        ["llmprof", "verify", "--help"],
        ["llmprof", "mask", "--help"],
    ],
)
def test_torch_is_never_loaded_without_need(argv: list[str]) -> None:
    assert _loaded_after(RUN.format(argv=argv)) == "loaded: []"


def test_the_check_for_torch_can_fail() -> None:
    assert "torch" in _loaded_after("import torch")
