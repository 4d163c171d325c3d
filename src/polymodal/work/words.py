"""Measures in words: what each is called, what it says, how its value is written, and which way is better."""

from __future__ import annotations

import math
from typing import NamedTuple

from polymodal.core.schema import Json
from polymodal.work.evaluation import Evaluation, Measures, TaskResult


class Measure(NamedTuple):
    """How a measure is told to a person."""

    name: str
    says: str
    lower: bool = False  # lower is better
    share: bool = False  # between 0 and 1, written as per cent


MEASURES = {
    "accuracy": Measure("accuracy", "share of rows answered right", share=True),
    "balanced_accuracy": Measure("balanced accuracy", "share answered right, every class counted alike", share=True),
    "subset_accuracy": Measure("subset accuracy", "share of rows with all their classes right", share=True),
    "f1": Measure("F1", "balance of finding and not over-claiming"),
    "macro_f1": Measure("macro F1", "balance of finding and not over-claiming, every class counted alike"),
    "micro_f1": Measure("micro F1", "balance of finding and not over-claiming, over all decisions"),
    "auroc": Measure("AUROC", "chance that a right row ranks above a wrong one; 0.5 is guessing"),
    "average_precision": Measure("average precision", "how clean the top of the ranking is; 1 is perfect"),
    "calibration_error": Measure("calibration error", "mean gap between stated confidence and being right", True, True),
    "coverage_90": Measure("90 % coverage", "share of rows whose set or interval at 90 % holds the truth", share=True),
    "set_size_90": Measure("size of the 90 % sets", "mean number of classes in a set", True),
    "interval_width_90": Measure("width of the 90 % intervals", "mean width in the table's units", True),
    "answered_at": Measure("answered", "share of rows that are sure enough to be answered", share=True),
    "accuracy_answered": Measure("accuracy of answers", "share right among the rows that are answered", share=True),
    "vqa_accuracy": Measure("VQA accuracy", "share answered as people did; three make it wholly right", share=True),
    "exact_match": Measure("exact match", "share answered as somebody did", share=True),
    "wups_09": Measure("WUPS at 0.9", "share answered right, or by a word that WordNet has very near", share=True),
    "wups_00": Measure("WUPS at 0.0", "nearness of the answers in WordNet", share=True),
    "in_reach": Measure("answers in reach", "share of rows with an answer that could be given", share=True),
    "log_loss": Measure("log loss", "how surprised the model is by the truth", True),
    "loss": Measure("loss", "what training lowers", True),
    "masked_accuracy": Measure("masked accuracy", "share of hidden tokens that are named right", share=True),
    "perplexity": Measure("perplexity", "among how many tokens, equally likely, the model would be as unsure", True),
    "weight": Measure("weight", "what the loss of a task is multiplied by"),
    "rmse": Measure("RMSE", "typical error, large ones counting more", True),
    "mae": Measure("MAE", "mean absolute error", True),
    "rmse_original": Measure("RMSE, own units", "typical error in the table's units", True),
    "mae_original": Measure("MAE, own units", "mean absolute error in the table's units", True),
    "mape": Measure("MAPE", "mean error as a share of the true value", True, True),
    "r2": Measure("R²", "share of the target's variance explained; 0 is guessing the mean"),
    "bleu_1": Measure("BLEU-1", "share of words said that stand in a reference; too short a text costs", share=True),
    "bleu_2": Measure("BLEU-2", "the same, up to pairs of words", share=True),
    "bleu_3": Measure("BLEU-3", "the same, up to three words in a row", share=True),
    "bleu_4": Measure("BLEU-4", "the same, up to four words in a row", share=True),
    "rouge_l": Measure("ROUGE-L", "how much of a reference is said, in its order", share=True),
    "cider": Measure("CIDEr-D", "agreement with the references in telling words; 10 is the same text"),
    "distinct_1": Measure("distinct-1", "different words among the words said: variety", share=True),
    "distinct_2": Measure("distinct-2", "different pairs of words among the pairs said: variety", share=True),
    "wer": Measure("word error rate", "words to change, add or drop, per word of the reference", True, True),
    "cer": Measure("character error rate", "characters to change, add or drop, per one of the reference", True, True),
    "too_few_steps": Measure("too few steps", "share of rows with fewer steps than their text has signs", True, True),
    "unanswered": Measure("labels without a step", "share of the labels whose step was cut off", True, True),
    "span_f1": Measure("F1 of spans", "balance of finding whole names and not over-claiming"),
    "span_precision": Measure("precision of spans", "share of the names given that are right", share=True),
    "span_recall": Measure("recall of spans", "share of the names that are found whole", share=True),
    "mrr": Measure("mean reciprocal rank", "1 / the place of the right one, on average; 1 is always first"),
    "mrr_new": Measure("mean reciprocal rank, new", "the same, of rows whose item no training row has"),
    "recall_10_new": Measure("recall at 10, new", "share of the rows with a new item that have it in ten", share=True),
    "coverage_10": Measure("coverage at 10", "share of the items that stand among anybody's first ten", share=True),
    "new_items": Measure("new items", "share of rows whose item no training row has", share=True),
    "recall_1": Measure("recall at 1", "share of queries with a right answer in the first place", share=True),
    "recall_5": Measure("recall at 5", "share of queries with a right answer among the first five", share=True),
    "recall_10": Measure("recall at 10", "share of queries with a right answer among the first ten", share=True),
    "median_rank": Measure("median rank", "the place of the first right answer; 1 is the best", True),
    "map": Measure("mean average precision", "how clean the top of the rankings is; 1 is perfect"),
    "ndcg_10": Measure("nDCG at 10", "right answers among the first ten, earlier ones counting more; 1 is perfect"),
    "mean_recall": Measure("mean recall", "the mean of recall at 1, 5 and 10 both ways", share=True),
    "clip_score": Measure("CLIPScore", "how well text fits picture, by an aligned model; 0 to 2.5"),
    "ref_clip_score": Measure("RefCLIPScore", "the same, and how near the text is to a reference"),
}


