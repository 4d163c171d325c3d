"""Between epochs: a balance that weighs losses by how they fell is told where they stand."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch

from polymodal.core.contracts import Paced
from polymodal.core.seeds import generator
from polymodal.data.dataset import Dataset
from polymodal.data.loader import Loader
from polymodal.model import on_device
from polymodal.work.session import Session


def set_pace(session: Session) -> None:
    """Measure each input's loss by itself and the joint one, on validation rows and as many training rows, if asked."""
    balance, runtime, losses = session.assembly.model.balance, session.runtime, None
    if not isinstance(balance, Paced) or not balance.due(session.state.epoch):
        return
    if runtime.main:
        losses = _losses(session, _some(session)), _losses(session, session.valid)
    train, valid = runtime.agree(losses)
    balance.learn(train, valid)


def _some(session: Session) -> Loader:
    """Training rows drawn by lot, always the same ones, as many as there are for validation, read as those are."""
    some: Dataset = copy(session.loader.dataset)
    mixed = generator(session.assembly.spec.train.seed, "pace").permutation(some.rows)
    some.rows, some.drop = mixed[: len(session.valid.dataset.rows)], 0.0
    return Loader(some, batch=session.valid.batch, seed=0, shuffle=False, augment=False, buckets=False,
                  workers=session.valid.workers)  # fmt: skip


@torch.inference_mode()
def _losses(session: Session, loader: Loader) -> list[float]:
    """The mean over the rows of each input's loss by itself, and last of the joint answer's."""
    model, runtime = session.assembly.model.eval(), session.runtime
    balance: Any = model.balance
    probes, total, rows = balance.probes, torch.zeros(()), 0
    for micro in loader.epoch(0):
        for batch in (on_device(batch, runtime.move) for batch, _ in micro if batch is not None):
            with runtime.autocast():
                out = model(batch)
                alone = probes.losses(model.enter(out.encoded, batch.inputs), batch.targets)
            joint = probes.joint(out.losses, batch.targets)
            total = total + torch.cat([alone, joint[:, None]], 1).double().sum(0).cpu()
            rows += len(batch.rows)
    return (total / max(1, rows)).tolist()
