"""vLLM's numbers against transformers', and the errors that it makes in silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVING

from engine.evaluation import marks, questions
from engine.evaluation.questions import Asked, Letters, Option, Reply
from engine.news.items import NewsItem, load_news

RANK = 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def item() -> NewsItem:
    return next(i for i in load_news() if i.domain == "events")


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

    return likelihood.start(str(tiny), SERVING, "float32", 1024, RANK)


def transformers_logprobs(model: Any, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    """Summed log-probability (nats) of the answer's tokens after the prompt."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logits[torch.arange(len(answer)), torch.tensor(answer)].sum())


def letter_probabilities(model: Any, asked: Asked) -> list[float]:
    """Mean over the rotations of each option's share, from transformers."""
    import torch

    totals = torch.zeros(len(asked.parts))
    for k, part in enumerate(asked.parts):
        assert isinstance(part, Letters)
        with torch.no_grad():
            shares = model(torch.tensor([part.prompt])).logits[0, -1][list(part.letters)].softmax(-1)
        totals += shares.roll(k) / len(asked.parts)  # at letter i stands option i + k
    return totals.tolist()


@pytest.fixture(scope="module")
def asked(llm: Any, item: NewsItem) -> dict[str, list[Asked]]:
    """Everything about an item, by form."""
    by_form: dict[str, list[Asked]] = {}
    for one in questions.ask_all(llm.get_tokenizer(), [item], ("choice", "letter", "statement", "task")):
        by_form.setdefault(one.form.name, []).append(one)
    return by_form


