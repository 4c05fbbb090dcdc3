"""ONNX Runtime and OpenVINO, both from the ONNX file that the package writes of a network.

Both in float32, and as other precision in bfloat16 and with weights and activations of 8 bits, whose ranges are those
of training images. `variant` is the runtime, the precision, and for OpenVINO how many streams: one that has all
threads, or a stream for each thread.
"""

import json
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.export import onnx_bytes

THREADS = int(os.environ["OMP_NUM_THREADS"])


def versions(variant: str) -> dict[str, str]:
    """What runs here, and what wrote the file."""
    return {name: import_module(name).__version__ for name in (variant.split()[0], "onnx")}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> Any:
    """A network with these weights; `variant` is such as "openvino bf16 1"."""
    runtime, precision, *streams = variant.split()
    config = json.loads(str(job["config"]))[preset]
    content = onnx_bytes(config, params, list(params.values())[-1].shape, {})
    if precision == "int8":
        content = quantized(content, job["calibration"])
    if runtime == "onnxruntime":
        return OnnxRuntime(content)
    return OpenVino(content, "bf16" if precision == "bf16" else "f32", int(*streams) or THREADS)


def quantized(content: bytes, images: np.ndarray) -> bytes:
    """The network of the file `content` in 8 bits: unsigned activations, signed weights with a scale a channel."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{"images": images}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(content)
        quantization.quantize_static(source, target, Reader(), per_channel=True)
        return target.read_bytes()


class OnnxRuntime:
    """Operations in turn, each on all threads; inputs and outputs are bound to arrays beforehand."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.size = self.session.get_outputs()[0].shape[1]
        self.value = onnxruntime.OrtValue

    def load_images(self, images: np.ndarray) -> Any:
        """Images (N, H, W, C), and where their embeddings go, as the session takes them."""
        binding = self.session.io_binding()
        x = self.value.ortvalue_from_numpy(np.ascontiguousarray(images))
        emb = self.value.ortvalue_from_shape_and_type([len(images), self.size], np.float32)
        binding.bind_ortvalue_input("images", x)
        binding.bind_ortvalue_output("embeddings", emb)
        return binding, emb

    def embed(self, chunk: Any) -> np.ndarray:
        """Embeddings (N, E)."""
        binding, emb = chunk
        self.session.run_with_iobinding(binding)
        return emb.numpy()


class OpenVino:
    """One network for each batch size, so that all shapes are fixed."""

    def __init__(self, content: bytes, precision: str, streams: int) -> None:
        import openvino

        self.core, self.content, self.streams = openvino.Core(), content, streams
        self.make_queue, self.queues = openvino.AsyncInferQueue, {}  # type: ignore[var-annotated]
        self.done: list[np.ndarray] = []
        able = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            raise ValueError("this processor has no operations on bfloat16")
        self.settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": THREADS,
            "NUM_STREAMS": str(streams),
            "INFERENCE_PRECISION_HINT": precision,  # else bfloat16 where the processor has it
        }

    def load_images(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C); their number gets a network of its own."""
        if len(images) not in self.queues:
            model = self.core.read_model(self.content)
            model.reshape({"images": images.shape})
            compiled = self.core.compile_model(model, "CPU", self.settings)
            queue = self.queues[len(images)] = self.make_queue(compiled, self.streams)
            queue.set_callback(self._keep)
        return np.ascontiguousarray(images)

    def _keep(self, request: Any, number: int) -> None:
        self.done[number] = request.get_output_tensor(0).data.copy()

    def embed_all(self, chunks: list[np.ndarray]) -> list[np.ndarray]:
        """Embeddings (N, E) of several batches, as many at once as there are streams."""
        self.done = [np.empty(0)] * len(chunks)
        for number, chunk in enumerate(chunks):
            self.queues[len(chunk)].start_async({0: chunk}, number)
        for queue in self.queues.values():
            queue.wait_all()
        return self.done
