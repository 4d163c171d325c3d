"""Late fusion: every input answers by itself, and a rule joins the answers' scores."""
