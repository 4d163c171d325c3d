"""Text: cleaning, tokenizers trained on the table's own cells or taken from a pretrained model, and encoders."""
