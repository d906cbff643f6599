"""Whether wrong answers hold the right one between them."""

from __future__ import annotations

import pytest

from parathinker.data.parts import hold_in_parts


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        (["1213"], True),
        (["1293", "1183"], False),  # nobody has the third
        (["1293", "1214"], True),
        (["121"], False),
        (["121", "0003"], True),
        ([], False),
    ],
)
def test_each_character_has_to_stand_at_its_place(said: list[str], holds: bool) -> None:
    assert hold_in_parts("1213", said) is holds
