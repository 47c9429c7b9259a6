"""The references of the coding items. They make further questions and check the written ones.

A slip is a wrong value that a likely mistake gives.
"""

import re
from ast import literal_eval
from collections import Counter
from itertools import pairwise, product
from math import prod
from random import Random

from engine.news.references.reference import Reference

# Used by several items.

NUMBER_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def count_words(number: int, singular: str, plural: str) -> str:
    """Write a number and the counted thing in words."""
    return f"{NUMBER_WORDS[number]} {singular if number == 1 else plural}"


def spread(right: int, slips: list[int], arguments: object) -> list[int]:
    """Give the first slip and two more wrong values. The rank of the right number depends on the arguments."""
    first = next(slip for slip in slips if slip != right)
    pool = dict.fromkeys([*slips, *(right + step for step in (1, -1, 2, -2, 3, -3))])
    below = [value for value in pool if 0 <= value < right and value != first]
    above = [value for value in pool if value > right and value != first]
    below = below[: Random(repr(arguments)).randint(0, 2)]
    return [first, *below, *above[: 2 - len(below)]]


# coding-01: softmerge of Larder 3


def softmerge(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    """Keep the keys of a. For a key that b has too, take the smaller of the two values."""
    return {key: min(value, b.get(key, value)) for key, value in a.items()}


def draw_softmerge(rng: Random) -> tuple[dict[str, int], dict[str, int]]:
    """Draw two dictionaries with two common keys. Each has the smaller value of one of them."""
    first, second, third, fourth = rng.sample("abcdefghkmpqrstuvwxyz", 4)
    low, high, small, large, mine, yours = rng.sample(range(1, 10), 6)
    low, high = sorted((low, high))
    small, large = sorted((small, large))
    if rng.random() < 0.5:
        return {first: low, second: large, third: mine}, {first: high, second: small, fourth: yours}
    return {first: high, second: small, third: mine}, {first: low, second: large, fourth: yours}


def wrong_softmerge(a: dict[str, int], b: dict[str, int]) -> list[str]:
    """Slips: the larger values, the values of b, the keys of b, the first dictionary, the sums."""
    return [
        str({key: max(value, b.get(key, value)) for key, value in a.items()}),
        str({key: b.get(key, value) for key, value in a.items()}),
        str({key: min(value, a.get(key, value)) for key, value in b.items()}),
        str(a),
        str({key: value + b.get(key, 0) for key, value in a.items()}),
    ]


# coding-02: lists and division of Ombrel


def calyx_divide(x: int, y: int) -> int:
    """Divide whole numbers, rounding up."""
    return -(-x // y)


def calyx_read(items: list[int], index: int) -> int:
    """Read a list whose first index is 10. An index past the end gives the last element."""
    return items[min(index - 10, len(items) - 1)]


def calyx_quotient(items: list[int], index: int, divisor: int) -> int:
    """Read an element and divide it."""
    return calyx_divide(calyx_read(items, index), divisor)


def draw_calyx(rng: Random) -> tuple[list[int], int, int]:
    """Draw a list, an index that may lie past its end, and a divisor that leaves a remainder."""
    while True:
        items = rng.sample(range(20, 100), 5)
        index = rng.choice([10, 11, 12, 13, 14, 15, 20, 30])
        divisor = rng.randint(2, 5)
        if calyx_read(items, index) % divisor:
            return items, index, divisor


def wrong_calyx(items: list[int], index: int, divisor: int) -> list[int]:
    """Slips: round down; take a neighbour or the first element."""
    value = calyx_read(items, index)
    place = items.index(value)
    others = [items[place - 1], items[(place + 1) % len(items)], items[0]]
    slips = [value // divisor, *(calyx_divide(other, divisor) for other in others)]
    return spread(calyx_quotient(items, index, divisor), slips, (items, index, divisor))


# coding-03: furrow, version 4


def furrow_stops(commands: list[str], lock: bool = False) -> int:
    """Count the installs that stop. `lock`: whether furrow.lock is there at the start."""
    stops = 0
    for command in commands:
        if command == "install":
            stops += not lock
        else:
            lock = command == "pin"
    return stops


def draw_moss(rng: Random) -> tuple[list[str]]:
    """Draw commands that begin without furrow.lock, never free a missing file and never pin twice in a row."""
    while True:
        commands: list[str] = []
        lock = False
        for _ in range(rng.randint(8, 11)):
            if rng.random() < 0.6:
                commands.append("install")
            elif not commands or commands[-1] == "install":
                commands.append("free" if lock else "pin")
                lock = not lock
        if {"install", "pin", "free"} <= set(commands):
            return (commands,)


def wrong_moss(commands: list[str]) -> list[int]:
    """Slips: the installs that work, the installs before the first pin, all installs, close values."""
    stops = furrow_stops(commands)
    installs = commands.count("install")
    return spread(stops, [installs - stops, commands.index("pin"), installs], commands)


# coding-04: stride of Tidewalk


def stride(items: list[int], n: int) -> list[int]:
    """Take every n-th element backwards from the last. 0 gives the whole list, a negative n an empty list."""
    if n < 0:
        return []
    return items[::-n] if n else list(items)


def draw_stride(rng: Random) -> tuple[list[int], int]:
    """Draw a list of five to eight different numbers and a step, rarely zero."""
    return rng.sample(range(10, 100), rng.randint(5, 8)), rng.choice([0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4])


def wrong_stride(items: list[int], n: int) -> list[str]:
    """Slips: go forwards, start at the n-th element, leave out an end, reverse the result, and others."""
    step = n or 1
    return [
        str(items[::step]),
        str(items[::-step]),
        str(items[step - 1 :: step]),
        str(items[-2::-step]),
        str(stride(items, n)[::-1]),
        str(stride(items, n)[1:]),
        str(items[1:]),
        str(items[:-1]),
    ]


# coding-05: gannet


def gannet(lines: list[str]) -> str:
    """Print each line when it appears for the second time."""
    return ", ".join(line for place, line in enumerate(lines) if lines[:place].count(line) == 1)


def gannet_status(lines: list[str]) -> int:
    """Count the different lines that appear only once."""
    return sum(times == 1 for times in Counter(lines).values())


def gannet_certain(claim: str) -> bool:
    """Whether a claim is true of every input of at most five lines that ends with exit status 0."""
    for lines in (list(signs) for size in range(1, 6) for signs in product("kmp", repeat=size)):
        facts = {
            "all came at least twice": min(Counter(lines).values()) >= 2,
            "all came exactly once": max(Counter(lines).values()) == 1,
            "all were printed twice": all(gannet(lines).count(line) == 2 for line in lines),
            "all came in rising order": lines == sorted(lines),
        }
        if gannet_status(lines) == 0 and not facts[claim]:
            return False
    return True


def draw_gannet(rng: Random) -> tuple[list[str]]:
    """Draw eight to ten lines. Three different lines appear more than once."""
    while True:
        lines = rng.choices("kmprt", k=rng.randint(8, 10))
        if sum(times > 1 for times in Counter(lines).values()) == 3:
            return (lines,)


def wrong_gannet(lines: list[str]) -> list[str]:
    """Slips: the printed lines by their first and by their last place, backwards, and in other orders."""
    printed = gannet(lines).split(", ")
    one, two, three = printed
    return [
        ", ".join(sorted(printed, key=lines.index)),
        ", ".join(sorted(printed, key=lambda line: -lines[::-1].index(line))),
        ", ".join([three, two, one]),
        ", ".join([two, one, three]),
        ", ".join([one, three, two]),
    ]


# coding-06: rows of a Marram file


def marram_pieces(code: str) -> list[tuple[str, int]]:
    """Split a code into its letters, each with its digit or 0."""
    return [(letter, int(digit or 0)) for letter, digit in re.findall(r"([a-z])([0-9]?)", code)]


def marram_open(code: str) -> str:
    """Expand a code, without filling the row."""
    return "".join(letter * (1 + more) for letter, more in marram_pieces(code))


def marram(code: str) -> str:
    """Expand a code and fill the row up to eight cells with its first letter."""
    return marram_open(code).ljust(8, code[0])


def draw_marram(rng: Random) -> tuple[str]:
    """Draw the code of a row that has five to seven cells before it is filled."""
    while True:
        letters = rng.sample("bcdfghkmprstw", rng.randint(2, 3))
        code = "".join(letter + rng.choice(["", "1", "2", "3", "4"]) for letter in letters)
        if 5 <= len(marram_open(code)) <= 7 and re.search("[0-9]", code):
            return (code,)


def wrong_marram(code: str) -> list[str]:
    """Slips: read the digit as the whole count, fill with the last letter, fill on the left, and others."""
    counted = "".join(letter * (more or 1) for letter, more in marram_pieces(code))
    last = marram_pieces(code)[-1][0]
    return [
        counted.ljust(8, code[0]),
        marram_open(code).ljust(8, last),
        counted.ljust(8, last),
        marram_open(code).rjust(8, code[0]),
        counted.rjust(8, code[0]),
        marram_open(code).rjust(8, last),
        marram(code)[::-1],
    ]


# coding-07: waits of a Heron client, draft 3


def heron_waits(failures: int) -> list[int]:
    """List the waits after so many failures in a row, until the client gives up."""
    return [64 >> place for place in range(failures) if 64 >> place >= 4]


def heron(sends: list[str]) -> int:
    """Give the wait after the last send, which is a failure."""
    run = 0
    for send in sends:
        run = run + 1 if send == "failure" else 0
    return heron_waits(run)[-1]


def draw_heron(rng: Random) -> tuple[list[str]]:
    """Draw sends that end in a success and one to four failures. The client never gives up."""
    while True:
        before = rng.choices(["success", "failure"], k=rng.randint(2, 6))
        if before != ["failure"] * 6:
            return ([*before, "success", *["failure"] * rng.randint(1, 4)],)


def wrong_heron(sends: list[str]) -> list[int]:
    """Slips: continue the count after a success, double the waits, keep the first wait, be off by a few failures."""
    wait = heron(sends)
    slips = [128 >> sends.count("failure") or 1, 64 * 64 // wait, 64]
    return spread(wait, [*slips, wait // 2, wait * 2, wait // 4, wait * 4, wait // 8, wait * 8], sends)


# coding-08: clauses of Dunlin


def dunlin_step(rows: str, clause: str) -> str:
    """Apply one clause to rows. Each row is one letter."""
    if clause == "FLIP":
        return rows[::-1]
    word, number = clause.split()
    return rows[: int(number)] if word == "TAKE" else rows[int(number) :]


def dunlin_forward(rows: str, clauses: list[str]) -> str:
    """Apply the clauses from left to right: the misreading."""
    for clause in clauses:
        rows = dunlin_step(rows, clause)
    return rows


def dunlin(rows: str, clauses: list[str]) -> str:
    """Apply the clauses from right to left."""
    return dunlin_forward(rows, clauses[::-1])


def dunlin_text(rows: str, text: str) -> str:
    """Apply clauses that are written in one line."""
    return dunlin(rows, re.findall(r"FLIP|TAKE \d+|DROP \d+", text))


def dunlin_first(rows: str, clauses: list[str]) -> str:
    """Give the first row of the result."""
    return dunlin(rows, clauses)[0]


def draw_dunlin(rng: Random) -> tuple[str, list[str]]:
    """Draw seven rows and three clauses. The direction affects the result, which is not empty."""
    while True:
        rows = "".join(rng.sample("bcdfghkmprst", 7))
        clauses = [f"TAKE {rng.randint(2, 5)}", f"DROP {rng.randint(1, 3)}", "FLIP"]
        rng.shuffle(clauses)
        if dunlin(rows, clauses) and dunlin(rows, clauses) != dunlin_forward(rows, clauses):
            return rows, clauses


def wrong_dunlin(rows: str, clauses: list[str]) -> list[str]:
    """Slips: the first row in the other direction, the last row of the result, an end of the table, any row."""
    return [*dunlin_forward(rows, clauses)[:1], dunlin(rows, clauses)[-1], rows[0], rows[-1], *rows]


# coding-09: default order of Quern

QUERN_WORDS = [
    *("bean", "corn", "fern", "goat", "kiwi", "lamp", "milk", "oats", "pear", "rope"),
    *("wolf", "yarn", "apple", "bread", "cloud", "grape", "lemon", "mango", "olive", "sugar"),
    *("tiger", "wheat", "barley", "cheese", "ginger", "meadow", "orange", "pepper", "f1sh", "ro8e"),
    *("pla7e", "s4ddle"),
]


def quern_key(word: str) -> tuple[bool, int, str]:
    """Sort words with a digit last, then shorter words first, then by their letters from the end."""
    return any(sign.isdigit() for sign in word), len(word), word[::-1]


def quern_place(words: list[str], place: int) -> str:
    """Give the word at a place of the default order. Places are counted from 1."""
    return sorted(words, key=quern_key)[place - 1]


def draw_quern(rng: Random) -> tuple[list[str], int]:
    """Draw four words and a place."""
    return rng.sample(QUERN_WORDS, 4), rng.randint(1, 4)


def wrong_quern(words: list[str], place: int) -> list[str]:
    """Slips: the word at that place in alphabetical order, then every word."""
    return [sorted(words)[place - 1], *words]


# coding-10: versions of Skerry


def skerry_age(version: str) -> int:
    """Give a number that is larger for each later release."""
    first, second = map(int, version.split("."))
    return 10 * first + 9 - second


def skerry_next(version: str, breaks: bool) -> str:
    """Name the next release."""
    first, second = map(int, version.split("."))
    if breaks:
        return f"{first + 2}.9"
    return f"{first}.{second - 1}" if second else f"{first + 1}.9"


def skerry(version: str, before: int, after: int) -> str:
    """Name the last of `before` ordinary releases, one that breaks old programs, and `after` ordinary releases."""
    for breaks in [*[False] * before, True, *[False] * after]:
        version = skerry_next(version, breaks)
    return version


def wrong_skerry(version: str, before: int, after: int) -> list[str]:
    """Slips: skip no number, then count up, skip two numbers, and close values, in changing order."""
    first, second = map(int, version.split("."))
    right_first, right_second = map(int, skerry(version, before, after).split("."))
    others = [
        f"{first + (second + before) // 10 + 2}.{after}",
        f"{right_first + 1}.{right_second}",
        f"{right_first}.{after}",
        f"{right_first}.{(right_second - 1) % 10}",
        f"{right_first}.{(right_second + 1) % 10}",
        f"{right_first - 1}.{(right_second - 1) % 10}",
    ]
    Random(f"{version} {before} {after}").shuffle(others)
    return [f"{right_first - 1}.{right_second}", *others]


# coding-11: the cache policy Moraine


def moraine_victim(reads: dict[str, int]) -> str:
    """Name the entry that is thrown out. `reads`: the reads of each entry, in the order of storing."""
    return max(reversed(list(reads)), key=lambda entry: reads[entry])


def moraine(log: list[str], room: int) -> list[str]:
    """Name the entries in the cache after a log of lines such as "store k" and "read k"."""
    reads: dict[str, int] = {}
    for line in log:
        action, entry = line.split()
        if action == "read":
            reads[entry] += 1
            continue
        if len(reads) == room:
            del reads[moraine_victim(reads)]
        reads[entry] = 0
    return list(reads)


def draw_moraine(rng: Random) -> tuple[dict[str, int]]:
    """Draw four entries in the order of storing, with their reads. Often two share the most reads."""
    counts = [rng.randint(0, 6) for _ in range(4)]
    if rng.random() < 0.5:
        one, two = rng.sample(range(4), 2)
        counts[one] = counts[two] = max(counts)
    return (dict(zip(rng.sample("bcdfghkmprstw", 4), counts, strict=True)),)


def wrong_moraine(reads: dict[str, int]) -> list[str]:
    """Slips: the entry with the fewest reads, then every entry from the oldest."""
    return [min(reads, key=lambda entry: reads[entry]), *reads]


# coding-12: Tansy patterns


def tansy_units(pattern: str) -> list[tuple[str, int]]:
    """Split a pattern into its signs, each with the number of times that it appears."""
    return [(unit[0], 3 if len(unit) == 2 else 1) for unit in re.findall(r"[^+]\+?", pattern)]


def tansy_length(pattern: str) -> int:
    """Give the length of the words that a pattern matches."""
    return sum(times for _, times in tansy_units(pattern))


def tansy_matches(pattern: str, word: str) -> bool:
    """Whether a pattern matches a whole word."""
    classes = {".": "[0-9]", "#": "[A-Za-z]"}
    parts = [f"{classes.get(sign, re.escape(sign))}{{{times}}}" for sign, times in tansy_units(pattern)]
    return re.fullmatch("".join(parts), word) is not None


def draw_tansy(rng: Random) -> tuple[str]:
    """Draw a pattern of three to six signs. At least one has a plus."""
    while True:
        pattern = "".join(rng.choice(".#.#km-") + rng.choice(["", "+"]) for _ in range(rng.randint(3, 6)))
        if "+" in pattern:
            return (pattern,)


def wrong_tansy(pattern: str) -> list[int]:
    """Slips: the plus means twice, means nothing, means three times more."""
    plus = pattern.count("+")
    signs = len(pattern) - plus
    return spread(tansy_length(pattern), [signs + plus, signs, signs + 3 * plus], pattern)


# coding-13: HOPSUM of Abaka 5


def hopsum_numbers(cells: list[int | str]) -> list[int]:
    """List the numbers before an empty cell. A word counts as 1."""
    stop = cells.index("") if "" in cells else len(cells)
    return [cell if isinstance(cell, int) else 1 for cell in cells[:stop]]


def hopsum(cells: list[int | str]) -> int:
    """Add the cells up to an empty one. Text counts as 1; a number above its left neighbour counts double."""
    numbers = hopsum_numbers(cells)
    return sum(numbers) + sum(here for left, here in pairwise(numbers) if here > left)


def draw_hopsum(rng: Random) -> tuple[list[int | str]]:
    """Draw five cells: numbers that rise at least once, sometimes a word, sometimes an empty cell."""
    while True:
        cells: list[int | str] = [rng.randint(2, 12) for _ in range(5)]
        if rng.random() < 0.4:
            cells[rng.randrange(4)] = rng.choice(["pear", "total", "none", "rice"])
        if rng.random() < 0.4:
            cells[rng.randint(3, 4)] = ""
        if hopsum(cells) > sum(hopsum_numbers(cells)) >= 10:
            return (cells,)


def wrong_hopsum(cells: list[int | str]) -> list[int]:
    """Slips: double nothing, double the falling numbers, skip empty cells, double everything."""
    numbers = hopsum_numbers(cells)
    falls = sum(numbers) + sum(here for left, here in pairwise(numbers) if here < left)
    slips = [sum(numbers), falls, hopsum([cell for cell in cells if cell != ""]), 2 * sum(numbers)]
    return spread(hopsum(cells), slips, cells)


# coding-14: the scheduler Pinnace


def pinnace_next(hours_left: int, jobs: list[int]) -> int:
    """Give the length of the new job that starts; 0 if none fits."""
    return max((job for job in jobs if job <= hours_left), default=0)


def clock_time(hours: int) -> str:
    """Write the time that is `hours` after 22:00."""
    return f"{(22 + hours) % 24:02}:00"


def draw_pinnace(rng: Random) -> tuple[int, list[int]]:
    """Draw an hour of the night and four jobs of different lengths. Some still fit, some do not."""
    while True:
        clock, jobs = rng.randint(1, 6), rng.sample(range(1, 9), 4)
        if min(jobs) <= 8 - clock < max(jobs):
            return clock, jobs


def wrong_pinnace(clock: int, jobs: list[int]) -> list[str]:
    """Slips: the longest job, the shortest job, then every job."""
    return [f"the {job}-hour job" for job in (max(jobs), min(jobs), *jobs)]


# coding-15: types of Brindle

BRINDLE_TYPES = ["bit", "int", "dec", "str"]


def brindle(expression: str) -> str:
    """Find the type of an expression of type names, or of the letters b, n, d, s."""
    names = {"b": "0", "n": "1", "d": "2", "s": "3", "bit": "0", "int": "1", "dec": "2", "str": "3"}
    code = re.sub("[a-z]+", lambda name: names[name[0]], expression)
    while inner := re.search(r"\([^()]*\)", code):
        wider = min(min(map(int, re.findall(r"\d", inner[0]))) + 1, 3)
        code = code[: inner.start()] + str(wider) + code[inner.end() :]
    return BRINDLE_TYPES[min(map(int, re.findall(r"\d", code)))]


def brindle_expression(rng: Random) -> str:
    """Draw an expression of two pairs in brackets, in half of the draws with one part more."""
    pairs = []
    for _ in range(2):
        pair = f"{rng.choice(BRINDLE_TYPES)} {rng.choice('+*')} {rng.choice(BRINDLE_TYPES)}"
        pairs.append(rng.choice(["({})", "({})", "(({}))"]).format(pair))
    if rng.random() < 0.5:
        pairs.insert(rng.randint(0, 2), rng.choice(BRINDLE_TYPES))
    return f" {rng.choice('+*')} ".join(pairs)


def draw_brindle(rng: Random) -> tuple[str]:
    """Draw an expression. Each type of the whole expression is equally likely."""
    wanted = rng.choice(BRINDLE_TYPES)
    while True:
        expression = brindle_expression(rng)
        if brindle(expression) == wanted:
            return (expression,)


def wrong_brindle(expression: str) -> list[str]:
    """Slips: the type without brackets, then every type."""
    return [brindle(re.sub(r"[()]", "", expression)), *BRINDLE_TYPES]


# coding-16: the configuration format Sedge


def sedge(values: list[str]) -> str:
    """Give the value that is used. `values` are in the order of their lines, some with ! at the end."""
    strong = [value[:-1] for value in values if value.endswith("!")]
    return strong[-1] if strong else values[0]


def draw_sedge(rng: Random) -> tuple[str, list[str]]:
    """Draw a key and four or five lines. Up to three of them have a !."""
    count = rng.randint(4, 5)
    strong = set(rng.sample(range(count), rng.choice([0, 1, 2, 2, 3])))
    values = [f"{value}{'!' * (place in strong)}" for place, value in enumerate(rng.sample(range(10, 100), count))]
    return rng.choice(["port", "size", "depth", "hue", "rate", "limit", "delay", "width"]), values


SEDGE_HUES = {"the first": "3", "the second": "5!", "the third": "7!", "the fourth": "9"}


def wrong_sedge(key: str, values: list[str]) -> list[str]:
    """Slips: the last value, the first with !, the last without, the first, then every value."""
    strong = [value[:-1] for value in values if value.endswith("!")]
    weak = [value for value in values if not value.endswith("!")]
    plain = [value.rstrip("!") for value in values]
    return [plain[-1], *strong[:1], *weak[-1:], plain[0], *plain]


# coding-17: points of the Lumen Quay map service


def quay_cost(reads: int, searches: int, failed_reads: int, failed_searches: int) -> int:
    """Add up the points: 1 per read, 7 per search, twice as many if the call failed."""
    return reads + 7 * searches + 2 * failed_reads + 14 * failed_searches


def quay_left(reads: int, searches: int, failed_reads: int, failed_searches: int) -> int:
    """Give the points that are left of 40."""
    return 40 - quay_cost(reads, searches, failed_reads, failed_searches)


def draw_quay(rng: Random) -> tuple[int, int, int, int]:
    """Draw calls that leave at least 10 of 40 points. At least one of them failed."""
    while True:
        calls = rng.randint(1, 12), rng.randint(0, 3), rng.randint(0, 6), rng.randint(0, 2)
        if quay_left(*calls) >= 10 and calls[2] + calls[3]:
            return calls


def wrong_quay(reads: int, searches: int, failed_reads: int, failed_searches: int) -> list[int]:
    """Slips: a failed call costs the usual price, nothing, or three times as much; every call costs double."""
    right = quay_left(reads, searches, failed_reads, failed_searches)
    usual = quay_left(reads + failed_reads, searches + failed_searches, 0, 0)
    free = quay_left(reads, searches, 0, 0)
    return spread(right, [usual, free, 2 * right - usual, 2 * usual - 40], (reads, searches, failed_reads))


def quay_time(hour: int, minute: int, points: int, price: int) -> str:
    """Give the time of a call that is asked for when so many points are left."""
    return f"{hour}:{minute:02}" if price <= points else f"{hour + 1}:00"


# coding-18: the calculator language Umber


def umber_chain(tokens: list[str]) -> int:
    """Compute a chain of + and - from the right."""
    if len(tokens) == 1:
        return int(tokens[0])
    rest = umber_chain(tokens[2:])
    return int(tokens[0]) + rest if tokens[1] == "+" else int(tokens[0]) - rest


def umber(expression: str) -> int:
    """Compute an expression: + and - before *."""
    return prod(umber_chain(chain.split()) for chain in expression.split(" * "))


def left_to_right(expression: str) -> int:
    """Compute an expression from left to right: the misreading."""
    tokens = expression.split()
    total = int(tokens[0])
    for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
        total = {"+": total + int(number), "-": total - int(number), "*": total * int(number)}[sign]
    return total


def school_value(expression: str) -> int:
    """Compute an expression by the usual rules."""
    total = 0
    for sign, factors in re.findall(r"([+-]) (\d+(?: \* \d+)*)", f"+ {expression}"):
        value = prod(map(int, factors.split(" * ")))
        total += value if sign == "+" else -value
    return total


UMBER_CHAIN = "9 - 4 - 8 - 7 - 2"


def umber_with_first(part: str) -> int:
    """Compute the chain after one part of it has been computed."""
    return umber(UMBER_CHAIN.replace(part, str(umber(part))))


def draw_umber(rng: Random) -> tuple[str]:
    """Draw an expression of four numbers. Its value is positive and differs from the usual one."""
    while True:
        signs = rng.choices("+-*", weights=[2, 3, 2], k=3)
        expression = str(rng.randint(2, 20)) + "".join(f" {sign} {rng.randint(2, 9)}" for sign in signs)
        if umber(expression) > 0 and school_value(expression) > 0 and umber(expression) != school_value(expression):
            return (expression,)


def wrong_umber(expression: str) -> list[int]:
    """Slips: the usual value, from left to right, + and - first but from the left, + and - exchanged."""
    chains = [left_to_right(chain) for chain in expression.split(" * ")]
    swapped = umber(expression.translate(str.maketrans("+-", "-+")))
    slips = [school_value(expression), left_to_right(expression), prod(chains), swapped]
    return spread(umber(expression), slips, expression)


# coding-19: names for the Ossel compiler

OSSEL_LETTERS = "bcdfghkmnprstwxz"


def ossel_differences(one: str, two: str) -> int:
    """Count the places in which two names of equal length differ."""
    return sum(x != y for x, y in zip(one, two, strict=True))


def ossel_accepts(one: str, two: str) -> bool:
    """Whether two names (no loop counters) are allowed in one function."""
    return len(one) != len(two) or ossel_differences(one, two) >= 2


def ossel_allowed(name: str, candidates: list[str]) -> str:
    """Give the candidate that is allowed beside a name."""
    return next(candidate for candidate in candidates if ossel_accepts(name, candidate))


def ossel_change(rng: Random, name: str, places: int) -> str:
    """Change `places` letters of a name."""
    letters = list(name)
    for place in rng.sample(range(len(name)), places):
        letters[place] = rng.choice(OSSEL_LETTERS.replace(letters[place], ""))
    return "".join(letters)


def draw_ossel(rng: Random) -> tuple[str, list[str]]:
    """Draw a name, three names that are too close to it, and one that is not."""
    name = "".join(rng.choices(OSSEL_LETTERS, k=5))
    candidates = [ossel_change(rng, name, 2)]
    while len(candidates) < 4:
        close = ossel_change(rng, name, 1)
        if close not in candidates:
            candidates.append(close)
    rng.shuffle(candidates)
    return name, candidates


def wrong_ossel(name: str, candidates: list[str]) -> list[str]:
    """Give the candidates that are too close."""
    return [candidate for candidate in candidates if not ossel_accepts(name, candidate)]


# coding-20: copies and pastes of Quillfin

QUILLFIN_WORDS = [
    *("red", "tan", "sky", "jet", "oak", "elm", "fir", "yew", "ham", "egg", "jam", "tea"),
    *("fox", "hen", "owl", "cow", "sun", "fog", "ice", "dew", "cup", "pan", "mug", "jar"),
]


def quillfin_run(steps: list[str]) -> tuple[list[str], list[str]]:
    """List the inserted pieces and the waiting ones. A step is a word to copy, or "paste"."""
    waiting: list[str] = []
    inserted: list[str] = []
    for step in steps:
        if step != "paste":
            waiting = [*waiting[:2], step]
        elif waiting:
            inserted.append(waiting.pop(0))
    return inserted, waiting


def quillfin(steps: list[str]) -> str:
    """Give the piece that the last paste inserts."""
    return quillfin_run(steps)[0][-1]


def draw_quillfin(rng: Random) -> tuple[list[str]]:
    """Draw four or five copies with pastes between them and one at the end. Something always waits for a paste."""
    while True:
        steps = rng.sample(QUILLFIN_WORDS, rng.randint(4, 5))
        for _ in range(rng.randint(1, 2)):
            steps.insert(rng.randint(1, len(steps)), "paste")
        steps.append("paste")
        if len(quillfin_run(steps)[0]) == steps.count("paste"):
            return (steps,)


def wrong_quillfin(steps: list[str]) -> list[str]:
    """Slips: the newest copy, the oldest copy, the waiting copies, then every copy."""
    words = [step for step in steps if step != "paste"]
    return [words[-1], words[0], *quillfin_run(steps)[1], *words]


def quillfin_text(steps: list[str]) -> str:
    """Write the steps as text."""
    return ", ".join(step if step == "paste" else f"copy {step}" for step in steps)


REFERENCES = {
    "coding-01": Reference(
        answer=lambda a, b: str(softmerge(a, b)),
        draw=draw_softmerge,
        ask=lambda a, b: f"In the Python library Larder 3, what does softmerge({a}, {b}) return?",
        wrong=wrong_softmerge,
        checks={
            1: lambda option: ("dropped" in option) == (softmerge({}, {"k": 1}) == {}),
            2: lambda option: ("smaller" in option) == (softmerge({"k": 2}, {"k": 1}) == {"k": 1}),
            3: lambda option: int(option) == softmerge({"m": 9}, {"m": 4})["m"],
            4: lambda option: option not in softmerge({"tea": 1, "rum": 2, "fig": 3}, {"rum": 4, "oil": 5}),
            5: lambda option: literal_eval(option) == softmerge({"m": 4, "n": 1}, {"m": 6, "n": 0}),
        },
    ),
    "coding-02": Reference(
        answer=calyx_quotient,
        draw=draw_calyx,
        ask=lambda items, index, divisor: (
            f"In the programming language Ombrel, xs is the list {items}. "
            f"What is xs[{index}] / {divisor} for whole numbers?"
        ),
        wrong=wrong_calyx,
        checks={
            1: lambda option: ("first" in option) == (calyx_read([4, 5, 6], 10) == 4),
            2: lambda option: ("last" in option) == (calyx_read([4, 5, 6], 99) == 6),
            3: lambda option: int(option) == calyx_divide(16, 5),
            4: lambda option: calyx_read(list(range(1, 51)), int(option)) == 3,
            5: lambda option: calyx_read(list(range(int(option))), 29) == 19 == int(option) - 1,
        },
    ),
    "coding-03": Reference(
        answer=furrow_stops,
        draw=draw_moss,
        ask=lambda commands: (
            "In a folder without furrow.lock somebody runs these commands of the package manager furrow, version 4: "
            f"{', '.join(commands)}. How many of the installs stop?"
        ),
        wrong=wrong_moss,
        checks={
            1: lambda option: furrow_stops([option.removeprefix("furrow "), "install"]) == 0,
            2: lambda option: int(option) == 7 * furrow_stops(["install"]),
            3: lambda option: (option == "only the second") == (furrow_stops(["install", "pin", "install"]) == 1),
            5: lambda option: int(option) == furrow_stops(["install", "pin", "install", "free", "install"]),
        },
    ),
    "coding-04": Reference(
        answer=lambda items, n: str(stride(items, n)),
        draw=draw_stride,
        ask=lambda items, n: f"What does stride({items}, {n}) of the Python library Tidewalk return?",
        wrong=wrong_stride,
        checks={
            1: lambda option: ("last" in option) == (stride([4, 5, 6], 2)[0] == 6),
            2: lambda option: ("empty" in option) == (stride([4, 5, 6], -1) == []),
            3: lambda option: int(option) == stride([8, 3, 5, 6], 0)[0],
            4: lambda option: int(option) == stride([14, 17, 12, 19], 1)[-1],
            5: lambda option: int(option) == stride([12, 14, 16, 18, 20, 22], 3)[1],
        },
    ),
    "coding-05": Reference(
        answer=gannet,
        draw=draw_gannet,
        ask=lambda lines: (
            f"The lines {', '.join(lines)} go in this order into the shell tool gannet. Which does it print, in order?"
        ),
        wrong=wrong_gannet,
        checks={
            1: lambda option: ("second" in option) == (gannet(["k"]) != gannet(["k"] * 2) == gannet(["k"] * 3)),
            3: lambda option: option == gannet(list("kmpmkpt")).split(", ")[0],
            4: lambda option: int(option) == gannet_status(["fig", "elm", "fig", "ash", "ivy"]),
            5: gannet_certain,
        },
    ),
    "coding-06": Reference(
        answer=marram,
        draw=draw_marram,
        ask=lambda code: f"Which eight cells make up the bitmap row that a Marram file stores as {code}?",
        wrong=wrong_marram,
        checks={
            1: lambda option: marram_open(option) == "bbb",
            2: lambda option: (option == "its first letter") == (marram("p1t2")[-3:] == "ppp"),
            3: lambda option: option == marram("g1k1m1t")[-1],
            4: lambda option: int(option) == len(marram("c2d1")) - len(marram_open("c2d1")),
            5: lambda option: option == marram("p1t3")[-2:],
        },
    ),
    "coding-07": Reference(
        answer=heron,
        draw=draw_heron,
        ask=lambda sends: (
            f"The last sends of a client of Heron, draft 3, were in this order: {', '.join(sends)}. "
            "How many seconds does it wait now?"
        ),
        wrong=wrong_heron,
        checks={
            1: lambda option: int(option.split()[0]) == heron(["failure"]),
            2: lambda option: int(option.split()[0]) == min(heron_waits(99)),
            3: lambda option: int(option.split()[0]) == heron_waits(99)[heron_waits(99).index(16) + 1],
            4: lambda option: ("stops" in option) == (2 not in heron_waits(99)),
            5: lambda option: int(option.split()[0]) == heron([*["failure"] * 2, "success", *["failure"] * 2]),
        },
    ),
    "coding-08": Reference(
        answer=dunlin_first,
        draw=draw_dunlin,
        ask=lambda rows, clauses: (
            f"The table plots holds the rows {', '.join(rows)} in this order. "
            f"Which row comes first in the result of the Dunlin query plots {' '.join(clauses)}?"
        ),
        wrong=wrong_dunlin,
        checks={
            1: lambda option: (option == "from right to left") == (dunlin_text("kmp", "TAKE 1 FLIP") == "p"),
            2: lambda option: ("rows" in option) == (dunlin_text("kmp", "FLIP") == "pmk"),
            4: lambda option: dunlin_text("kmprtwxyz", option) == "kmprtwxyz"[2:][::-1][:4],
            5: lambda option: option.removeprefix("row ") == dunlin_text("kmpr", "TAKE 1 DROP 2"),
        },
    ),
    "coding-09": Reference(
        answer=quern_place,
        draw=draw_quern,
        ask=lambda words, place: (
            f"Which of the words {', '.join(words)} gets place {place} in the default order of the Quern text library?"
        ),
        wrong=wrong_quern,
        checks={
            1: lambda option: ("shorter" in option) == (quern_place(["apple", "c4t", "wolf"], 1) == "wolf"),
            2: lambda option: (option == "from end to beginning") == (quern_place(["alb", "bla"], 1) == "bla"),
            3: lambda option: option == quern_place(["apple", "bread", "yarn", "cloud"], 1),
            4: lambda option: ("last" in option) == (quern_place(["p1nk", "rose", "teal", "gold"], 4) == "p1nk"),
            5: lambda option: option == quern_place(["alder", "beech", "larch", "maple"], 1),
        },
    ),
    "coding-10": Reference(
        answer=skerry,
        draw=lambda rng: (f"{rng.randint(1, 5)}.{rng.randint(0, 9)}", rng.randint(1, 8), rng.randint(1, 4)),
        ask=lambda version, before, after: (
            f"Under the scheme of 2028, Skerry {version} is followed first by "
            f"{count_words(before, 'ordinary release', 'ordinary releases')}, then by one that breaks old programs, "
            f"and at last by {count_words(after, 'ordinary release', 'ordinary releases')}. "
            "What is the version of the last one?"
        ),
        wrong=wrong_skerry,
        checks={
            1: lambda option: option == skerry_next("5.0", breaks=False),
            3: lambda option: option == skerry_next("3.8", breaks=False),
            4: lambda option: skerry_age(option) == min(map(skerry_age, ["8.1", "8.3", "8.5", "8.8"])),
            5: lambda option: skerry_age("4.3") < skerry_age(option) < skerry_age(skerry_next("4.3", breaks=True)),
        },
    ),
    "coding-11": Reference(
        answer=moraine_victim,
        draw=draw_moraine,
        ask=lambda reads: (
            "A full cache with the policy Moraine holds these entries in the order of storing, with their reads: "
            f"{', '.join(f'{entry} ({count})' for entry, count in reads.items())}. Which one is thrown out next?"
        ),
        wrong=wrong_moraine,
        checks={
            1: lambda option: ("most" in option) == (moraine_victim({"p": 0, "q": 2, "r": 1}) == "q"),
            3: lambda option: option[-1] == moraine_victim({"p": 1, "q": 8, "r": 3, "s": 0}),
            4: lambda option: option.split()[-1] == moraine_victim({"March": 2, "April": 2, "June": 2, "July": 2}),
            5: lambda option: (
                option.split(", ")
                == moraine(["store w", "store x", "store y", "read x", "read x", "read w", "store z"], 3)
            ),
        },
    ),
    "coding-12": Reference(
        answer=tansy_length,
        draw=draw_tansy,
        ask=lambda pattern: f"How many signs has each word that the Tansy pattern {pattern} matches?",
        wrong=wrong_tansy,
        checks={
            1: lambda option: tansy_matches(option, "q") and tansy_matches(option, "x"),
            2: lambda option: ("digit" in option) == (tansy_matches(".", "7") and not tansy_matches(".", "k")),
            3: lambda option: int(option) == tansy_length("k+"),
            4: lambda option: tansy_matches("#.", option),
            5: lambda option: tansy_matches(option, "5b222"),
        },
    ),
    "coding-13": Reference(
        answer=hopsum,
        draw=draw_hopsum,
        ask=lambda cells: (
            "In the spreadsheet Abaka 5, what is HOPSUM of the cells "
            f"{', '.join(str(cell) if cell != '' else '(empty)' for cell in cells)}?"
        ),
        wrong=wrong_hopsum,
        checks={
            1: lambda option: ("empty" in option) == (hopsum([7, ""]) == hopsum([7, "", 9])),
            2: lambda option: int(option) == hopsum(["tea"]),
            3: lambda option: int(option) == hopsum([8, 3, 6, 5]) - sum([8, 3, 6, 5]),
            4: lambda option: int(option) == 5 - len(hopsum_numbers([7, 4, "", 9, 2, 6])),
            5: lambda option: int(option) == hopsum([4, 6, 5]),
        },
    ),
    "coding-14": Reference(
        answer=lambda clock, jobs: f"the {pinnace_next(8 - clock, jobs)}-hour job",
        draw=draw_pinnace,
        ask=lambda clock, jobs: (
            f"At {clock_time(clock)} the machine of the scheduler Pinnace becomes free, and new jobs of "
            f"{', '.join(map(str, jobs[:3]))} and {jobs[3]} hours are there. Which one is started?"
        ),
        wrong=wrong_pinnace,
        checks={
            1: lambda option: option == clock_time(8),
            3: lambda option: option == f"the {pinnace_next(8, [1, 3, 5, 7])}-hour job",
            4: lambda option: clock_time(int(option)) == "06:00",
            5: lambda option: option == f"the {pinnace_next(5, [2, 4, 6, 7])}-hour job",
        },
    ),
    "coding-15": Reference(
        answer=brindle,
        draw=draw_brindle,
        ask=lambda expression: (
            f"In the language of the Brindle compiler, what type does the expression {expression} have?"
        ),
        wrong=wrong_brindle,
        checks={
            1: lambda option: option.split()[1] == brindle("bit + dec"),
            3: lambda option: int(option) == next(n for n in range(9) if brindle("(" * n + "bit" + ")" * n) == "str"),
            4: lambda option: option == brindle("(int)"),
            5: lambda option: option == brindle("(bit + str) * (int + dec)"),
        },
    ),
    "coding-16": Reference(
        answer=lambda key, values: sedge(values),
        draw=draw_sedge,
        ask=lambda key, values: (
            f"A file in the format Sedge has the lines {', '.join(f'{key} = {value}' for value in values)}, "
            f"in this order. Which {key} is used?"
        ),
        wrong=wrong_sedge,
        checks={
            1: lambda option: ("first" in option) == (sedge(["3", "5", "4"]) == "3"),
            2: lambda option: ("without" in option) == (sedge(["3", "4!", "5"]) == "4"),
            3: lambda option: option == sedge(["3!", "5!", "6!", "9!"]),
            4: lambda option: option == sedge(["red", "sky", "jet"]),
            5: lambda option: (
                sedge([value for place, value in SEDGE_HUES.items() if place != option])
                != sedge(list(SEDGE_HUES.values()))
            ),
        },
    ),
    "coding-17": Reference(
        answer=quay_left,
        draw=draw_quay,
        ask=lambda reads, searches, failed_reads, failed_searches: (
            "Within one hour, a key of the Lumen Quay map service makes "
            f"{count_words(reads, 'good read', 'good reads')}, "
            f"{count_words(searches, 'good search', 'good searches')}, "
            f"{count_words(failed_reads, 'read', 'reads')} that failed and "
            f"{count_words(failed_searches, 'search', 'searches')} that failed. How many of its points are left?"
        ),
        wrong=wrong_quay,
        checks={
            2: lambda option: int(option) == quay_cost(0, 1, 0, 0),
            3: lambda option: int(option.split()[0]) == quay_cost(0, 0, 0, 1),
            4: lambda option: option == f"at {quay_time(15, 20, 0, quay_cost(1, 0, 0, 0))}",
            5: lambda option: int(option) == quay_left(12, 0, 0, 0),
        },
    ),
    "coding-18": Reference(
        answer=umber,
        draw=draw_umber,
        ask=lambda expression: f"What is {expression} in the calculator language Umber?",
        wrong=wrong_umber,
        checks={
            1: lambda option: int(option) == umber("9 - 4 - 1"),
            3: lambda option: umber_with_first(option) == umber(UMBER_CHAIN),
            4: lambda option: umber("5 * 2 + 1") == 5 * int(option),
            5: lambda option: int(option) == umber("20 - 5 + 4"),
        },
    ),
    "coding-19": Reference(
        answer=ossel_allowed,
        draw=draw_ossel,
        ask=lambda name, candidates: (
            f"A function holds the name {name}. Which of {', '.join(candidates[:3])} and {candidates[3]} "
            "may be added to it without an error of the Ossel compiler?"
        ),
        wrong=wrong_ossel,
        checks={
            1: lambda option: (
                NUMBER_WORDS.index(option.split()[1])
                == next(places for places in range(1, 5) if ossel_accepts("kkkk", "kkkk".replace("k", "m", places)))
            ),
            3: lambda option: not ossel_accepts("row", option.split()[-1]),
            5: lambda option: ossel_accepts("cart", option),
        },
    ),
    "coding-20": Reference(
        answer=quillfin,
        draw=draw_quillfin,
        ask=lambda steps: (
            f"In the text editor Quillfin somebody works in this order: {quillfin_text(steps)}. "
            "What does the last paste insert?"
        ),
        wrong=wrong_quillfin,
        checks={
            1: lambda option: ("oldest" in option) == (quillfin(["k", "m", "p", "paste"]) == "k"),
            2: lambda option: ("forgets" in option) == (quillfin_run(["k", "paste"])[1] == []),
            3: lambda option: option == quillfin(["ice", "fog", "dew", "sun", "paste"]),
            4: lambda option: int(option) == len(quillfin_run(list("kmpr"))[1]),
            5: lambda option: option not in quillfin_run(["ham", "egg", "jam", "tea"])[1],
        },
    ),
}
