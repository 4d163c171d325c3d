"""Language models as decoders: what transformers itself says of the same vectors, and the contract of decoders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.checks_decoder import check_decoder
from polymodal.core.errors import SpecError
from polymodal.core.streams import State, Stream
from polymodal.decoders.lm import LanguageModel
from polymodal.decoders.prefix import Resampler
from polymodal.work.folder import read_tensors, write_tensors
from published import CAUSAL, END, WORDS, publish_lm, words_tokenizer

transformers = pytest.importorskip("transformers")

WIDTH, STARTS, SIZE = 12, 2, len(WORDS) + 2
KINDS = list(CAUSAL)


def decoder(name: str, files: Path, size: int = SIZE, **settings: Any) -> LanguageModel:
    """What assemble does: the decoder's wants, the decoder, its published weights."""
    LanguageModel.wants({"name": name, **settings}, files)
    torch.manual_seed(1)
    made = LanguageModel(width=WIDTH, size=size, starts=STARTS, files=files, name=name, **{"heads": 2, **settings})
    made.load_pretrained()
    return made.eval()


def memory(rows: int = 3, tokens: int = 7) -> Stream:
    """Rows with gaps; the first is full, and of the last only one token is there."""
    made = torch.Generator().manual_seed(2)
    mask = torch.rand(rows, tokens, generator=made) > 0.4
    mask[0], mask[-1], mask[:, 2] = True, False, True
    return Stream(torch.randn(rows, tokens, WIDTH, generator=made) * mask[..., None], mask)


def sentences(rows: int = 3, length: int = 6) -> Tensor:
    ids = torch.randint(0, SIZE, (rows, length), generator=torch.Generator().manual_seed(3))
    ids[:, 0] = SIZE + torch.arange(rows) % STARTS
    return ids


def stepwise(made: LanguageModel, seen: Stream, ids: Tensor) -> tuple[Tensor, State]:
    state, found = made.begin(seen, ids.shape[1]), []
    for token in ids.unbind(1):
        logits, state = made.step(state, token)
        found.append(logits)
    return torch.stack(found, 1), state


def padded(seen: Stream, more: int) -> Stream:
    extra = seen.tokens.new_zeros(len(seen.mask), more, WIDTH)
    return Stream(torch.cat([seen.tokens, extra], 1), torch.cat([seen.mask, extra[..., 0] != 0], 1))


def near(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def hub_folder(kind: str, tmp_path: Path) -> str:
    return publish_lm(kind, tmp_path / "hub")


@pytest.mark.parametrize("prefix", ["linear", "resampler"])
def test_contract(hub_folder: str, tmp_path: Path, prefix: str, kind: str) -> None:
    files, settings = tmp_path / "run", {"name": hub_folder, "prefix": prefix, "heads": 2, "queries": 3}
    LanguageModel.wants(settings, files)
    wired = {"width": WIDTH, "size": SIZE, "starts": STARTS, "files": files}
    export = (kind, prefix) == ("llama", "linear")  # takes longer than all else
    check_decoder(lambda: LanguageModel(**wired, **settings), WIDTH, SIZE, STARTS, export)


@pytest.mark.parametrize("prefix", ["linear", "mlp", "resampler"])
@pytest.mark.parametrize("kind", ["llama"])
def test_it_says_what_transformers_says_of_the_same_vectors(hub_folder: str, tmp_path: Path, prefix: str) -> None:
    """Row by row, without padding: prefix, prompt, start, words, one after the other."""
    made = decoder(hub_folder, tmp_path / "run", prefix=prefix, prompt="a dog")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hub_folder).eval()
    words = theirs.get_input_embeddings()
    seen, ids = memory(), sentences()
    with torch.no_grad():
        logits = made(seen, ids)
        for row in range(3):
            own = made.map(seen.tokens[row][seen.mask[row]][None], torch.ones(1, int(seen.mask[row].sum())).bool())
            prompt = words(words_tokenizer()("a dog", return_tensors="pt", add_special_tokens=False).input_ids)
            start = made.start(ids[row, :1] - SIZE)[None]
            vectors = torch.cat([own.tokens, prompt, start, words(ids[row : row + 1, 1:])], 1)
            near(logits[row], theirs(inputs_embeds=vectors).logits[0, -6:])


