"""How far to believe a model: temperatures, sets that hold the truth as often as wanted, rows left unanswered."""
