"""The same questions to the same adapters by lm-evaluation-harness (extra `harness`) with its vLLM backend."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contest import Bed
from engine.evaluation.questions import CONDITIONS
from engine.inference import chat
from engine.inference.settings import MAX_CONTEXT, engine_settings
from engine.news.items import NewsItem

TASK = """task: engram_bench
dataset_path: json
dataset_kwargs: {{data_files: {questions}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc_norm}}]
"""


def score(bed_: Bed, adapter: str, rank: int, items: Sequence[NewsItem], folder: str) -> list[bool]:
    """Whether each question was answered right by the harness's `acc_norm`, in the order of `list_questions`."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    write_task(bed_, items, Path(folder))
    settings = engine_settings(bed_.serving, bed_.precision, MAX_CONTEXT)
    arguments = {"pretrained": bed_.folder, "lora_local_path": adapter, "max_lora_rank": rank, **settings}
    done: Any = lm_eval.simple_evaluate(
        model="vllm",
        model_args=arguments,
        tasks=["engram_bench"],
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        bootstrap_iters=0,
    )
    samples = sorted(done["samples"]["engram_bench"], key=lambda sample: sample["doc_id"])
    return [bool(sample["acc_norm"]) for sample in samples]


def write_task(bed_: Bed, items: Sequence[NewsItem], folder: Path) -> None:
    """The questions as a task of the harness, with the chat template applied to their prompts."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bed_.folder)
    rows = list_questions(tokenizer, items)
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "engram_bench.yaml").write_text(TASK.format(questions=questions))


def list_questions(tokenizer: Any, items: Sequence[NewsItem]) -> list[dict[str, Any]]:
    """All questions of the items in all conditions, in the order in which the engine asks them."""
    return [
        {
            "prompt": chat.prompt_text(tokenizer, chat.with_news(news, question.text)),
            "options": list(question.options),
            "answer": question.answer,
        }
        for item in items
        for news in (None if condition == "closed_book" else item.text for condition in CONDITIONS)
        for question in item.questions
    ]
