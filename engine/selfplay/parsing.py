"""Parses what a generator wrote: keeps the good parts of a completion and names what is wrong with the rest.

Pure functions. A completion that reached `max_tokens` ends with “…”.
"""

import re

CUT_OFF = "…"  # at the end of a completion that reached its limit of tokens
MIN_WORDS, MAX_WORDS = 3, 200
# A reader without the text cannot know what these words refer to. Training on them teaches nothing that can be asked
# later.
TEXT_REFERENCE = re.compile(
    r"\b(?:the|this|that|given|above|provided)\s+(?:\w+\s+)?(?:text|passage|article|paragraph|excerpt|snippet)\b"
    r"|(?<!\bin )\b(?:the|this|given|above|provided)\s+(?:\w+\s+)?context\b"
    r"|\b(?:the|this)\s+news\b(?!\s+is\s+that\b)"
    r"|\b(?:the|this)\s+(?:original|revised|rewritten|condensed)\s+(?:version|news)\b"
    r"|\baccording to (?:the|this) (?:report|statement|announcement)\b"
    r"|\bbased on the (?:(?:given|provided)\s+\w+|\w+\s+(?:given|provided))\b"
    r"|\b(?:mentioned|described|stated) above\b",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\bas an ai\b|^\W*(?:i(?:['’]m| am) )?sorry\b|\bi(?:['’]m| am) unable to\b"
    r"|\bi (?:cannot|can['’]t) (?:assist|help|provide|answer|rewrite)\b",
    re.IGNORECASE,
)
# Matches “[Your Name]”, but not `xs[10]`.
PLACEHOLDER = re.compile(
    r"(?<![\w`])\[(?:[A-Z][\w'’]* )?"
    r"(?:[Yy]our|Friend|Editor|Name|Recipient|[Ii]nsert|Contact|Date|Title)\b[^\]]{0,30}\]"
)
OTHER_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\ufffd]")  # East Asian, or half a character
# Matches “1.”, “-”, “Question 2:”, “**1.**” and “1. Question:”, but not the numbers in “9 - 4 is 5”, “-3”, “1.5” and
# “2028: …”.
MARK = r"(?:\d{1,2}\s*[.)\]](?!\d)|[-*•–](?=\s)|(?:question|q|implication|consequence)\s*\d*\s*(?:[.):\]]|-(?=\s)))"
LIST_MARK = re.compile(rf"^\s*(?:(?:\*\*{MARK}\s*\*\*|{MARK})\s*){{1,2}}", re.IGNORECASE)
LIST_TITLE = re.compile(r"^\*\*[^*\n]{1,80}(?::\*\*|\*\*\s*:)\s*(?=\S)")  # “**Effect on fares:** They fall.”
# A preamble ends its line or names what follows. “Here are the hours: …” is not one: it may be the news.
OPENING = r"^\s*(?:sure|certainly|of course|okay|here(?:['’]s| is| are))\b"
PREAMBLE = re.compile(
    rf"{OPENING}[^\n]*:\s*(?:\n|$)|^\s*(?:re)?(?:written|phrased|wording)\b[^\n]*:\s*(?:\n|$)"
    rf"|{OPENING}[^\n:]*\b(?:rewritten|rewording|paraphrased?|news)\b[^\n:]*:\s+"
    r"|^\s*(?:paraphrase|rewrite|rewording|(?:(?:rewritten|revised) )?news|answer|consequence|implication)\s*:\s*",
    re.IGNORECASE,
)
# “The news states that it rains.” is a good sentence without its first words.
SOURCE = r"(?:the|this) (?:news|text|passage|article|report|announcement)"
ATTRIBUTION = re.compile(
    rf"^(?:{SOURCE} (?:also |further )?(?:is|states|says|suggests|indicates|reports|mentions|implies|shows|reveals"
    rf"|explains|confirms|announces|notes) that|according to {SOURCE}(?: above| provided)?,)\s+(?=\w)",
    re.IGNORECASE,
)
LATER_NOTE = re.compile(r"\n\s*\n\W*(?:note|explanation)\b\W*:.*?(?=\n\s*\n|\Z)", re.IGNORECASE | re.DOTALL)
BLOCK_HEAD = re.compile(r"^\s*#{1,6}\s+")
BOLD_LINE = re.compile(r"^\s*\*\*([^*]+)\*\*\s*$")
HEADING = re.compile(r"^[ \t]*(?:#{1,6}[ \t].*|\*\*[^*\n]+(?<![.!?])\*\*:?)[ \t]*$", re.MULTILINE)
BOLD = re.compile(r"(?<!\w)\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)")  # but not the power in 2**3
BLOCK_MARKS = re.compile(r"^[ \t]*(?:[-*•][ \t]+|#{1,6}[ \t]+|-{3,}[ \t]*$|```\w*[ \t]*$)", re.MULTILINE)
QUOTATION = re.compile(r"\"([^\"]*)\"|'([^']*)'|“([^“”]*)”")


