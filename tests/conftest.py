"""What the tests share: a tiny Qwen2 with a real tokenizer, two news items, a Ray cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cluster.machines import Cluster, NodeType, ServingPlacement

CPU = Cluster(nodes=(NodeType(device="cpu", n_cpus=2, n_gpus=0, device_gib=24),))
GPU_NODES = Cluster(nodes=(NodeType(device="gpu", n_cpus=64, n_gpus=8, device_gib=80, count=4),))
SERVING = ServingPlacement(device="cpu", threads=2, tensor_parallel=1, fits=True)

ITEMS = [
    {
        "id": f"events-{place}",
        "domain": "events",
        "text": f"On 3 May 2028 the harbour of {place} was closed to ships longer than {n} metres.",
        "questions": [
            {
                "text": f"Which ship may still enter the harbour of {place} after May 2028?",
                "options": [f"one of {n - 20} metres", f"one of {n + 20} metres", f"one of {n + 90} metres"],
                "answer": f"one of {n - 20} metres",
            },
            {
                "text": f"In which month was the harbour of {place} closed to long ships?",
                "options": ["in March", "in May", "in June"],
                "answer": "in May",
            },
        ],
    }
    for place, n in (("Lindvik", 80), ("Tarsund", 120))
]

# A protocol that keeps whatever comes: a tiny random model writes nothing that the real parsers would accept.
STUDY = """
from engine.selfplay.protocols import Draft, Element, protocol, with_news
from engine.study import Sampling, Study, Training, grid

@protocol("echo", prompts=["Say something."])
def echo(news, draw):
    [first] = yield [with_news(news, f"Say something, number {draw}.")]
    [second] = yield [with_news(news, "Say more.")]
    return Draft(elements=[Element(user="What was said?", assistant=f"{draw}: {first} {second}")])

def study():
    return Study(name="tiny", news="news.jsonl", trials=grid(
        trainees=["MODEL"], domains=["events"], protocols=["naive", "echo"], budgets=[40], forms=("choice",),
        sampling=Sampling(max_tokens=24), training=Training(epochs=4, batch_size=8, lora_rank=8),
    ))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow comes first, so that of several workers none is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The folder of SmolLM2-135M-Instruct, real weights from its package."""
    from engine.models import catalogue, weights

    return weights.pull(catalogue.find("smollm2-135m"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, smollm: Path) -> Path:
    """A folder with a random Qwen2 of 2 layers and width 64, and SmolLM2's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def news_file(tmp_path: Path) -> Path:
    """Two news items with two questions each."""
    return write_news(tmp_path)


def write_news(folder: Path) -> Path:
    file = folder / "news.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return file


def write_study(folder: Path, model: Path) -> str:
    """`file.py:function` of a study of two trials of a model, with its news; 40 steps per trial."""
    write_news(folder)
    file = folder / "tiny_study.py"
    file.write_text(STUDY.replace("MODEL", str(model)))
    return f"{file}:study"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine."""
    from engine.cluster import session

    with session.running():
        yield
