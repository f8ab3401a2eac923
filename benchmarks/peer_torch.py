"""A server as most tutorials write it: the network in eager PyTorch, FastAPI and uvicorn; a peer in bench_serve.py.

    python benchmarks/peer_torch.py '{"port": 8080, "weights": "weights.pt", "network": {...}}'

Fairly, though: in inference mode, not in the event loop, and with `num_at_once` images at a time on all cores.
"""

import io
import json
import sys
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional


class TorchModel:
    """The exported model once more, in PyTorch."""

    def __init__(
        self, weights: str, backbone: str, counts: list[int], size_px: int, mean: list, std: list, temperature: float
    ):
        self.counts, self.size_px, self.mean, self.std = counts, size_px, mean, std
        self.temperature = temperature
        self.network = timm.create_model(backbone, num_classes=len(counts))
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.eval()

    def pixels(self, image: bytes) -> Tensor:
        """Returns `image_CHW`, uint8, as the network sees it."""
        image_CHW = functional.pil_to_tensor(Image.open(io.BytesIO(image)).convert("RGB"))
        return functional.resize(image_CHW, [self.size_px, self.size_px], antialias=True)

    @torch.inference_mode()
    def predictions(self, images_BCHW: Tensor) -> list[dict[str, Any]]:
        floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
        logits_BK = self.network(functional.normalize(floats_BCHW, self.mean, self.std))
        return [
            {"count": self.counts[row.index(max(row))], "probabilities": dict(zip(self.counts, row, strict=True))}
            for row in (logits_BK / self.temperature).softmax(dim=1).tolist()
        ]


def main(port: int, weights: str, network: dict[str, Any], num_at_once: int) -> None:
    import anyio.to_thread
    import uvicorn
    from fastapi import FastAPI, UploadFile

    app, model = FastAPI(), TorchModel(weights, **network)

    @app.post("/invocations")
    async def invocations(file: UploadFile) -> dict:
        content = await file.read()
        return await anyio.to_thread.run_sync(predict, content, limiter=at_once)

    def predict(content: bytes) -> dict:
        return model.predictions(model.pixels(content)[None])[0]

    at_once = anyio.CapacityLimiter(num_at_once)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
