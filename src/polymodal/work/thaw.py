"""Before an epoch: what was frozen until now begins to learn."""

from __future__ import annotations

from polymodal.work.session import Session


def thaw(session: Session) -> None:
    """Let those parts of the model learn whose time has come, by the number of the epoch alone.

    Their parameters are in the optimiser from the start; without a gradient it leaves them as they are and keeps no
    state of them, so that a training that is resumed finds what it would have had.
    """
    model = session.assembly.model
    before = [p.requires_grad for p in model.parameters()]
    for hold in model.holds:
        hold.apply(session.state.epoch)
    if before != [p.requires_grad for p in model.parameters()]:
        session.model = session.runtime.again(model)
