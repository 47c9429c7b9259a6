"""The engine that drafts questions; runs in a worker."""

from collections import Counter
from collections.abc import Mapping

from vllm import LLM, SamplingParams

from engine.authoring.drafting import ASK, Drafts, Question, distinct, parse
from engine.cluster.machines import ServingPlacement
from engine.inference import chat, settings, vllm_engine
from engine.inference.vllm_engine import Request
from engine.models import catalogue, weights
from engine.monitor import progress
from engine.study import Precision

ROUNDS = 4  # of asking again for items that have too few
MAX_TOKENS, TEMPERATURE = 700, 0.8


def draft_all(model: str, texts: Mapping[str, str], n: int, serving: ServingPlacement, precision: Precision) -> Drafts:
    """Asks for n drafts per text, again for texts with too few, each time with another seed."""
    known = catalogue.find(model)
    limit = min(settings.MAX_CONTEXT, known.architecture.max_context)
    llm = vllm_engine.start(str(weights.pull(known)), serving, precision, limit)
    drafts: dict[str, list[Question]] = {name: [] for name in texts}
    dropped: Counter[str] = Counter()
    for seed in range(ROUNDS):
        short = [name for name in texts if len(drafts[name]) < n]
        for name, output in vllm_engine.run(llm, [request(llm, name, texts[name], n, seed) for name in short]):
            kept, bad = parse(output.outputs[0].text, texts[name])
            drafts[name] = distinct([*drafts[name], *kept])[:n]
            dropped += bad
            progress.report(done=int(len(drafts[name]) == n), tokens=len(output.outputs[0].token_ids))
    return drafts, dropped


def request(llm: LLM, name: str, text: str, n: int, seed: int) -> Request:
    """One completion about one text."""
    ids = chat.prompt_ids(llm.get_tokenizer(), chat.with_news(text, ASK.format(n=n)))
    return Request(tag=name, ids=ids, params=SamplingParams(temperature=TEMPERATURE, max_tokens=MAX_TOKENS, seed=seed))
