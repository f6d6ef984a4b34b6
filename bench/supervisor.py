"""Watches a command from outside, so that it never ends without a word.

A kernel that writes where it must not, and a machine without memory, end a process in a way that no ``except`` sees.
The command therefore runs in a child, which notes on a page of shared memory what it is doing. When the child dies, its
parent says of what and where; a provider that was running then is disqualified in that case, and another child goes on.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import mmap
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

_BOARD_BYTES = 4096
# Sent by terminals, by `timeout`, by schedulers: the command ends in order and says so.
_REQUESTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
# A progress bar hides the cursor, and leaves it at the end of its line.
_AFTER_A_BAR = "\x1b[?25h\n"


class Stopped(BaseException):
    """The process was asked to end by a signal other than Ctrl-C's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Died(RuntimeError):
    """A provider ended the process when it ran here before."""


@dataclass(frozen=True)
class Place:
    """Where a command is.

    Attributes:
        output: the CSV that it writes.
        written: the CSV is of this run: a case of it is finished.
        case: identity of the case, as a list.
        label: the case for a reader.
        provider: who is running, or "" when nobody is.
        doing: what happens.
    """

    output: str = ""
    written: bool = False
    case: list[object] = field(default_factory=list)
    label: str = ""
    provider: str = ""
    doing: str = ""


@dataclass(frozen=True)
class Death:
    """A child that ended without an exit code: where it was, and of what it died."""

    place: Place
    how: str


class Board:
    """A page of memory that the child writes and its parent reads, also when the child is gone."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _BOARD_BYTES)

    def write(self, place: Place) -> None:
        text = json.dumps(asdict(place)).encode()
        if len(text) < _BOARD_BYTES:
            self._page[:] = text.ljust(_BOARD_BYTES, b"\0")

    def read(self) -> Place:
        text = self._page[:].rstrip(b"\0")
        try:
            return Place(**json.loads(text))
        except ValueError:
            # Nothing was written yet, or the process died while it wrote.
            return Place()


board = Board()
# What became of the children before this one; a fork knows it.
deaths: list[Death] = []


def goes_on() -> bool:
    """Whether this process continues a run that died after it had finished a case."""
    return any(death.place.written for death in deaths)


def died_of(case: Sequence[object], provider: str) -> str | None:
    """Of what this provider died in this case, or None."""
    for death in deaths:
        if (death.place.case, death.place.provider) == (list(case), provider):
            return f"its process {death.how} while {death.place.doing}"
    return None


def _killed_for_memory() -> int | None:
    """How many processes the kernel has ended for want of memory, or None where it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _how(number: int, kills_before: int | None) -> tuple[str, bool]:
    """Of what a child died, in words, and whether that was its own doing."""
    name = signal.Signals(number).name
    if number != signal.SIGKILL:
        return f"was ended by {name}", number not in _REQUESTS
    kills = _killed_for_memory()
    if kills is None or kills_before is None:
        return f"was ended by {name}: out of memory?", True
    if kills > kills_before:
        return f"was ended by {name}: out of memory", True
    return f"was ended by {name} from outside", False


def _raise_stopped(number: int, _frame: object) -> NoReturn:
    # Once is enough: a second request must not interrupt the message about the first.
    for request in _REQUESTS:
        signal.signal(request, signal.SIG_IGN)
    raise Stopped(number)


def _begin_child(mask: set[signal.Signals]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for request in (signal.SIGTERM, signal.SIGHUP):
        # nohup means it.
        if signal.getsignal(request) != signal.SIG_IGN:
            signal.signal(request, _raise_stopped)
    faulthandler.enable(all_threads=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(child: int) -> int:
    """The status of a child when it has ended; requests that came to this process alone are passed on."""
    while True:
        received = signal.sigwaitinfo({signal.SIGCHLD, *_REQUESTS})
        if received.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        # A terminal asks the whole group (its code is positive); a user who names this process asks it alone.
        elif received.si_code <= 0 or received.si_signo != signal.SIGINT:
            os.kill(child, received.si_signo)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _story(death: Death) -> str:
    place = death.place
    where = f" while {place.doing}" if place.doing else ""
    return f"the run {death.how}{where}{f' in {place.label}' if place.label else ''}"


def _output(death: Death) -> str:
    """The CSV; a child that dies early has not told its name, but one before it has."""
    return next(found.place.output for found in (death, *deaths) if found.place.output)


def supervise() -> None:
    """Fork, and return in the child; the parent waits for it and ends with its exit code.

    Where a platform has no ``fork`` or no ``sigwaitinfo``, nothing is watched.
    """
    if not hasattr(os, "fork") or not hasattr(signal, "sigwaitinfo"):
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_REQUESTS})
    while True:
        kills = _killed_for_memory()
        # A child that dies before it writes must not be taken for the one before.
        board.write(Place())
        child = os.fork()
        if child == 0:
            _begin_child(mask)
            return
        status = _wait(child)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        number = os.WTERMSIG(status)
        how, own_doing = _how(number, kills)
        death = Death(board.read(), how)
        if sys.stderr.isatty():
            print(_AFTER_A_BAR, end="", file=sys.stderr)
        _say(f"error: {_story(death)}")
        place = death.place
        # Who cannot be kept out, such as the copy that limits an op, would die for ever.
        again = died_of(place.case, place.provider) is not None
        if not own_doing or not place.provider or again:
            if place.written or goes_on():
                _say(f"finished cases are in {_output(death)}; the same command with --resume goes on")
            sys.exit(128 + number)
        deaths.append(death)
        _say(f"{place.provider} is disqualified there; going on without it")