@pytest.mark.parametrize("prefix", ["mlp", "resampler"])
def test_step_by_step_is_all_at_once(hub_folder: str, tmp_path: Path, prefix: str) -> None:
    made = decoder(hub_folder, tmp_path / "run", prefix=prefix, prompt="the cat")
    with torch.no_grad():
        near(stepwise(made, memory(), sentences())[0], made(memory(), sentences()))


@torch.no_grad()
def test_neither_padding_nor_neighbours_nor_the_future_change_a_row(hub_folder: str, tmp_path: Path) -> None:
    made = decoder(hub_folder, tmp_path / "run", prompt="a")
    seen, ids = memory(), sentences()
    whole = made(seen, ids)
    near(made(padded(seen, 5), ids), whole)
    near(stepwise(made, padded(seen, 5), ids)[0], whole)
    for row in range(3):
        alone = Stream(seen.tokens[row][seen.mask[row]][None], torch.ones(1, int(seen.mask[row].sum())).bool())
        near(made(alone, ids[row : row + 1])[0], whole[row])
    later = ids.clone()
    later[:, 4:] = 1
    near(made(seen, later)[:, :4], whole[:, :4])
    other = made(seen._replace(tokens=seen.tokens.flip(2)), ids)
    assert (other - whole).abs().max() > 1e-3  # it does look


@torch.no_grad()
def test_beams_are_reordered_with_what_they_said(hub_folder: str, tmp_path: Path) -> None:
    made = decoder(hub_folder, tmp_path / "run")
    seen = Stream(*(t[:1].expand(3, *t.shape[1:]) for t in memory()[:2]))  # three beams of one row
    ids, order = sentences(), torch.tensor([2, 0, 0])
    _, state = stepwise(made, seen, ids[:, :3])
    state = state._replace(past={n: t.index_select(0, order) for n, t in state.past.items()})
    logits, _ = made.step(state, ids[:, 3])
    near(logits, made(seen, torch.cat([ids[order, :3], ids[:, 3:4]], 1))[:, -1])
    assert all(t.shape[0] == 3 for t in [*state.past.values(), *state.fixed.values()])
    assert {t.shape[2] for t in state.past.values()} == {3}  # the prefix is not carried along


@torch.no_grad()
def test_look_sums_to_one_over_the_memory(hub_folder: str, tmp_path: Path) -> None:
    for prefix in ("linear", "resampler"):
        made = decoder(hub_folder, tmp_path / prefix, prefix=prefix)
        look = made.look(memory(), sentences())
        assert look is not None
        assert look.shape == (3, 6, 7)
        near(look.sum(2), torch.ones(3, 6))
        assert not look.masked_select(~memory().mask[:, None]).any()
        near(made.look(padded(memory(), 2), sentences())[:, :, :7], look)  # type: ignore[index]
        near(made(memory(), sentences()), decoder(made.name, tmp_path / prefix, prefix=prefix)(memory(), sentences()))


@pytest.mark.parametrize("kind", ["gpt2"])
@torch.no_grad()
def test_look_is_the_attention_to_the_prefix(hub_folder: str, tmp_path: Path) -> None:
    """Of the first layer of a one-layer model, by hand: softmax of queries and keys."""
    made = decoder(publish_lm("gpt2", tmp_path / "one", n_layer=1, n_head=1), tmp_path / "run", prefix="linear")
    seen, ids = Stream(*(t[:1] for t in memory()[:2])), sentences(1)
    tokens, _, _, _ = made._teacher(seen, ids)
    block = made.core.transformer.h[0]
    x = block.ln_1(tokens + made.core.transformer.wpe(torch.arange(tokens.shape[1])))
    query, key, _ = block.attn.c_attn(x).split(16, 2)
    scores = (query @ key.transpose(1, 2) / 4).masked_fill(torch.ones(13, 13).triu(1).bool(), -torch.inf).softmax(2)
    expected = scores[:, -6:, :7] / scores[:, -6:, :7].sum(2, keepdim=True)
    near(made.look(seen, ids), expected)  # type: ignore[arg-type]


def test_gradients_are_finite_and_reach_everything(hub_folder: str, tmp_path: Path) -> None:
    made = decoder(hub_folder, tmp_path / "run", prefix="resampler", prompt="a dog").train()
    made(memory(), sentences()).square().mean().backward()
    assert {n for n, p in made.named_parameters() if p.grad is None or not p.grad.isfinite().all()} == set()
    assert made.start.weight.grad is not None
    assert made.start.weight.grad.abs().sum(1).min() > 0


