"""The code in the documentation runs and prints what the documentation shows."""

import doctest

from analysis.laws import form


def test_the_worked_example_of_analysis() -> None:
    try:
        failed, tried = doctest.testfile("../../analysis/README.md", encoding="utf-8")
    finally:
        form.LAWS.pop("mine", None)
    assert tried > 15
    assert failed == 0
