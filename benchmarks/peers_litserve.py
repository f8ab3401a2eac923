"""LitServe around PyTorch, which batches, and around ONNX Runtime; peers in bench_serve.py.

python benchmarks/peers_litserve.py '{"name": "litserve_onnx", "port": 8080, "model": "model", "num_workers": 2}'
"""

import json
import sys
from dataclasses import asdict
from typing import Any

import litserve

BATCH_SIZE, BATCH_TIMEOUT_S = 8, 0.01


class Torch(litserve.LitAPI):
    """One process, batches of what has come meanwhile, all cores for each."""

    def __init__(self, weights: str, network: dict[str, Any]):
        super().__init__(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S, api_path="/invocations")
        self.weights, self.network = weights, network

    def setup(self, device: str) -> None:
        from peer_torch import TorchModel

        self.model = TorchModel(self.weights, **self.network)

    def decode_request(self, request):  # a type here would make LitServe read something else than a form
        return self.model.pixels(request["file"].file.read())

    def predict(self, images_BCHW) -> list[dict[str, Any]]:  # batched and unbatched by LitServe
        return self.model.predictions(images_BCHW)


class Onnx(litserve.LitAPI):
    """The project's predictor, with a process and a model for each core."""

    def __init__(self, model: str):
        super().__init__(api_path="/invocations")
        self.folder = model

    def setup(self, device: str) -> None:
        from stocktake.serving.predictor import Predictor

        self.predictor = Predictor.open(self.folder, num_threads=1)

    def decode_request(self, request) -> bytes:
        return request["file"].file.read()

    def predict(self, image: bytes) -> dict[str, Any]:
        return asdict(self.predictor.predict(image))


def main(name: str, port: int, num_workers: int, **options: Any) -> None:
    api = {"litserve_torch": Torch, "litserve_onnx": Onnx}[name](**options)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=num_workers)
    # One process speaks HTTP, as one does for the others: it has little to do, and the cores count images.
    server.run("127.0.0.1", port, num_api_servers=1, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