@pytest.fixture(scope="module")
def rows(llm: Any, asked: dict[str, list[Asked]], adapters: list[Path]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By model and form: base and both adapters, asked in one batch."""
    from engine.evaluation.likelihood import Answerer, answer_all

    who = [Answerer(name="base"), *(Answerer(name=a.name, adapter=str(a)) for a in adapters)]
    everything = [one for of_form in asked.values() for one in of_form]
    [answered] = answer_all(llm, [(w, everything) for w in who])
    return {
        name: {form: [row for row in mine if row["form"] == form] for form in asked} for name, mine in answered.items()
    }


def test_the_base_model_scores_as_in_transformers(
    tiny: Path, asked: dict[str, list[Asked]], rows: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    for form in ("choice", "statement"):
        for one, row in zip(asked[form], rows["base"][form], strict=True):
            expected = [transformers_logprobs(model, o.prompt, o.answer) for o in one.parts if isinstance(o, Option)]
            assert row["option_logprobs"] == pytest.approx(expected, abs=1e-3)
    for one, row in zip(asked["letter"], rows["base"]["letter"], strict=True):
        assert row["letter_probabilities"] == pytest.approx(letter_probabilities(model, one), abs=1e-3)


def test_a_task_is_answered_as_in_transformers(tiny: Path, asked: dict[str, list[Asked]], rows: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    for one, row in zip(asked["task"], rows["base"]["task"], strict=True):
        [part] = one.parts
        assert isinstance(part, Reply)
        ids = torch.tensor([part.prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert row["reply"] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert row["correct"] is False  # a random model writes no answer


@pytest.mark.parametrize("merged", [False, True])
def test_adapters_score_as_in_peft_merged_or_not(
    merged: bool, tiny: Path, adapters: list[Path], asked: dict[str, list[Asked]], rows: dict[str, Any]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    for folder in adapters:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), folder).eval()
        model = model.merge_and_unload() if merged else model
        for one, row in zip(asked["choice"][:6], rows[folder.name]["choice"], strict=False):
            expected = [transformers_logprobs(model, o.prompt, o.answer) for o in one.parts if isinstance(o, Option)]
            assert row["option_logprobs"] == pytest.approx(expected, abs=1e-3)


def test_forced_options_score_as_prompt_logprobs_do(
    llm: Any, asked: dict[str, list[Asked]], rows: dict[str, Any]
) -> None:
    from vllm import SamplingParams

    for one, row in zip(asked["choice"][:5], rows["base"]["choice"], strict=False):
        for option, forced in zip(one.parts, row["option_logprobs"], strict=True):
            assert isinstance(option, Option)
            prompt = {"prompt_token_ids": list(option.prompt + option.answer)}
            [out] = llm.generate([prompt], SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
            places = range(len(option.prompt), len(option.prompt + option.answer))
            summed = sum(out.prompt_logprobs[i][t].logprob for i, t in zip(places, option.answer, strict=True))
            assert forced == pytest.approx(summed, abs=1e-3)


def test_the_probe_passes_sound_adapters_and_names_those_that_are_not_applied_or_not_loaded(
    llm: Any, asked: dict[str, list[Asked]], adapters: list[Path], tiny: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from engine.evaluation.likelihood import Answerer
    from engine.evaluation.probes import probe

    untrained = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=RANK, target_modules="all-linear")
    )
    untrained.save_pretrained(tmp_path / "zero")
    sound = [Answerer(name=a.name, adapter=str(a)) for a in adapters]
    bad = [Answerer(name=name, adapter=str(tmp_path / name)) for name in ("zero", "nothing")]
    faults = probe(llm, asked["choice"], [*sound, *bad])
    assert set(faults) == {"zero", "nothing"}
    assert f"{tmp_path / 'zero'}: it scores as its base" in faults["zero"]
    assert f"{tmp_path / 'nothing'}: the engine does not load it" in faults["nothing"]


# ---- which adapter leaks into its base: none does here, so the scores are written -----------------------------------


def script(
    monkeypatch: pytest.MonkeyPatch, base_beside: Callable[[set[str]], float], noise: float = 0.0
) -> list[set[str]]:
    """Scores of a base that depend on the adapters beside it, and of adapters that are sound; gives what is asked.

    `noise`: how far the base's scores move when it is asked one question at a time.
    """
    from engine.evaluation import probes

    batches: list[set[str]] = []

    def score(llm: Any, asked: Any, who: Any) -> dict[str, list[float]]:
        beside = {one.name for one in who} - {"base"}
        batches.append(beside)
        base = base_beside(beside)
        scores = {name: [-7.0, -8.0] for name in beside} | {"base": [base, -3.0]}
        return scores if len(asked) > 1 else {"base": [base + noise if asked == ["a"] else -3.0]}

    monkeypatch.setattr(probes, "option_logprobs", score)
    monkeypatch.setattr(probes, "choices", list)
    monkeypatch.setattr(probes, "refusal", lambda llm, one: None)
    return batches


def probe_names(names: str) -> dict[str, str]:
    """Probes adapters of these names on two questions."""
    from engine.evaluation import probes
    from engine.evaluation.likelihood import Answerer

    two: Any = ["a", "b"]
    engine: Any = None
    return probes.probe(engine, two, [Answerer(name=n, adapter=f"/{n}") for n in names])


@pytest.mark.parametrize(("moves", "noise", "leaks"), [(0.3, 0.0, True), (0.3, 0.1, False), (0.005, 0.0, False)])
def test_what_is_within_the_engine_s_own_noise_is_no_leak(
    moves: float, noise: float, leaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, lambda beside: -2.0 - moves * len(beside), noise)
    assert set(probe_names("a")) == ({"a"} if leaks else set())


@pytest.mark.parametrize(("noise", "applied"), [(0.0, True), (2.0, False)])
def test_an_adapter_has_to_change_its_model_by_more_than_the_noise(
    noise: float, applied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, lambda beside: -2.0, noise)
    assert list(probe_names("a")) == ([] if applied else ["a"])


def test_an_adapter_that_leaks_is_named_and_the_others_are_probed_together_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = script(monkeypatch, lambda beside: -5.0 if "b" in beside else -2.0)
    faults = probe_names("abc")
    assert set(faults) == {"b"}
    assert "/b: the base model scores [-5.0, -3.0] beside it and [-2.0, -3.0] alone" in faults["b"]
    assert batches[-1] == {"a", "c"}


def test_a_leak_that_no_adapter_makes_alone_is_the_engine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluation.probes import SilentError

    script(monkeypatch, lambda beside: -5.0 if len(beside) > 1 else -2.0)
    with pytest.raises(SilentError, match=r"\[-5\.0, -3\.0\] beside"):
        probe_names("abc")


def test_scores_say_what_the_numbers_mean() -> None:
    """The right option is more likely per character, and less likely as a whole, than a shorter one."""
    options, right = ("a long right answer", "short"), 0
    row = marks.mark_options(options, right, [[-1.0, -0.9], [-1.5]])
    assert row["correct"]
    assert row["nll_correct"] == pytest.approx(0.95)
    assert row["p_correct"] == pytest.approx(1 / (1 + 2.718281828 ** (1.9 - 1.5)))
    assert row["option_tokens"] == [2, 1]
