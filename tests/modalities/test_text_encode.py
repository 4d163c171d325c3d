"""Text encoders: the contract, and values against torch's own nets."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from polymodal.core.checks import check_encoder
from polymodal.core.schema import check_settings, parameters
from polymodal.modalities.text.encode import TextBag, TextGRU, TextLSTM, TextRNN, TextTransformer

FIELD = {"kind": "word", "tokenizer": "{}", "size": 30, "pad": 0, "unknown": 1}
LENGTHS = [4, 1, 6, 3]
RECURRENT = [(TextRNN, nn.RNN), (TextLSTM, nn.LSTM), (TextGRU, nn.GRU)]
SMALL = [
    *((cls, {"width": 6, "layers": n, "bidirectional": both, "tokens": kind})
      for cls, _ in RECURRENT for n, both, kind in [(1, False, "last"), (2, True, "all"), (1, True, "mean")]),
    (TextTransformer, {"width": 8, "heads": 2, "layers": 2}),
    (TextTransformer, {"width": 8, "heads": 2, "layers": 1, "embed": 5, "tokens": "mean"}),
    (TextBag, {"width": 7}),
]  # fmt: skip


def texts(size: int = 30) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return {"ids": torch.randint(1, size, mask.shape, generator=g) * mask, "ids_mask": mask}


@pytest.mark.parametrize(("cls", "settings"), SMALL)
def test_contract(cls, settings, tmp_path):
    assert cls.wants(settings, tmp_path) == {}
    assert not list(tmp_path.iterdir())
    check_encoder(lambda: cls(field=FIELD, dropout=0.0, **settings), texts())


@pytest.mark.parametrize(("cls", "settings"), SMALL)
def test_padding_is_never_looked_at(cls, settings):
    encoder, data = cls(field=FIELD, **settings).eval(), texts()
    noisy = {**data, "ids": torch.where(data["ids_mask"], data["ids"], 7)}
    torch.testing.assert_close(encoder(noisy).tokens, encoder(data).tokens)


@pytest.mark.parametrize("cls", [TextRNN, TextLSTM, TextGRU, TextTransformer, TextBag])
def test_settings_by_default(cls):
    check_settings(cls, {}, "encoder")
    assert {n for n, p in parameters(cls).items() if p.wired} == {"field", "files"}
    assert cls(field=FIELD).eval()(texts()).tokens.shape[2] == cls(field=FIELD).width


@pytest.mark.parametrize(("cls", "reference"), RECURRENT)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_is_the_final_state_of_torch(cls, reference, bidirectional):
    encoder = cls(field=FIELD, width=5, bidirectional=bidirectional, tokens="last").eval()
    theirs = reference(5, 5, bidirectional=bidirectional, batch_first=True)
    weights = dict(encoder.stack.forwards[0].state_dict())
    if bidirectional:
        weights |= {f"{n}_reverse": v for n, v in encoder.stack.backwards[0].state_dict().items()}
    theirs.load_state_dict(weights)
    data = texts()
    packed = pack_padded_sequence(encoder.words.table(data["ids"]), torch.tensor(LENGTHS), batch_first=True,
                                  enforce_sorted=False)  # fmt: skip
    _, final = theirs(packed)
    final = final[0] if cls is TextLSTM else final
    torch.testing.assert_close(encoder(data).tokens[:, 0], final.transpose(0, 1).flatten(1))


def test_mean_is_the_mean_of_all():
    torch.manual_seed(0)
    whole = TextGRU(field=FIELD, width=4).eval()
    mean = TextGRU(field=FIELD, width=4, tokens="mean").eval()
    mean.load_state_dict(whole.state_dict())
    tokens = whole(texts()).tokens
    expected = torch.stack([tokens[i, :n].mean(0) for i, n in enumerate(LENGTHS)])
    torch.testing.assert_close(mean(texts()).tokens[:, 0], expected)


def test_bag_is_torchs_embedding_bag():
    encoder, data = TextBag(field=FIELD, width=7).eval(), texts()
    expected = nn.functional.embedding_bag(data["ids"], encoder.words.table.weight, mode="mean", padding_idx=0)
    torch.testing.assert_close(encoder(data).tokens[:, 0], expected)


def test_transformer_knows_the_order():
    encoder, data = TextTransformer(field=FIELD, width=8, heads=2, tokens="mean").eval(), texts()
    turned = {**data, "ids": data["ids"][:, [1, 0, 2, 3, 4, 5]]}
    assert not torch.allclose(encoder(data).tokens[0], encoder(turned).tokens[0], atol=1e-4)


def test_transformer_takes_any_length():
    ids = torch.ones(1, 3000, dtype=torch.long)
    encoder = TextTransformer(field=FIELD, width=8, heads=2, layers=1).eval()
    assert encoder({"ids": ids, "ids_mask": ids > 0}).tokens.shape == (1, 3000, 8)


@pytest.mark.parametrize("cls", [TextRNN, TextLSTM, TextGRU, TextTransformer, TextBag])
def test_learns_which_words_stand_in_a_text(cls):
    """Token 5 or token 6 anywhere in the text: every encoder tells them apart after a few steps."""
    torch.manual_seed(0)
    encoder = cls(field=FIELD, width=16, dropout=0.0)
    head = nn.Linear(encoder.width, 2)
    data = {k: v.repeat(8, 1) for k, v in texts(5).items()}
    label = torch.arange(32) % 2
    data["ids"][:, 0] = 5 + label
    step = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 0.01)
    for _ in range(40):
        out = encoder(data)
        loss = nn.functional.cross_entropy(head(out.tokens.sum(1) / out.mask.sum(1, keepdim=True)), label)
        step.zero_grad()
        loss.backward()
        step.step()
    assert loss.item() < 0.1
