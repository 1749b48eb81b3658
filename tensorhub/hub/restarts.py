"""When a child process that has died is started again, and when it no longer is. Pure: the time is an argument.

The delay doubles with every death and starts over after a life that was long enough. A child that keeps dying is given
up: something is wrong that another start does not mend, and a person should see it.
"""

from dataclasses import dataclass

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
LONG_LIFE_S = 30.0
"""A child that has lived this long is well; its next death is the first of a new row."""
WINDOW_S = 60.0
DEATHS_LIMIT = 10
"""Deaths within the window at which a child is given up."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """The past of one child, and what follows from it. Times are seconds of one monotonic clock.

    Attributes:
        started_at: when it was started last.
        restart_at: when to start it again; None: it runs, or is given up.
        given_up: it is not started any more.
        deaths: those within the window, oldest first.
        delay_s: how long the next death is waited out.
    """

    started_at: float = 0.0
    restart_at: float | None = None
    given_up: bool = False
    deaths: tuple[float, ...] = ()
    delay_s: float = FIRST_DELAY_S

    def started(self, now: float) -> "Restarts":
        """The child has been started."""
        return Restarts(now, None, self.given_up, self.deaths, self.delay_s)

    def died(self, now: float) -> "Restarts":
        """The child has died: decide whether and when it is started again."""
        recent = (*(death for death in self.deaths if now - death <= WINDOW_S), now)
        if len(recent) >= DEATHS_LIMIT:
            return Restarts(self.started_at, None, True, recent, self.delay_s)
        delay = FIRST_DELAY_S if now - self.started_at >= LONG_LIFE_S else self.delay_s
        return Restarts(self.started_at, now + delay, False, recent, min(2 * delay, LONGEST_DELAY_S))

    def due(self, now: float) -> bool:
        """Whether it is time to start the child again."""
        return self.restart_at is not None and self.restart_at <= now


def is_refusal(status: int, *, joined: bool) -> bool:
    """Whether a process that ended refuses what it was given, so that another start would end the same way.

    Args:
        status: its exit status; negative: the signal that killed it.
        joined: a process of its kind has taken part in this server before, so what it was given is good.
    """
    return status > 0 and not joined
