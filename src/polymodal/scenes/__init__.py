"""Built-in data: drawn pictures, sentences, tones and numbers, with exact ground truth for every task."""

from polymodal.scenes.facts import Facts, Thing
from polymodal.scenes.rows import Scene, SceneRow, scene_rows
from polymodal.scenes.say import caption, parse_caption
from polymodal.scenes.write import make_scenes

__all__ = ["Facts", "Scene", "SceneRow", "Thing", "caption", "make_scenes", "parse_caption", "scene_rows"]
