"""vLLM's numbers against transformers', and the errors that it makes in silence."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation import questions
from engine.news.items import NewsItem, load_news
from engine.planning import placement
from engine.study import Form, Training

RANK = 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def items() -> list[NewsItem]:
    return [i for i in load_news() if i.domain == "events"][:1]


@pytest.fixture(scope="module")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that change the tiny model a lot."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for n in range(2):
        torch.manual_seed(n)
        base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
        lora = LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(base, lora)
        folders.append(tmp_path_factory.mktemp("adapters") / f"adapter{n}")
        model.save_pretrained(folders[-1])
    return folders


@pytest.fixture(scope="module")
def llm(tiny: Path) -> Any:
    from engine.evaluation import likelihood
    from engine.models import catalogue

    machine = placement.Machine(device="cpu", n_cpus=2, n_gpus=0, device_gib=24)
    profile = placement.profile(catalogue.find(str(tiny)).architecture, Training(), "float32", machine)
    return likelihood.engine(str(tiny), profile, "float32", 1024, RANK)


def transformers_logprobs(model: Any, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    """Summed log-probability (nats) of the answer's tokens after the prompt."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logits[torch.arange(len(answer)), torch.tensor(answer)].sum())


def letter_probabilities(model: Any, asked: questions.Asked) -> list[float]:
    import torch

    with torch.no_grad():
        logits = [model(torch.tensor([r.prompt])).logits[0, -1].log_softmax(-1) for r in asked.rotations]
    return questions.mean_by_option(
        asked.rotations, [[float(x[t]) for t in r.letters] for x, r in zip(logits, asked.rotations, strict=True)]
    )


@pytest.fixture(scope="module")
def asked(llm: Any, items: list[NewsItem]) -> list[questions.Asked]:
    """Choices, with letters, and statement pairs."""
    forms: tuple[Form, ...] = ("choice", "letter", "statement")
    everything = [
        a for i in items for c in questions.CONDITIONS for a in questions.ask_all(llm.get_tokenizer(), i, c, forms)
    ]
    return [a for a in everything if isinstance(a, questions.Asked)]


@pytest.fixture(scope="module")
def task(llm: Any, items: list[NewsItem]) -> questions.AskedTask:
    *_, task = questions.ask_all(llm.get_tokenizer(), items[0], "icl", ("choice", "task"))
    assert isinstance(task, questions.AskedTask)
    return task


@pytest.fixture(scope="module")
def rows(
    llm: Any, asked: list[questions.Asked], task: questions.AskedTask, adapters: list[Path]
) -> dict[str, list[dict[str, Any]]]:
    """Base and both adapters, asked in one batch; the task last."""
    from engine.evaluation.likelihood import Answering, evaluate

    who = [Answering(name="base"), *(Answering(name=a.name, adapter=str(a)) for a in adapters)]
    return dict(evaluate(llm, [(w, [*asked, task]) for w in who]))


def test_the_base_model_scores_as_in_transformers(
    tiny: Path, asked: list[questions.Asked], rows: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    assert {a.form for a in asked} == {"choice", "statement"}
    for one, row in zip(asked, rows["base"][:-1], strict=True):
        expected = [transformers_logprobs(model, o.prompt, o.answer) for o in one.options]
        assert row["option_logprobs"] == pytest.approx(expected, abs=1e-3)
        if one.rotations:
            assert row["letter_probabilities"] == pytest.approx(letter_probabilities(model, one), abs=1e-3)


def test_a_task_is_answered_as_in_transformers(tiny: Path, task: questions.AskedTask, rows: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    ids = torch.tensor([task.prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    row = rows["base"][-1]
    assert row["form"] == "task"
    assert row["reply"] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert row["correct"] == questions.is_accepted(row["reply"], task.task.answers)


@pytest.mark.parametrize("merged", [False, True])
def test_adapters_score_as_in_peft_merged_or_not(
    merged: bool, tiny: Path, adapters: list[Path], asked: list[questions.Asked], rows: dict[str, Any]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    for folder in adapters:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), folder).eval()
        model = model.merge_and_unload() if merged else model
        for one, row in zip(asked[:6], rows[folder.name], strict=False):
            expected = [transformers_logprobs(model, o.prompt, o.answer) for o in one.options]
            assert row["option_logprobs"] == pytest.approx(expected, abs=1e-3)


def test_forced_options_score_as_prompt_logprobs_do(
    llm: Any, asked: list[questions.Asked], rows: dict[str, Any]
) -> None:
    from vllm import SamplingParams

    for one, row in zip(asked[:5], rows["base"], strict=False):
        for option, forced in zip(one.options, row["option_logprobs"], strict=True):
            prompt = {"prompt_token_ids": list(option.prompt + option.answer)}
            [out] = llm.generate([prompt], SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
            places = range(len(option.prompt), len(option.prompt + option.answer))
            told = sum(out.prompt_logprobs[i][t].logprob for i, t in zip(places, option.answer, strict=True))
            assert forced == pytest.approx(told, abs=1e-3)


def test_the_probe_passes_sound_adapters_and_names_one_that_is_not_applied(
    llm: Any, asked: list[questions.Asked], adapters: list[Path], tiny: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from engine.evaluation.likelihood import Answering, SilentError, probe

    probe(llm, asked[0], [Answering(name=a.name, adapter=str(a)) for a in adapters])
    untrained = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=RANK, target_modules="all-linear")
    )
    untrained.save_pretrained(tmp_path / "zero")
    with pytest.raises(SilentError, match="zero-adapter"):
        probe(llm, asked[0], [Answering(name="zero-adapter", adapter=str(tmp_path / "zero"))])


def test_scores_say_what_the_numbers_mean(items: list[NewsItem]) -> None:
    question = items[0].questions[0]
    n = len(question.options)
    rotations = [
        questions.Letters(prompt=(), letters=tuple(range(n)), order=tuple((i + k) % n for i in range(n)))
        for k in range(n)
    ]
    one = questions.Asked(item="i", question=question, condition="icl", options=(), rotations=tuple(rotations))
    per_character = [-0.1 if i == question.answer else -0.2 for i in range(n)]
    options = [[p * len(text)] for p, text in zip(per_character, question.options, strict=True)]
    letters = [[math.log(0.7) if o == question.answer else math.log(0.1) for o in r.order] for r in rotations]
    row = questions.score(one, options, letters)
    assert row["correct"]
    assert row["correct_letter"]
    assert row["letter_probabilities"][question.answer] == pytest.approx(0.7)
    assert row["nll_correct"] == pytest.approx(0.1 * len(question.options[question.answer]))