@pytest.mark.parametrize("kind", ["gpt2"])
def test_what_is_frozen_is_the_language_model(hub_folder: str, tmp_path: Path) -> None:
    made = decoder(hub_folder, tmp_path / "run")
    made.core.requires_grad_(False)
    assert {n.partition(".")[0] for n, p in made.named_parameters() if p.requires_grad} == {"map", "start"}
    made.train()
    assert made.training
    assert not any(m.training for m in made.core.modules())  # no dropout in it
    made(memory(), sentences()).sum().backward()
    assert all(p.grad is not None for p in made.map.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_adapters_stand_beside_the_layers_within(hub_folder: str, tmp_path: Path) -> None:
    """Not beside the table of words, which GPT-2 uses both to read and to speak; and they learn."""
    from polymodal.assemble_extras import _add_lora
    from polymodal.core.settings import Lora
    from polymodal.core.spec_parts import PartSpec

    made = decoder(hub_folder, tmp_path / "run")
    with torch.no_grad():
        before = made(memory(), sentences())
    _add_lora(made.core, Lora(rank=2), PartSpec("decoder", "lm", {}, "tasks.say.decoder"))
    near(made.eval()(memory(), sentences()).detach(), before)  # they begin with nothing
    learning = {n for n, p in made.core.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in n and "lm_head" not in n for n in learning)
    near(stepwise(made, memory(), sentences())[0].detach(), before)
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1)
    made(memory(), sentences()).square().mean().backward()
    optimizer.step()
    assert (made(memory(), sentences()).detach() - before).abs().max() > 1e-4


