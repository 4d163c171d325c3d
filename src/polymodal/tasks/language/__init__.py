"""How well words were chosen: measures of captions, answers and transcripts. Numpy only; cheap to import."""