def tidy(text: str) -> str:
    """Removes markdown and surrounding quotation marks; makes one space of each run of white space."""
    text = re.sub(r"\s+", " ", BLOCK_MARKS.sub("", BOLD.sub(r"\1", text))).strip()
    quotation = QUOTATION.fullmatch(text)
    return "".join(quotation.groups("")).strip() if quotation else text


def extract_message(text: str, news: str) -> str:
    """Removes preamble, headings, “the news states that” and the model's notes about its own text."""
    if text.endswith(CUT_OFF):
        return tidy(text)
    body = LATER_NOTE.sub("", PREAMBLE.sub("", text, count=1))
    body = HEADING.sub("", body).strip() or body
    parts = [remove_attribution(part) for part in re.split(r"\n\s*\n", body)]
    if refers_to_text(parts[0], news):
        return tidy(body)  # The parts after it make no sense alone.
    good = [part for part in parts if find_fault(part, news, fewest_words=1) in (None, "a heading")]
    return tidy("\n".join(good or parts))  # If no part is good, the caller finds the fault.


def remove_attribution(text: str) -> str:
    """Makes “It rains.” of “The news states that it rains.”"""
    rest, n = ATTRIBUTION.subn("", text, count=1)
    return rest[:1].upper() + rest[1:] if n else text


def refers_to_text(sentence: str, news: str) -> bool:
    """Reports whether a sentence refers to the text in front of it.

    Words that the news itself contains do not count: news about a text editor may speak of “the text editor”.
    """
    news_words = set(re.findall(r"\w+", news.casefold()))
    return any(match[0].split()[-1].casefold() not in news_words for match in TEXT_REFERENCE.finditer(sentence))


def find_fault(text: str, news: str, fewest_words: int = MIN_WORDS) -> str | None:
    """Names what makes a text unfit as training data; None if nothing does."""
    n_words = len(text.split())
    faults = {
        "cut off": text.endswith(CUT_OFF),
        "too short": n_words < fewest_words,
        "too long": n_words > MAX_WORDS,
        "a heading": text.endswith(":"),
        "a refusal": REFUSAL.search(text),
        "a placeholder": PLACEHOLDER.search(text),
        "another script": OTHER_SCRIPT.search(text) and not OTHER_SCRIPT.search(news),
        "refers to the text": refers_to_text(text, news),
    }
    return next((name for name, is_present in faults.items() if is_present), None)


def parse_list(text: str) -> list[str]:
    """The entries of a list, without list marks and bold titles.

    The entries are the lines with a mark, or all lines if none has a mark.
    """
    lines = [BOLD_LINE.sub(r"\1", BLOCK_HEAD.sub("", line)) for line in text.splitlines() if line.strip()]
    marked_lines = [line for line in lines if LIST_MARK.match(line) or LIST_TITLE.match(line)]
    return [tidy(LIST_TITLE.sub("", LIST_MARK.sub("", line, count=1))) for line in marked_lines or lines]
