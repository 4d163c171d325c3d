"""Torch's recurrent nets, fit to be exported."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class _Live:
    """Weights looked up when used. Torch keeps a second list of them, which `torch.export` takes for an assignment."""

    _flat_weights_names: list[str]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Tensor]) -> None:
        pass


class _RNN(_Live, nn.RNN):  # type: ignore[misc]
    pass


class _LSTM(_Live, nn.LSTM):  # type: ignore[misc]
    pass


class _GRU(_Live, nn.GRU):  # type: ignore[misc]
    pass


CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": _RNN, "lstm": _LSTM, "gru": _GRU}
