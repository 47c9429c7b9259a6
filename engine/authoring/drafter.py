"""Drafts questions with a vLLM engine. Runs in a worker."""

from collections import Counter
from collections.abc import Mapping

from vllm import LLM, SamplingParams

from engine.authoring.drafting import ASK, Drafts, QuestionRecord, drop_near_duplicates, parse_questions
from engine.cluster.machines import ServingPlacement
from engine.inference import chat, settings, vllm_engine
from engine.inference.vllm_engine import Request
from engine.models import catalogue, weights
from engine.monitor import progress
from engine.study import Precision

ROUNDS = 4  # in all: the first asks for all items, the others for items with too few drafts
MAX_TOKENS, TEMPERATURE = 700, 0.8


def draft_all(model: str, texts: Mapping[str, str], n: int, serving: ServingPlacement, precision: Precision) -> Drafts:
    """Asks for n drafts per text. Asks again about texts that have fewer, each round with another seed."""
    entry = catalogue.find(model)
    limit = min(settings.MAX_CONTEXT, entry.architecture.max_context)
    llm = vllm_engine.start(str(weights.pull(entry)), serving, precision, limit)
    drafts: dict[str, list[QuestionRecord]] = {name: [] for name in texts}
    dropped: Counter[str] = Counter()
    for seed in range(ROUNDS):
        unfinished = [name for name in texts if len(drafts[name]) < n]
        requests = [make_request(llm, name, texts[name], n, seed) for name in unfinished]
        for name, output in vllm_engine.run(llm, requests):
            questions, reasons = parse_questions(output.outputs[0].text, texts[name])
            drafts[name] = drop_near_duplicates([*drafts[name], *questions])[:n]
            dropped += reasons
            progress.report(done=int(len(drafts[name]) == n), tokens=len(output.outputs[0].token_ids))
    return drafts, dropped


def make_request(llm: LLM, name: str, text: str, n: int, seed: int) -> Request:
    """Makes the request for one completion about one text."""
    ids = chat.prompt_ids(llm.get_tokenizer(), chat.with_news(text, ASK.format(n=n)))
    return Request(tag=name, ids=ids, params=SamplingParams(temperature=TEMPERATURE, max_tokens=MAX_TOKENS, seed=seed))
