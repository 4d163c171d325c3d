"""What a model is asked: head, loss, prediction and metrics, one file each."""
