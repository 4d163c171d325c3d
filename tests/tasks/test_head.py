"""Heads: what they compute, by hand."""

import numpy as np
import torch

from polymodal.tasks.head import head

X = torch.tensor([[1.0, 2.0, 3.0, 6.0], [-1.0, 0.5, 0.0, 4.0]])


def test_a_normalised_fused_vector_by_hand() -> None:
    torch.manual_seed(0)
    net = head(4, 2, norm="layer")
    x = X.numpy().astype(np.float64)
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    last = net[-1]
    wanted = normal @ last.weight.detach().double().numpy().T + last.bias.detach().double().numpy()
    np.testing.assert_allclose(net(X).detach().numpy(), wanted, atol=1e-6)


def test_loud_and_quiet_vectors_are_heard_alike() -> None:
    torch.manual_seed(0)
    normal, plain = head(4, 3, hidden=5, norm="layer"), head(4, 3, hidden=5)
    torch.testing.assert_close(normal(100 * X + 7), normal(X), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain(100 * X + 7), plain(X))
