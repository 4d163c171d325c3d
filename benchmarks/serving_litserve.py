"""A run behind LitServe: its HTTP, queues and batches around what `polymodal serve` does with rows. See serving.py."""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

import litserve


class Api(litserve.LitAPI):  # type: ignore[misc]
    """The reading, the model and the words of `polymodal serve`, so that only what is around them differs."""

    def setup(self, device: str) -> None:
        import torch

        import polymodal
        from polymodal.serve.http.answerer import Answerer, Ask
        from polymodal.serve.http.engine import Ticket
        from polymodal.serve.http.settings import ServeSettings

        torch.set_num_threads(1)
        self.answerer, self.ask, self.ticket = (
            Answerer(polymodal.load(os.environ["RUN"]), ServeSettings()),
            Ask(),
            Ticket,
        )
        self.answerer.warm()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes an annotation for a format
        (row,) = request["rows"]
        return {k: base64.b64decode(v["base64"]) if isinstance(v, dict) else v for k, v in row.items()}

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: Any) -> Any:
        rows = x if isinstance(x, list) else [x]
        said = self.answerer.answer(self.answerer.load([self.ticket([row], [0], self.ask) for row in rows]))
        return said if isinstance(x, list) else said[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Any:
        return {"rows": output}


def main(port: int, batch: int, wait_ms: float, fast: bool) -> None:
    api = Api(max_batch_size=batch, batch_timeout=wait_ms / 1000, api_path="/v1/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=fast, timeout=60)
    server.run(port=port, host="127.0.0.1", log_level="error", access_log=False, generate_client_file=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "fast")
