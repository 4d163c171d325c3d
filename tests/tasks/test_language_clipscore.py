"""CLIPScore by hand, and embeddings of a small aligned model beside transformers' own way to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import CLIPModel, PreTrainedTokenizerFast

from polymodal.core.errors import SpecError
from polymodal.tasks.language import clipscore
from polymodal.tasks.language.clipscore import PROMPT, Aligned, Preparation


@pytest.fixture(scope="module")
def name(hub: Callable[[str], str]) -> str:
    """A folder with a CLIP of random weights, its tokenizer and how its pictures are prepared."""
    return hub("clip")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = ((30, 50), (61, 24), (24, 24))
    return [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def test_scores_by_hand() -> None:
    pictures = np.array([[1.0, 0], [0, 2], [3, 4], [0, 0]])
    texts = np.array([[1.0, 0], [0, -1], [1, 0], [1, 1]])
    assert clipscore.clip_score(pictures, texts) == pytest.approx([2.5, 0, 2.5 * 0.6, 0])
    references, row = np.array([[1.0, 0], [0, 1], [0.0, -1], [0, 1]]), np.array([0, 0, 1, 2])
    found = clipscore.ref_clip_score(pictures, texts, references, row)
    assert found[0] == pytest.approx(2 * 2.5 * 1 / 3.5), "the nearest reference"
    assert found[1:3].tolist() == [0, 0], "nothing where picture or reference is not near"
    assert np.isnan(found[3]), "no reference"


def test_measure_leaves_out_what_is_undefined() -> None:
    records = {"clip_score": np.array([1.0, 2, 0]), "ref_clip_score": np.array([0.5, np.nan, 1])}
    found = clipscore.measure(records, np.array([[1, 1, 1], [1, 3, 0], [0, 1, 0.0]]))
    np.testing.assert_allclose(found["clip_score"], [1, 7 / 4, 2])
    np.testing.assert_allclose(found["ref_clip_score"], [0.75, 0.5, np.nan])
    assert "ref_clip_score" not in clipscore.measure({"clip_score": np.ones(2)}, np.ones((1, 2)))


def test_embeddings_are_those_of_the_model(name: str, pictures: list[np.ndarray]) -> None:
    """`logits_per_image` of the model's own forward pass, from pictures that its own processor prepared."""
    texts = ["a red dog", "a cat", "zebra a a a a a a a a a"]
    aligned = Aligned(name, batch=2)
    seen, read = aligned.embed_pictures(pictures), aligned.embed_texts(texts)
    assert seen.shape == read.shape == (3, 12)
    assert seen.dtype == read.dtype == np.float32
    model, tokenizer = CLIPModel.from_pretrained(name).eval(), PreTrainedTokenizerFast.from_pretrained(name)
    ids = tokenizer([PROMPT + t for t in texts], padding=True, truncation=True, max_length=8, return_tensors="pt")
    pixels = torch.from_numpy(np.stack([aligned.prepare(p) for p in pictures]))
    with torch.no_grad():
        cosines = model(pixel_values=pixels, input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
        expected = cosines.logits_per_image / model.logit_scale.exp()
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (seen, read)]
    np.testing.assert_allclose(unit[0] @ unit[1].T, expected.numpy(), atol=1e-5)
    assert clipscore.clip_score(seen, read) == pytest.approx(2.5 * np.maximum(np.diag(expected), 0), abs=1e-5)


def test_one_by_one_and_many_at_once(name: str, pictures: list[np.ndarray]) -> None:
    texts = ["a", "a red dog", "red red red"]
    many, one = Aligned(name), Aligned(name, batch=1)
    np.testing.assert_allclose(many.embed_texts(texts), one.embed_texts(texts), atol=1e-5)
    np.testing.assert_allclose(many.embed_pictures(pictures), one.embed_pictures(pictures), atol=1e-5)
    assert len(many.embed_texts([])) == len(many.embed_pictures([])) == 0


def test_records_of_pictures_and_texts(name: str, pictures: list[np.ndarray]) -> None:
    judge, said, references = Aligned(name), ["a dog", "a cat", "red"], [["a red dog", "a dog"], [], ["cat"]]
    found = clipscore.records(judge, pictures, said, references)
    seen, read = judge.embed_pictures(pictures), judge.embed_texts(said)
    np.testing.assert_allclose(found["clip_score"], clipscore.clip_score(seen, read))
    own = found["clip_score"][0]
    assert found["ref_clip_score"][0] == pytest.approx(2 * own / (own + 1)), "the second reference is the same text"
    assert np.isnan(found["ref_clip_score"]).tolist() == [False, True, False]
    assert np.isnan(clipscore.records(judge, pictures, said, [[], [], []])["ref_clip_score"]).all()


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"size": {"height": 20, "width": 30}, "do_center_crop": False},
        {"size": 40, "crop_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
    ],
)
def test_pictures_are_prepared_as_transformers_does(facts: dict, pictures: list[np.ndarray]) -> None:
    own = getattr(transformers, "CLIPImageProcessorPil", None)
    if own is None:
        pytest.skip("this transformers prepares pictures with torchvision only")
    given = facts or {"size": {"shortest_edge": 24}, "crop_size": 24}
    expected = own(**given)(pictures, return_tensors="np")["pixel_values"]
    prepare = Preparation(facts, 24)
    for picture, one in zip(pictures, expected, strict=True):
        np.testing.assert_allclose(prepare(picture), one, atol=1e-5)


def test_models_that_cannot_judge(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="clip_score"):
        Aligned(str(tmp_path / "nothing"))
    bert = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    transformers.BertModel(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(SpecError, match="no common space"):
        Aligned(str(tmp_path / "bert"))
