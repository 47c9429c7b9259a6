"""What the user of a fit can fix: one base class, so that jobs print its message as one line and nothing else.

Any other exception is a bug of ours, a ValueError of numpy included, and shows its traceback. That is why the base
class is no ValueError.
"""


class FitError(Exception):
    """A table, a law or an argument that cannot be used; the message names it and says what to do."""


class TooFewPoints(FitError):
    """Fewer points, or fewer different ones, than the law has parameters."""


class NoVariation(FitError):
    """A variable that is the same in all points, such as one size only."""


class BadValues(FitError):
    """Values that are not finite, or outside of what the law or the objective allows; the message names their rows."""
