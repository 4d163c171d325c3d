"""The sections of a spec that are no parts: data, model, train, and what can be said of any encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from polymodal.core.schema import Chance, Json, Natural, Positive, Rate, Share


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the rows are, how they are split, and what happens to bad ones."""

    train: str | None = None  # a table, a folder of class folders, an IDX file; None: a DataFrame is passed from Python
    valid: str | Share | None = None  # a table, or the share of train rows held out; a tenth when nothing else says
    test: str | Share | None = None
    split: Literal["random", "stratified", "grouped", "column"] = "random"
    split_column: str | None = None  # grouped: rows with equal values stay together; column: holds train, valid, test
    split_valid: str | None = None  # column: the value that marks validation rows, `valid` or `val` when not given
    split_test: str | None = None
    leave_out: dict[str, list[str]] | None = None  # column: [values]; the test rows, whatever `split` says
    root: str | None = None  # folder that paths in cells start from; the table's own folder when not given
    encoding: str = "utf-8"
    on_bad: Literal["fail", "skip", "missing"] = "skip"
    cache_mb: Natural = 256  # memory for decoded cells; beyond it they are kept on disk
    features_mb: Natural = 512  # memory for what frozen encoders say of cells; an input that needs more is encoded anew


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the model owns itself: the common width that every input is projected to."""

    width: Positive | None = None  # the widest encoder's when not given


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the model is trained."""

    epochs: Positive = 10
    batch: Positive = 32  # rows in the global batch of one micro-step
    accumulate: Positive = 1  # micro-steps to one step of the optimiser
    gradient_cache: bool = False  # tasks that compare rows compare those of all micro-steps, for a second forward pass
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Rate = 1e-3
    weight_decay: Annotated[float, Ge(0.0)] = 0.01
    momentum: Chance = 0.9  # sgd only
    schedule: Literal["constant", "cosine", "linear", "step", "plateau"] = "cosine"
    warmup: Share = 0.05  # share of all steps
    step_epochs: Positive = 10  # step: every so many epochs ...
    factor: Rate = 0.1  # ... step and plateau: the rate is multiplied by this
    plateau_epochs: Positive = 3  # plateau: epochs without a better score
    clip: Rate | None = 1.0  # largest norm of the gradient
    ema: Chance | None = None  # decay of the averaged weights, used for scoring and saving
    patience: Positive | None = None  # stop after so many epochs without a better score
    monitor: str | None = None  # "task.metric"; the first task's own when not given
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False  # pictures lie in memory pixel by pixel, not channel by channel
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Gt(0), Le(1024)] | None = None
    workers: Natural = 0  # processes that read and augment
    buckets: bool = False  # batches of rows of like length: less padding, but batches that are alike in content
    drop: Chance = 0.0  # chance that an input is left out of a training row (never the last one left)
    turns: Literal["all", "one"] = "all"  # one: every step trains one task, drawn in proportion to its weight
    checkpoint_steps: Positive | None = None  # besides one after every epoch
    checkpoint_seconds: Positive = 300
    tensorboard: bool = False
    seed: Natural = 0


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021) instead of training an encoder's own weights."""

    rank: Positive = 8
    alpha: Rate = 16.0
    dropout: Chance = 0.0
    targets: list[str] | None = None  # names of linear layers; all linear layers when not given


@dataclass(frozen=True, kw_only=True)
class Thaw:
    """When what is frozen begins to learn: all of it at once, or so many groups of layers more in every epoch."""

    after: Natural  # epochs in which all of it is frozen
    layers: Positive | None = None  # groups of layers, from the top down (Howard and Ruder 2018, ULMFiT)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a part's first weights come from."""

    run: str  # the folder of a finished run
    input: str | None = None  # of an encoder there; the input of the same name when not given
    task: str | None = None  # of a decoder there, likewise


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What can be said of an encoder, a decoder, an attention or a fusion from outside; `from` is a `Source`."""

    freeze: bool = False
    thaw: Natural | dict[str, Json] | None = None
    lr: Rate | None = None
    layer_lr: Annotated[float, Gt(0.0), Le(1.0)] | None = None  # the rate of each group of layers over the one above
    lora: dict[str, Json] | bool | None = None
