"""The files that docs/stored-files.md explains are those that their recipe writes."""

from __future__ import annotations

from pathlib import Path

from tests.example_weights import EXAMPLES, write


def test_the_examples_are_what_their_recipe_writes(tmp_path: Path) -> None:
    made = write(tmp_path)
    assert len(made) == 6
    for path in made:
        assert path.read_bytes() == (EXAMPLES / path.relative_to(tmp_path)).read_bytes(), (
            "run python -m tests.example_weights"
        )
