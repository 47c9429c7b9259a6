"""Reading what a model wrote: pure functions that keep what is good of a messy completion and say why the rest is not.

A completion that ran into `max_tokens` is given with “…” at its end.
"""

import re

VERSION = 1  # bears identity: raised when this file, or what `protocols` keeps of a completion, changes
CUT_OFF = "…"  # at the end of a completion that ran into its limit of tokens
MIN_WORDS, MAX_WORDS = 3, 200
# What a reader without the text could not resolve: such an element teaches nothing that can be asked later.
REFERS_TO_TEXT = re.compile(
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
# “[Your Name]”; not `xs[10]`.
PLACEHOLDER = re.compile(
    r"(?<![\w`])\[(?:[A-Z][\w'’]* )?"
    r"(?:[Yy]our|Friend|Editor|Name|Recipient|[Ii]nsert|Contact|Date|Title)\b[^\]]{0,30}\]"
)
OTHER_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\ufffd]")  # East Asian, or half a character
# “1.”, “-”, “Question 2:”, “**1.**”, and “1. Question:”; not the numbers of “9 - 4 is 5”, “-3”, “1.5” and “2028: …”.
MARK = r"(?:\d{1,2}\s*[.)\]](?!\d)|[-*•–](?=\s)|(?:question|q|implication|consequence)\s*\d*\s*(?:[.):\]]|-(?=\s)))"
LIST_MARK = re.compile(rf"^\s*(?:(?:\*\*{MARK}\s*\*\*|{MARK})\s*){{1,2}}", re.IGNORECASE)
LIST_TITLE = re.compile(r"^\*\*[^*\n]{1,80}(?::\*\*|\*\*\s*:)\s*(?=\S)")  # “**Effect on fares:** They fall.”
# Only at the end of a line, or where it names what follows: “Here are the hours: …” may be the news.
OPENING = r"^\s*(?:sure|certainly|of course|okay|here(?:['’]s| is| are))\b"
PREAMBLE = re.compile(
    rf"{OPENING}[^\n]*:\s*(?:\n|$)|^\s*(?:re)?(?:written|phrased|wording)\b[^\n]*:\s*(?:\n|$)"
    rf"|{OPENING}[^\n:]*\b(?:rewritten|rewording|paraphrased?|news)\b[^\n:]*:\s+"
    r"|^\s*(?:paraphrase|rewrite|rewording|(?:(?:rewritten|revised) )?news|answer|consequence|implication)\s*:\s*",
    re.IGNORECASE,
)
# “The news states that it rains.” is a good sentence after these words.
SOURCE = r"(?:the|this) (?:news|text|passage|article|report|announcement)"
ATTRIBUTION = re.compile(
    rf"^(?:{SOURCE} (?:also |further )?(?:is|states|says|suggests|indicates|reports|mentions|implies|shows|reveals"
    rf"|explains|confirms|announces|notes) that|according to {SOURCE}(?: above| provided)?,)\s+(?=\w)",
    re.IGNORECASE,
)
LATER_NOTE = re.compile(r"\n\s*\n\W*(?:note|explanation)\b\W*:.*?(?=\n\s*\n|\Z)", re.IGNORECASE | re.DOTALL)
BLOCK_HEAD = re.compile(r"^\s*#{1,6}\s+")
WHOLLY_BOLD = re.compile(r"^\s*\*\*([^*]+)\*\*\s*$")
HEADING = re.compile(r"^[ \t]*(?:#{1,6}[ \t].*|\*\*[^*\n]+(?<![.!?])\*\*:?)[ \t]*$", re.MULTILINE)
BOLD = re.compile(r"(?<!\w)\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)")  # not the power in 2**3
BLOCK_MARKS = re.compile(r"^[ \t]*(?:[-*•][ \t]+|#{1,6}[ \t]+|-{3,}[ \t]*$|```\w*[ \t]*$)", re.MULTILINE)
QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'|“([^“”]*)”")


def tidy(text: str) -> str:
    """The text without markdown, surrounding quotes and runs of white space."""
    text = re.sub(r"\s+", " ", BLOCK_MARKS.sub("", BOLD.sub(r"\1", text))).strip()
    quoted = QUOTED.fullmatch(text)
    return "".join(quoted.groups("")).strip() if quoted else text


def said(text: str, news: str) -> str:
    """What a completion says, without preamble, headings, “the news states that”, and later remarks about itself."""
    if text.endswith(CUT_OFF):
        return tidy(text)
    bare = LATER_NOTE.sub("", PREAMBLE.sub("", text, count=1))
    bare = HEADING.sub("", bare).strip() or bare
    parts = [without_attribution(part) for part in re.split(r"\n\s*\n", bare)]
    if refers_to_text(parts[0], news):
        return tidy(bare)  # What follows cannot stand alone.
    good = [part for part in parts if fault(part, news, fewest_words=1) in (None, "a heading")]
    return tidy("\n".join(good or parts))  # Where none is good, the caller finds why.


def without_attribution(text: str) -> str:
    """“It rains.” for “The news states that it rains.”"""
    bare, n = ATTRIBUTION.subn("", text, count=1)
    return bare[:1].upper() + bare[1:] if n else text


def refers_to_text(sentence: str, news: str) -> bool:
    """Does a sentence speak of the text before it? Not if the news itself is about a text editor, say."""
    own = set(re.findall(r"\w+", news.casefold()))
    return any(found[0].split()[-1].casefold() not in own for found in REFERS_TO_TEXT.finditer(sentence))


def fault(text: str, news: str, fewest_words: int = MIN_WORDS) -> str | None:
    """Why a text is no good as training data, or None."""
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
    return next((why for why, found in faults.items() if found), None)


def list_lines(text: str) -> list[str]:
    """The entries of a list: its marked lines, or all lines where none is marked; without marks and bold titles."""
    lines = [WHOLLY_BOLD.sub(r"\1", BLOCK_HEAD.sub("", line)) for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if LIST_MARK.match(line) or LIST_TITLE.match(line)]
    return [tidy(LIST_TITLE.sub("", LIST_MARK.sub("", line, count=1))) for line in marked or lines]