RANKED = ("recall_1", "recall_5", "recall_10", "median_rank", "map", "ndcg_10")


def measure(name: str) -> Measure:
    """The words for a measure; a name that is not known stands for itself, and higher counts as better."""
    return MEASURES.get(name) or _directed(name) or Measure(name.replace("_", " "), "")


def _directed(name: str) -> Measure | None:
    """`picture → text, recall at 1` for `picture_to_text_recall_1`: a measure of a ranking, with who looks for what."""
    ending = next((e for e in RANKED if name.endswith(f"_{e}") and "_to_" in name), None)
    if ending is None:
        return None
    way = name.removesuffix(f"_{ending}").replace("_to_", " → ", 1)
    return MEASURES[ending]._replace(name=f"{way}, {MEASURES[ending].name}")


def written(value: Json, name: str = "") -> str:
    """`94.2 %` for a share, `0.942`, `12.3` or `1.2e+06` for a number, `–` where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return "–"
    if measure(name).share:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if isinstance(value, float) and abs(value) < 10 else f"{value:.4g}"


def interval(found: dict[str, Json], name: str) -> str:
    """`92.1 to 96.0 %`, or nothing where no interval is known."""
    low, high = found.get("ci95") or (None, None)
    return "" if low is None or high is None else f"{written(low, name).removesuffix(' %')} to {written(high, name)}"


def main_measure(result: TaskResult) -> str | None:
    """The measure that stands for a task: the one that chose the epoch, or the first."""
    return result.metric if result.metric in result.measures else next(iter(result.measures), None)


def main_split(evaluations: dict[str, Evaluation]) -> str | None:
    """The table that the headline speaks of: test where there is one, else the last one measured."""
    return "test" if "test" in evaluations else next(reversed(evaluations), None)


def guessing(result: TaskResult, name: str) -> tuple[str, float] | None:
    """The most common answer and the accuracy of always giving it; None where that means nothing."""
    answers = [t for t in result.truth if isinstance(t, str | int | bool)]
    if name != "accuracy" or not answers or len(answers) != len(result.truth):
        return None
    counts: dict[str, int] = {}
    for answer in answers:
        counts[str(answer)] = counts.get(str(answer), 0) + 1
    common = max(counts, key=lambda a: counts[a])
    return common, counts[common] / len(answers)


def falls(full: Measures, withheld: dict[str, dict[str, Measures]], task: str) -> list[dict[str, Json]]:
    """How much worse the task's main measure gets without each input, the most needed input first.

    `fall` is positive where the model gets worse; `low` and `high` are its limits when the interval without the input
    is known (that of the difference itself is narrower).
    """
    name = next(iter(full), None)
    if name is None or full[name].get("value") is None:
        return []
    sign = -1 if measure(name).lower else 1
    found = []
    for entry, tasks in withheld.items():
        without = tasks.get(task, {}).get(name)
        if without is None or without.get("value") is None:
            continue
        ends = [sign * (full[name]["value"] - end) for end in without.get("ci95") or () if end is not None]
        limits = {"low": min(ends), "high": max(ends)} if len(ends) == 2 else {"low": None, "high": None}
        fall = sign * (full[name]["value"] - without["value"])
        found.append({"input": entry, "measure": name, "without": without, "fall": fall, **limits})
    return sorted(found, key=lambda f: -f["fall"])


def change(fall: float, name: str) -> str:
    """How a score moves: `−31.2 points` for a share, `−0.312` otherwise; `fall` is positive where it gets worse."""
    moved = fall if measure(name).lower else -fall
    if measure(name).share:
        return f"{100 * moved:+.1f} points".replace("-", "−")
    return f"{moved:+.3g}".replace("-", "−")
