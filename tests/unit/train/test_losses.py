"""What training makes small, and when it does not."""

from __future__ import annotations

import math

import pytest

from stopcli.train.losses import guessing_loss


@pytest.mark.parametrize(
    ("losses", "stuck"),
    [
        ([1.36, 1.42] * 50, True),  # noise about ln 4 = 1.386
        ([1.30] * 100, False),  # it has begun to learn
        ([1.9] * 100, False),  # worse than guessing: the first steps
        ([1.386, 0.9] * 50, False),
    ],
)
def test_a_loss_that_stays_at_guessing_is_noticed(losses, stuck):
    assert guessing_loss(losses, 4) == (math.log(4) if stuck else None)
