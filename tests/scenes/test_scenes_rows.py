"""No single input gives the answer away; the sentence with everything else does."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from polymodal.core.errors import UserError
from polymodal.scenes import parse_caption, scene_rows
from polymodal.scenes.facts import SPOKEN, VALUES
from polymodal.scenes.rows import check


def same(one, two):
    assert one.scene.picture.tobytes() == two.scene.picture.tobytes()
    assert np.array_equal(one.scene.sound, two.scene.sound)
    assert np.array_equal(one.scene.masks, two.scene.masks)
    plain = [(r.number, r.sentence, r.match, r.question, r.answer, r.split, r.scene.kilograms) for r in (one, two)]
    assert plain[0] == plain[1]


def content(row, name):
    return {
        "picture": row.scene.picture.tobytes(),
        "sentence": row.sentence,
        "sound": row.scene.sound.tobytes(),
        "numbers": (row.scene.kilograms, row.scene.celsius),
    }[name]


INPUTS = ("picture", "sentence", "sound", "numbers")


@pytest.mark.parametrize("setting", [{}, {"objects": 4, "language": "both"}])
def test_the_same_seed_gives_the_same_rows_and_more_rows_only_follow(setting):
    few, many = (list(scene_rows(n, seed=3, size=32, **setting)) for n in (40, 60))
    assert len(few) == 40
    for one, two in zip(few, many, strict=False):
        same(one, two)
    other = list(scene_rows(40, seed=4, size=32, **setting))
    assert [r.sentence for r in few] != [r.sentence for r in other]


def test_the_rows_of_a_seed_are_the_same_on_every_machine():
    """Written down once: they change with nothing but the code that draws them."""
    rows = list(scene_rows(8, seed=3, size=32))
    assert rows[1].sentence == "a yellow circle at the bottom left, light, with a low tone"
    assert rows[4].sentence == "a green square at the bottom right, light, with a high tone"
    assert [r.match for r in rows[:6]] == ["yes", "no", "no", "yes", "no", "yes"]
    scenes = [r.scene for r in rows[:5:2]]
    assert [(s.kilograms, s.celsius) for s in scenes] == [(2.4, 28.3), (1.9, 3.5), (2.8, 16.7)]
    assert [int(np.asarray(s.picture).sum(dtype=int)) for s in scenes] == [629873, 720424, 609360]


@pytest.mark.parametrize("setting", [{}, {"objects": 4, "language": "both"}])
def test_whatever_is_known_without_the_sentence_is_as_often_right_as_wrong_in_every_split(setting):
    """So is the sentence alone: any function of these inputs is right in exactly half of the rows."""
    rows = list(scene_rows(600, size=16, **setting))
    known = [*combinations(("picture", "sound", "numbers"), 1), ("picture", "sound", "numbers"), ("sentence",)]
    for split in ("train", "valid", "test"):
        for names in known:
            seen = Counter()
            for row in rows:
                if row.split == split:
                    seen[tuple(content(row, n) for n in names)] += 1 if row.match == "yes" else -1
            assert seen, f"no rows in {split}"
            assert not any(seen.values()), f"{names} tells the answer in {split}"


def test_everything_together_determines_the_answer_and_each_input_is_needed():
    heard = {"picture": ("shape", "colour", "place"), "sound": ("pitch",), "numbers": ("weight",)}
    rows = list(scene_rows(400, size=16))
    for row in rows:
        said, facts = parse_caption(row.sentence), row.scene.facts
        false = [f for f in SPOKEN if said.value(f) != facts.value(f)]
        assert false == ([] if row.match == "yes" else [row.differs])
    for name, hidden in heard.items():
        votes = {}  # what is left to know, without this input, in each block -> the answers it goes with
        for row in rows:
            left = tuple(row.scene.facts.value(f) for f in SPOKEN if f not in hidden)
            votes.setdefault((row.block, row.sentence, left), []).append(row.match)
        best = sum(max(Counter(v).values()) for v in votes.values()) / len(rows)
        assert best == 1 - len(hidden) / len(SPOKEN) / 2, f"the best answer without {name}"


def test_every_fact_is_false_equally_often_and_every_value_is_common():
    rows = list(scene_rows(2000, size=16))
    false = Counter(r.differs for r in rows if r.match == "no")
    assert false == dict.fromkeys(SPOKEN, 200)
    for fact, values in VALUES.items():
        counts = Counter(r.scene.facts.value(fact) for r in rows)
        assert set(counts) == set(values)
        assert all(abs(c / 2000 - 1 / len(values)) < 0.06 for c in counts.values()), counts


def test_splits_keep_blocks_together_and_hold_their_shares():
    rows = list(scene_rows(2000, size=16, valid=0.2, test=0.1))
    by_block = {}
    for row in rows:
        by_block.setdefault(row.block, set()).add(row.split)
    assert all(len(s) == 1 for s in by_block.values())
    counts = Counter(r.split for r in rows)
    assert abs(counts["valid"] - 400) <= 8
    assert abs(counts["test"] - 200) <= 8


def features(rows, name):
    if name == "picture":
        return np.stack([np.asarray(r.scene.picture.resize((8, 8))).ravel() for r in rows]).astype(float)
    if name == "sentence":
        return CountVectorizer(ngram_range=(1, 2)).fit_transform([r.sentence for r in rows]).toarray()
    if name == "sound":
        return np.stack([np.abs(np.fft.rfft(r.scene.sound))[:1000].reshape(50, 20).mean(1) for r in rows])
    return np.array([[r.scene.kilograms, r.scene.celsius] for r in rows])


@pytest.mark.parametrize("name", INPUTS)
def test_no_model_of_one_input_beats_chance_and_its_features_are_not_blind(name):
    rows = list(scene_rows(400, size=32))
    x, y, groups = features(rows, name), [r.match for r in rows], [r.block for r in rows]
    for model in (KNeighborsClassifier(1), RandomForestClassifier(20, random_state=0)):
        right = cross_val_predict(model, x, y, groups=groups, cv=GroupKFold(4)) == np.array(y)
        assert right.mean() == 0.5
    fact = {"picture": "place", "sentence": "", "sound": "pitch", "numbers": "weight"}[name]
    truth = [r.scene.facts.value(fact) if fact else parse_caption(r.sentence).value("shape") for r in rows]
    model = RandomForestClassifier(20, random_state=0)
    right = cross_val_predict(model, x, truth, groups=groups, cv=GroupKFold(4)) == np.array(truth)
    assert right.mean() > 0.9


def test_further_objects_never_make_a_false_sentence_true():
    rows = list(scene_rows(400, size=16, objects=4))
    assert Counter(len(r.scene.facts.things) for r in rows).keys() == {1, 2, 3, 4}
    for row in rows:
        said = parse_caption(row.sentence)
        shown = {(t.shape, t.colour, t.place) for t in row.scene.facts.things}
        first = said.things[0]
        assert len({t.place for t in row.scene.facts.things}) == len(row.scene.facts.things)
        seen = (first.shape, first.colour, first.place) in shown
        true = seen and (said.weight, said.pitch) == (row.scene.facts.weight, row.scene.facts.pitch)
        assert true == (row.match == "yes")


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ({"rows": 10}, "scenes.rows"),
        ({"rows": 0}, "scenes.rows"),
        ({"size": 8}, "scenes.size"),
        ({"language": "fr"}, "scenes.language"),
        ({"objects": 5}, "scenes.objects"),
        ({"valid": 0.6, "test": 0.4}, "scenes.valid, scenes.test"),
    ],
)
def test_wrong_settings_are_the_users_mistake(setting, where):
    with pytest.raises(UserError) as caught:
        check(**{"rows": 40, "size": 64, "language": "en", "objects": 1, "valid": 0.1, "test": 0.1, **setting})
    assert caught.value.where == where
