"""A conversation, turn by turn: from Python, or line by line in a terminal or from a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable

from polymodal.core.errors import UserError, suggest
from polymodal.work.chat.partner import Partner, Slot, Tell

HELP = """\
/attach NAME WHAT   give it a picture, a sound, a number, a text: /attach photo cat.jpg
                    (without NAME where there is only one file to give)
/inputs             what can be attached, and what is
/clear              forget what was attached and said
/help               this
/quit               end, as Ctrl-D does; Ctrl-C stops an answer
Any other line is said to it; an empty one asks for the answer to what is attached."""
COMMANDS = ("/attach", "/inputs", "/clear", "/help", "/quit")
PROMPT = "> "


class Chat:
    """A conversation with a run or a vision-language model.

    `attach` gives it a file or a value, `say` a line and takes the answer, piece by piece where `tell` is given. What
    was attached to a run stays until `clear`; a vision-language model remembers all turns. Raise UserError.
    """

    def __init__(self, partner: Partner) -> None:
        self.partner = partner

    @property
    def inputs(self) -> list[Slot]:
        """What can be attached, and what is."""
        return self.partner.slots()

    def attach(self, what: str, name: str | None = None) -> Chat:
        self.partner.attach(str(what), name)
        return self

    def clear(self) -> Chat:
        self.partner.clear()
        return self

    def say(self, line: str = "", tell: Tell | None = None) -> str:
        """The answer. Every piece of it is handed to `tell` as soon as it is there."""
        pieces: list[str] = []

        def told(piece: str) -> None:
            pieces.append(piece)
            if tell is not None:
                tell(piece)

        self.partner.answer(line.strip(), told)
        return "".join(pieces).strip()

    def loop(self) -> None:
        """Read lines from standard input until it ends, and answer them on standard output.

        In a terminal a mistake is shown and the talk goes on; from a pipe it ends the talk with UserError. A pipe
        without a line is an empty line.
        """
        if sys.stdin.isatty():
            self._terminal()
        else:
            self._lines(sys.stdin)

    def _lines(self, lines: Iterable[str]) -> None:
        silent = True
        for line in lines:
            silent = False
            if not self.turn(line):
                return
        if silent:
            self.turn("")

    def _terminal(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  lines can be edited and called back
        _note("/help tells what can be said; Ctrl-D ends")
        _note(_listed(self.inputs))
        while True:
            try:
                if not self.turn(input(PROMPT)):
                    return
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                _note("\n(stopped; /quit or Ctrl-D ends)")
            except UserError as error:
                _note(str(error))

    def turn(self, line: str) -> bool:
        """One line: a command, or something to answer. False: the talk is over. Raises UserError."""
        line = line.strip()
        command, _, rest = line.partition(" ")
        match command:
            case "/quit":
                return False
            case "/help":
                _note(HELP)
            case "/inputs":
                _note(_listed(self.inputs))
            case "/clear":
                self.clear()
                _note("forgotten")
            case "/attach":
                self._attach(rest.strip())
            case _ if line.startswith("/"):
                raise UserError("chat", "no command of this name", given=command, advice=suggest(command, COMMANDS))
            case _:
                self._answer(line)
        return True

    def _answer(self, line: str) -> None:
        try:
            self.say(line, lambda piece: print(piece, end="", flush=True))
        except KeyboardInterrupt:
            print(flush=True)  # what was said stands on a line of its own
            raise
        print(flush=True)

    def _attach(self, rest: str) -> None:
        """`NAME WHAT`, or a file alone."""
        name, _, what = rest.partition(" ")
        if not rest:
            raise UserError("/attach", "needs a name and what to attach", advice=_listed(self.inputs))
        known = {slot.name for slot in self.inputs}
        slot = self._attached(what, name, known) if what else self.partner.attach(rest)
        _note(f"{slot.name}: {slot.given}" + ("" if self.partner.wants_words else "   (Enter for the answer)"))

    def _attached(self, what: str, name: str, known: set[str]) -> Slot:
        """A path may hold spaces: what does not begin with a name is tried as a whole."""
        try:
            return self.partner.attach(what.strip(), name)
        except UserError:
            if name in known:
                raise
            with contextlib.suppress(UserError):
                return self.partner.attach(f"{name} {what}")
            raise


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _listed(slots: list[Slot]) -> str:
    wide = max(len(slot.name) for slot in slots)
    return "\n".join(f"{slot.name:<{wide}}  {slot.kind:<8}{slot.given or '-'}" for slot in slots)