def test_a_stored_decoder_needs_neither_hub_nor_folder(hub_folder: str, tmp_path: Path) -> None:
    made = decoder(hub_folder, tmp_path / "run", prompt="a dog")
    write_tensors(tmp_path / "weights.safetensors", made.state_dict())
    with torch.no_grad():
        before = made(memory(), sentences())
    shutil.rmtree(hub_folder)
    again = LanguageModel(width=WIDTH, size=SIZE, starts=STARTS, files=tmp_path / "run", name=hub_folder,
                          prompt="a dog", heads=2)  # fmt: skip
    assert LanguageModel.wants({"name": hub_folder}, tmp_path / "run")["end"] == 1
    again.load_state_dict(read_tensors(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(again.eval()(memory(), sentences()), before)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_more_and_fewer_rows_than_words(kind: str, tmp_path: Path) -> None:
    """Rows for no token are never said; tokens without a row get one, and the others keep theirs."""
    wide = decoder(publish_lm(kind, tmp_path / "wide", spare=5), tmp_path / "run_wide")
    assert wide(memory(), sentences()).shape == (3, 6, SIZE)
    assert wide.core.get_input_embeddings().num_embeddings == SIZE + 5
    name = publish_lm(kind, tmp_path / "narrow")
    narrow = decoder(name, tmp_path / "run_narrow", size=SIZE + 3)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(name)
    rows = narrow.core.get_input_embeddings().weight
    assert rows.shape[0] == SIZE + 3
    assert torch.equal(rows[:SIZE], theirs.get_input_embeddings().weight)
    tied = theirs.get_input_embeddings().weight is theirs.get_output_embeddings().weight
    assert (rows is narrow.core.get_output_embeddings().weight) == tied == (kind == "gpt2")
    ids = sentences().where(sentences() < SIZE, SIZE + 3)
    ids[:, 1] = SIZE + 2
    assert narrow(memory(), ids).isfinite().all()


def test_what_it_wants_of_the_reader(tmp_path: Path) -> None:
    from polymodal.tasks.sentences import Sentences, Words

    wanted = LanguageModel.wants({"name": publish_lm("gpt2", tmp_path / "hub")}, tmp_path / "run")
    reader = Sentences(**wanted)
    field = reader.fit(["a dog runs", "the cat sleeps !"])
    assert (field["size"], field["end"]) == (SIZE, words_tokenizer().eos_token_id)
    assert field["tokenizer"] == wanted["tokenizer_json"]
    sample = reader("the cat sleeps")
    assert sample["ids"][0].tolist()[:4] == [*words_tokenizer()("the cat sleeps").input_ids, 1]
    assert Words(field).say([2 + WORDS.index("dog"), 2 + WORDS.index("runs"), 1, 5]) == "dog runs"


def test_a_model_type_is_a_shape_with_the_words_of_the_table(tmp_path: Path) -> None:
    settings = {"pretrained": False, "config": {"n_embd": 8, "n_layer": 1, "n_head": 2}}
    assert LanguageModel.wants({"name": "gpt2", **settings}, tmp_path) == {}
    assert LanguageModel.wants({"name": "gpt2", **settings}, tmp_path) == {}  # and again in a loaded run
    made = decoder("gpt2", tmp_path, size=21, **settings)
    assert made.core.get_input_embeddings().weight.shape == (21, 8)
    assert len(made.core.transformer.h) == 1
    assert made(memory(), sentences().where(sentences() < SIZE, 21)).shape == (3, 6, 21)
    with pytest.raises(SpecError, match=r"decoder\.name: is a model type.*\n.*\n.*openai-community/gpt2"):
        LanguageModel.wants({"name": "gpt2"}, tmp_path)
    with pytest.raises(SpecError, match="has no such value"):
        decoder("gpt2", tmp_path, **{**settings, "config": {"n_embed": 8}})
    with pytest.raises(SpecError, match="prompt: is for a published model"):
        decoder("gpt2", tmp_path, **settings, prompt="a dog")


def test_its_own_first_token_stands_before_all(tmp_path: Path) -> None:
    name = publish_lm("gpt2", tmp_path / "hub")
    tokenizer = words_tokenizer()
    tokenizer.bos_token = END
    tokenizer.save_pretrained(name)
    made = decoder(name, tmp_path / "run", prefix="linear")
    tokens, mask, _, _ = made._before(memory())
    assert mask.sum(1).tolist() == [1 + n for n in memory().mask.sum(1).tolist()]
    first = made.core.get_input_embeddings().weight[1]
    for row in range(3):
        assert torch.equal(tokens[row, int((~mask[row]).sum())], first)


def test_a_memory_that_is_too_long_is_cut_and_a_sentence_refused(tmp_path: Path) -> None:
    made = decoder(publish_lm("gpt2", tmp_path / "hub"), tmp_path / "run", prefix="linear", prompt="a dog")  # 64 places
    long = memory(tokens=100)
    with torch.no_grad():
        logits = made(long, sentences())
        near(stepwise(made, long, sentences())[0], logits)
        kept = [long.mask[row].nonzero()[:32, 0] for row in range(3)]
        for row, at in enumerate(kept):
            first = Stream(long.tokens[row : row + 1, at], torch.ones(1, len(at)).bool())
            near(made(first, sentences()[row : row + 1])[0], logits[row])
    made.begin(long, 30)
    with pytest.raises(SpecError, match="64 positions, of which 30 are left"):
        made.begin(long, 31)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mamba", "cannot speak"), ("t5", "cannot speak"), ("vit", "cannot speak"), ("resnet", "cannot speak")],
)
def test_models_that_cannot_speak(name: str, reason: str, tmp_path: Path) -> None:
    small = {"mamba": {"hidden_size": 16, "num_hidden_layers": 1}}.get(name, {})
    with pytest.raises(SpecError, match=rf"name: {reason}.*\n.*\n.*GPT-2, Llama"):
        decoder(name, tmp_path, pretrained=False, config=small)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"decoder\.name: no configuration"):
        LanguageModel.wants({"name": str(tmp_path / "nothing")}, tmp_path / "run")
    with pytest.raises(SpecError, match="heads: must divide the width, 16"):
        decoder(publish_lm("gpt2", tmp_path / "hub"), tmp_path / "run", prefix="resampler", heads=3)


@torch.no_grad()
def test_a_resampler_is_attention_by_its_formula() -> None:
    """One layer, one head, against the formula."""
    torch.manual_seed(0)
    made = Resampler(4, 6, queries=2, layers=1, heads=1)
    made.queries.weight.normal_()
    tokens, mask = torch.randn(1, 3, 4), torch.tensor([[True, False, True]])
    found = made(tokens, mask, True)
    seen = made.seen(made.map(tokens))[0, [0, 2]]
    queries = made.queries.weight
    attend, feed = made.attends[0], made.feeds[0]
    key, value = attend.key_value(seen).chunk(2, 1)
    look = (attend.query(made.norms[0](queries)) @ key.T / 6**0.5).softmax(1)
    x = queries + attend.out(look @ value)
    near(found.tokens[0], feed(x[None])[0])
    near(found.weights[0][:, [0, 2]], look)
    assert found.mask.all()
