"""The references of the mathematics items. They make further questions and check the written ones."""

from fractions import Fraction
from itertools import pairwise
from math import prod
from random import Random

from engine.news.references.reference import Reference

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen"
NUMBER_WORDS = {word: n for n, word in enumerate(_NUMBERS.split())} | {"twenty": 20}

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

ORDINALS = {3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh"}

_WORDS = """
    acorn actor address adult agent album alarm alley amber anchor angle animal ankle answer apron arena arm
    armour army arrow artist atlas attic aunt autumn avenue award axe eagle ear earth east echo edge effort
    egg elbow elder elephant empire end energy engine envelope error essay estate evening event exit eye ice
    idea image index infant ink insect iron island item ivory oak oar oasis oat object ocean offer office oil
    olive onion opera orange orbit orchard order organ otter oven owl owner oyster uncle union unit urn use
    usher utensil bakery banana barrel basket beach bee bell bicycle bird boat bottle bread bridge brother
    butter camera candle carpet castle cheese cherry circle city cloud coat coffee comb corner cotton cousin
    cow crown dance desert diary doctor donkey door dream drum duck fable family farmer feather fence ferry
    finger fire fish flower forest fox garden ghost glass glove goat grain guitar hammer harbour hat honey
    horse hotel house jacket jewel journey juice kettle key king kitchen kite knife ladder lake lamp leaf
    lemon letter lion lorry market meadow melon mirror moon mother mountain mouse music needle nephew night
    noise paper parrot peach pencil people piano picture pigeon pillow planet potato queen question rabbit
    radio railway river road rocket sailor salad school secret shadow sheep shirt shoe silver sister sky snow
    spoon spring square station stone story street sugar summer table teacher theatre thunder tiger tomato
    tower train valley village violin voice wagon water weather wheel window winter wolf wood yellow youth
    zebra
"""
WORDS = tuple(_WORDS.split())


def fold(x: int, y: int) -> int:
    """The product plus the larger number."""
    return x * y + max(x, y)


def calm(number: int) -> bool:
    """True if no two neighbouring digits are equal."""
    digits = str(number)
    return all(a != b for a, b in pairwise(digits))


def calm_age(number: int) -> int:
    """The number of digits of a calm number; zero for a wild one."""
    return len(str(number)) if calm(number) else 0


def draw_digits(rng: Random) -> tuple[int]:
    """A number of three to eight digits, wild in about a quarter of the draws."""
    digits = [rng.randint(1, 9)]
    for _ in range(rng.randint(2, 7)):
        digits.append(rng.choice([d for d in range(10) if d != digits[-1]]))
    if rng.random() < 0.25:
        place = rng.randrange(1, len(digits))
        digits[place] = digits[place - 1]
    return (int("".join(map(str, digits))),)


def skirt(a: int, b: int) -> int:
    """Twice the longer side plus once the shorter side."""
    return 2 * max(a, b) + min(a, b)


def drum_mean(values: tuple[int, ...]) -> Fraction:
    """The mean of all values except the largest. A single value is its own mean."""
    rest = sorted(values)[:-1] or list(values)
    return Fraction(sum(rest), len(rest))


def draw_values(rng: Random) -> tuple[tuple[int, ...]]:
    """Three to five different values whose drum mean is a whole number."""
    while True:
        values = tuple(rng.sample(range(1, 30), rng.randint(3, 5)))
        if drum_mean(values).denominator == 1:
            return (values,)


def listed(values: tuple[int, ...]) -> str:
    """The numbers as text, such as 1, 2 and 3."""
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"


def digit_sum(hour: int, minute: int) -> int:
    """The sum of the four digits of a 24-hour display."""
    return sum(map(int, f"{hour:02}{minute:02}"))


def chime(hour: int, minute: int) -> int:
    """The sum of the four digits, doubled from noon on."""
    return digit_sum(hour, minute) * (2 if hour >= 12 else 1)


def chime_at(time: str) -> int:
    """The chime of a time such as 09:41."""
    hour, minute = map(int, time.split(":"))
    return chime(hour, minute)


def points(word: str, vowels: str, vowel: int, other: int) -> int:
    """The points of all letters of a word, without the rule for its first letter."""
    return sum(vowel if letter in vowels else other for letter in word)


def weight(word: str) -> int:
    """Three per vowel and one per other letter, minus two if the word begins with a vowel."""
    return points(word, "aeiou", 3, 1) - (2 if word[0] in "aeiou" else 0)


def braid(a: int, b: int, c: int, d: int) -> str:
    """First numerator plus second denominator, over first denominator plus second numerator; never reduced."""
    return f"{a + d}/{b + c}"


def husk(first: set[int], second: set[int]) -> set[int]:
    """The numbers in exactly one of the sets, and the smallest number in both."""
    return (first ^ second) | set(sorted(first & second)[:1])


def show(numbers: set[int]) -> str:
    """A set in the usual notation, in order of size."""
    return "{" + ", ".join(map(str, sorted(numbers))) + "}"


def draw_sets(rng: Random) -> tuple[set[int], set[int]]:
    """Two sets that share two or three numbers. Each has one or two numbers of its own."""
    numbers = rng.sample(range(1, 16), 7)
    shared = numbers[: rng.randint(2, 3)]
    return set(shared + numbers[3 : 3 + rng.randint(1, 2)]), set(shared + numbers[5 : 5 + rng.randint(1, 2)])


def tide(start: int, end: int) -> tuple[int, int]:
    """The interval of the same length that begins in the middle."""
    half = (end - start) // 2
    return start + half, end + half


def draw_interval(rng: Random) -> tuple[int, int]:
    """An interval whose middle is a whole number."""
    start = rng.randint(0, 40)
    return start, start + 2 * rng.randint(1, 15)


def interval(start: int, end: int) -> str:
    """An interval in the usual notation."""
    return f"[{start}, {end}]"


def bristle(angles: tuple[int, ...]) -> int:
    """Three per corner below 90 degrees, two per corner of 90 degrees, one per larger corner."""
    return sum(3 if angle < 90 else 2 if angle == 90 else 1 for angle in angles)


def draw_angles(rng: Random) -> tuple[tuple[int, ...]]:
    """The angles of a convex polygon with three to six corners. The bristles 8 and 9 are drawn less often."""
    while True:
        count = rng.randint(3, 6)
        angles = [90 if rng.random() < 0.25 else rng.randrange(30, 170, 10) for _ in range(count - 1)]
        last = (count - 2) * 180 - sum(angles)
        if 30 <= last <= 160 and (bristle((*angles, last)) not in (8, 9) or rng.random() < 0.4):
            return ((*angles, last),)


def pelok(*dice: int) -> int:
    """The highest die times the lowest, plus ten if all dice differ."""
    return max(dice) * min(dice) + (10 if len(set(dice)) == len(dice) else 0)


def date_number(day: int, month: int) -> int:
    """Day plus month up to the 15th, day minus month from the 16th on."""
    return day + month if day <= 15 else day - month


def draw_date(rng: Random) -> tuple[int, int]:
    """A day and its month."""
    month = rng.randint(1, 12)
    return rng.randint(1, MONTH_LENGTHS[month - 1]), month


def dated(option: str) -> int:
    """The number of a date such as 24 July."""
    day, month = option.split()
    return date_number(int(day), MONTHS.index(month) + 1)


def goat_path(rows: tuple[tuple[int, ...], ...]) -> list[int]:
    """The numbers on the path from top left to bottom right. A step goes to the larger number; if equal, right."""
    row, column, path = 0, 0, [rows[0][0]]
    while (row, column) != (len(rows) - 1, len(rows[0]) - 1):
        down = rows[row + 1][column] if row + 1 < len(rows) else None
        right = rows[row][column + 1] if column + 1 < len(rows[0]) else None
        if down is None or (right is not None and right >= down):
            column += 1
        else:
            row += 1
        path.append(rows[row][column])
    return path


def goat(*rows: tuple[int, ...]) -> int:
    """The sum of the numbers on the goat's path."""
    return sum(goat_path(rows))


def best_path(*rows: tuple[int, ...]) -> int:
    """The largest sum of any path that goes right and down."""
    best: list[int] = []
    for number, row in enumerate(rows):
        line: list[int] = []
        for column, value in enumerate(row):
            before = ([best[column]] if number else []) + ([line[-1]] if column else [])
            line.append(value + max(before, default=0))
        best = line
    return best[-1]


def shy_goat(*rows: tuple[int, ...]) -> int:
    """The sum on the path that always steps onto the smaller number."""
    return -goat(*(tuple(-value for value in row) for row in rows))


def halved(number: int) -> str:
    """The digits of a number, with the even ones halved."""
    return "".join(str(int(d) // 2) if int(d) % 2 == 0 else d for d in str(number))


def pier_code(number: int) -> str:
    """The digits in reverse order, with the even ones halved."""
    return halved(number)[::-1]


def tarupa(first: int, second: int, length: int, instead: int = 10) -> list[int]:
    """Each further number is the difference of the last two, or `instead` where that is zero."""
    numbers = [first, second]
    while len(numbers) < length:
        numbers.append(abs(numbers[-1] - numbers[-2]) or instead)
    return numbers


def row_start(option: str) -> tuple[int, int]:
    """The two numbers of an option such as 7 and 7."""
    first, second = map(int, option.split(" and "))
    return first, second


def tilde(n: int, k: int) -> int:
    """The sum of k whole numbers counted down from n. Numbers below 1 do not count."""
    return sum(range(n, max(n - k, 0), -1))


def loose_ends(lines: tuple[str, ...]) -> int:
    """The number of points with exactly one line."""
    ends = "".join(lines)
    return sum(ends.count(point) == 1 for point in set(ends))


def rust(lines: tuple[str, ...]) -> int:
    """The number of lines minus the number of points with exactly one line."""
    return len(lines) - loose_ends(lines)


def chain(count: int) -> tuple[str, ...]:
    """The lines of an open row of points."""
    letters = "ABCDEFGHIJKLMNOP"[:count]
    return tuple(a + b for a, b in pairwise(letters))


def ring(count: int) -> tuple[str, ...]:
    """The lines of a closed ring of points."""
    lines = chain(count)
    return (*lines, lines[0][0] + lines[-1][1])


def draw_lines(rng: Random) -> tuple[tuple[str, ...]]:
    """Five to eight different lines between six points."""
    pairs = [a + b for a in "ABCDEF" for b in "ABCDEF" if a < b]
    return (tuple(sorted(rng.sample(pairs, rng.randint(5, 8)))),)


def by_first(number: int) -> bool:
    """True if the first digit divides the number."""
    return number % int(str(number)[0]) == 0


def by_last(number: int) -> bool:
    """True if the last digit divides the number. Zero never does."""
    return number % 10 != 0 and number % (number % 10) == 0


def ajar(number: int) -> bool:
    """True if the last digit divides the number and the first does not."""
    return by_last(number) and not by_first(number)


def next_ajar(number: int) -> int:
    """The first ajar number above a number."""
    number += 1
    while not ajar(number):
        number += 1
    return number


def barge(columns: int, rows: int) -> int:
    """The moves for a way across so many columns and rows: one for all columns, one per row."""
    return (1 if columns else 0) + rows


def way(start: str, end: str) -> tuple[int, int]:
    """The number of columns and of rows from one square to another."""
    return abs(ord(start[0]) - ord(end[0])), abs(int(start[1]) - int(end[1]))


def barge_misread(columns: int, rows: int) -> list[int]:
    """The moves of a rook, a king, a barge turned by 90 degrees and others. Which comes first depends on the way."""
    right = barge(columns, rows)
    return turned(
        [(columns > 0) + (rows > 0), max(columns, rows), right - 1, columns + (rows > 0), columns + rows, right + 1],
        columns + 2 * rows,
    ) + near(right)


def draw_squares(rng: Random) -> tuple[str, str]:
    """Two different squares of a chessboard that need more than one move."""
    names = [column + str(line) for column in "abcdefgh" for line in range(1, 9)]
    while True:
        start, end = rng.sample(names, 2)
        if barge(*way(start, end)) > 1:
            return start, end


def signs(text: str) -> int:
    """I is 1, T is 7, K is 20, and they are added. An I in front of a T or K doubles the rest."""
    values = {"I": 1, "T": 7, "K": 20}
    if text[0] == "I" and text[1:2] in ("T", "K"):
        return 2 * sum(values[sign] for sign in text[1:])
    return sum(values[sign] for sign in text)


def draw_signs(rng: Random) -> tuple[str]:
    """Signs in falling order. In half of the draws an I stands in front."""
    while True:
        body = "K" * rng.randint(0, 4) + "T" * rng.randint(0, 4) + "I" * rng.randint(0, 5)
        if body[:1] in ("K", "T") and len(body) > 1:
            return ("I" * rng.randint(0, 1) + body,)


def change(option: str) -> int:
    """The change that an option such as 'it falls by 10' states, as a signed number."""
    if "same" in option:
        return 0
    amount = option.split()[-1]
    number = NUMBER_WORDS[amount] if amount in NUMBER_WORDS else int(amount)
    return -number if "falls" in option or "drops" in option else number


def near(value: int) -> list[int]:
    """Five numbers just above a value, in case there are too few wrong values."""
    return [value + 1, value + 2, value + 3, value + 4, value + 5]


def turned(values: list[int], turn: int) -> list[int]:
    """The values, rotated, so that the right number has no fixed rank among the wrong ones."""
    start = turn % len(values)
    return values[start:] + values[:start]


REFERENCES = {
    "mathematics-01": Reference(
        answer=fold,
        draw=lambda rng: (rng.randint(2, 20), rng.randint(2, 20)),
        ask=lambda x, y: f"What is the fold of {x} and {y}, as introduced in the Tarnby lectures of 2027?",
        wrong=lambda x, y: (
            turned(
                [x * y + min(x, y), x * y, x + y + max(x, y), x * y + x + y, (x + y) * max(x, y), (x + 1) * (y + 1)],
                x + 2 * y,
            )
            + near(fold(x, y))
        ),
        checks={
            1: lambda option: int(option) == fold(2, 5),
            3: lambda option: int(option) == fold(3, 8) - 3 * 8,
            4: lambda option: int(option) == fold(1, 3),
            5: lambda option: int(option) == fold(3, 4),
        },
    ),
    "mathematics-02": Reference(
        answer=calm_age,
        draw=draw_digits,
        ask=lambda n: f"What is the calm age of {n} in the sense of the Sorvik journal of 2028?",
        wrong=lambda n: [
            len(str(n)),
            0,
            *turned([len(str(n)) - 1, len(str(n)) + 1, len(str(n)) + 2, len(set(str(n)))], n),
        ],
        checks={
            1: lambda option: (
                {"number of its": 4, "number of equal": 2, "sum of its": 18, "first of its": 5}[
                    " ".join(option.split()[1:4])
                ]
                == calm_age(5058)
            ),
            3: lambda option: option == ("calm" if calm(33) else "wild"),
            4: lambda option: int(option) == calm_age(58),
            5: lambda option: (
                {"half of them": 45, "none of them": 0, "ten of them": 10, "nine of them": 9}[option]
                == sum(not calm(n) for n in range(10, 100))
            ),
        },
    ),
    "mathematics-03": Reference(
        answer=skirt,
        draw=lambda rng: (rng.randint(2, 20), rng.randint(2, 20)),
        ask=lambda a, b: (
            f"A rectangle has sides of {a} and {b} metres. "
            "How many metres long is its skirt in the sense of the Windhoek school book of 2029?"
        ),
        wrong=lambda a, b: (
            turned(
                [2 * (a + b), 3 * max(a, b), a * b, max(a, b) + 2 * min(a, b), a + b, 2 * max(a, b)],
                a + 2 * b,
            )
            + near(skirt(a, b))
        ),
        checks={
            3: lambda option: skirt(6, 2) - int(option.split()[0]) == 2,
            4: lambda option: int(option.split()[0]) == skirt(1, 1),
            5: lambda option: int(option.split()[0]) == skirt(10, 4),
        },
    ),
    "mathematics-04": Reference(
        answer=lambda values: int(drum_mean(values)),
        draw=draw_values,
        ask=lambda values: f"What is the drum mean of {listed(values)}, as proposed in Cuenca in 2028?",
        wrong=lambda values: (
            turned(
                [
                    sum(values) // len(values),
                    sorted(values)[len(values) // 2],
                    (sum(values) - min(values)) // (len(values) - 1),
                    min(values),
                    (sum(values) - max(values)) // len(values),
                    (sum(values) - max(values) - min(values)) // (len(values) - 1),
                ],
                sum(values),
            )
            + near(int(drum_mean(values)))
        ),
        checks={
            3: lambda option: 4 + 9 + 6 - int(option) == 2 * drum_mean((4, 9, 6)),
            4: lambda option: int(option) == drum_mean((6, 6, 9)),
            5: lambda option: int(option) == drum_mean((10, 20, 30, 40)),
        },
    ),
    "mathematics-05": Reference(
        answer=chime,
        draw=lambda rng: (rng.randint(0, 23), rng.randint(0, 59)),
        ask=lambda hour, minute: f"What is the Vila Seara chime of {hour:02}:{minute:02}?",
        wrong=lambda hour, minute: [
            digit_sum(hour, minute) * (1 if hour >= 12 else 2),
            hour + minute,
            2 * digit_sum(hour % 12, minute) if hour >= 12 else digit_sum(hour + 12, minute),
            *near(chime(hour, minute)),
        ],
        checks={
            1: lambda option: int(option) == chime_at("13:05"),
            2: lambda option: (
                option == next(f"{hour:02}:00" for hour in range(1, 24) if chime(hour, 0) > digit_sum(hour, 0))
            ),
            3: lambda option: int(option) == chime_at("00:02"),
            4: lambda option: (
                {"it is doubled": 20, "it is left alone": 10, "it is tripled": 30, "it is squared": 100}[option]
                == chime_at("17:20")
            ),
            5: lambda option: change(option) == chime_at("12:00") - chime_at("11:59"),
        },
    ),
    "mathematics-06": Reference(
        answer=weight,
        draw=lambda rng: (rng.choice(WORDS),),
        ask=lambda word: f"What is the Kisiwira weight of the word '{word}'?",
        wrong=lambda word: [
            weight(word) + (2 if word[0] in "aeiou" else -2),
            *turned([len(word), points(word, "aeiou", 1, 3), weight(word) + 1, weight(word) - 1], len(set(word))),
            *near(weight(word)),
        ],
        checks={
            1: lambda option: NUMBER_WORDS[option] == weight("apple"),
            2: lambda option: NUMBER_WORDS[option.split()[0]] == points("apple", "aeiou", 3, 1) - weight("apple"),
            3: lambda option: int(option) == weight("k"),
            4: lambda option: int(option) == weight("so"),
            5: lambda option: weight(option) == max(map(weight, ("house", "ocean", "stone", "bread"))),
        },
    ),
    "mathematics-07": Reference(
        answer=braid,
        draw=lambda rng: (rng.randint(1, 9), rng.randint(2, 9), rng.randint(1, 9), rng.randint(2, 9)),
        ask=lambda a, b, c, d: (
            f"What does braiding {a}/{b} with {c}/{d} give by the rule of the Mtvare column of 2029?"
        ),
        wrong=lambda a, b, c, d: [
            f"{a + c}/{b + d}",
            f"{b + c}/{a + d}",
            f"{b + d}/{a + c}",
            f"{a * c}/{b * d}",
            f"{a + b}/{c + d}",
            f"{a + d + 1}/{b + c}",
            f"{a + d}/{b + c + 1}",
        ],
        checks={
            1: lambda option: option == braid(1, 2, 3, 4),
            3: lambda option: braid(3, 7, 2, 9).startswith(f"{3 + int(option)}/"),
            4: lambda option: option == braid(1, 1, 1, 1),
            5: lambda option: all(
                Fraction(braid(c, d, a, b))
                == {"upside down": 1 / old, "just the same": old, "twice as big": 2 * old, "half as big": old / 2}[
                    " ".join(option.split()[2:])
                ]
                for a, b, c, d in ((1, 2, 3, 4), (2, 3, 1, 5), (5, 2, 7, 3))
                for old in [Fraction(braid(a, b, c, d))]
            ),
        },
    ),
    "mathematics-08": Reference(
        answer=lambda first, second: show(husk(first, second)),
        draw=draw_sets,
        ask=lambda first, second: (
            f"What is the husk of {show(first)} and {show(second)}, as studied in the Hue Letters of 2028?"
        ),
        wrong=lambda first, second: [
            show((first ^ second) | {max(first & second)}),
            show(husk(first, second) - {max(first ^ second)} | {max(first & second)}),
            show(first ^ second if sum(first) % 2 else first | second),
            show(first & second),
        ],
        checks={
            3: lambda option: (
                {"only the 4": {4}, "only the 9": {9}, "both of them": {4, 9}, "neither one": set()}[option]
                == husk({1, 4, 9}, {4, 9, 12}) & {4, 9}
            ),
            4: lambda option: int(option) == len(husk({3}, {8})),
            5: lambda option: int(option) not in husk({2, 5, 6, 8}, {5, 6, 9}),
        },
    ),
    "mathematics-09": Reference(
        answer=lambda start, end: interval(*tide(start, end)),
        draw=draw_interval,
        ask=lambda start, end: f"What is the tide of [{start}, {end}], as in the Apia handout of 2029?",
        wrong=lambda start, end: [
            interval((start + end) // 2, end),
            interval(end, 2 * end - start),
            interval(tide(start, end)[0] - 1, tide(start, end)[1] - 1),
            interval(start, (start + end) // 2),
        ],
        checks={
            1: lambda option: option == interval(*tide(2, 6)),
            3: lambda option: int(option) == tide(3, 7)[0],
            4: lambda option: int(option) == tide(0, 2)[1],
            5: lambda option: (
                tide(*tide(40, 80))[0]
                == {
                    "at its left end": 40,
                    "at its right end": 80,
                    "at its midpoint": 60,
                    "at its last quarter": 70,
                }[option]
            ),
        },
    ),
    "mathematics-10": Reference(
        answer=bristle,
        draw=draw_angles,
        ask=lambda angles: f"A convex polygon has corners of {listed(angles)} degrees. What is its Skarvoy bristle?",
        wrong=lambda angles: [
            4 * len(angles) - bristle(angles),
            2 * len(angles),
            len(angles),
            bristle(angles) + 1,
            bristle(angles) - 1,
            bristle(angles) + 2,
        ],
        checks={
            1: lambda option: NUMBER_WORDS[option] == bristle((90,) * 4),
            2: lambda option: NUMBER_WORDS[option] == bristle((90,)),
            3: lambda option: int(option) == bristle((30,)),
            4: lambda option: bristle((int(option.split()[0]),)) == 1,
            5: lambda option: (
                int(option)
                not in {bristle((a, b, 180 - a - b)) for a in range(5, 175, 5) for b in range(5, 175 - a, 5)}
            ),
        },
    ),
    "mathematics-11": Reference(
        answer=pelok,
        draw=lambda rng: tuple(rng.randint(1, 6) for _ in range(4)),
        ask=lambda *dice: f"What does a throw of {listed(dice)} score in Pelok?",
        wrong=lambda *dice: [
            sum(dice),
            max(dice) * min(dice) + (0 if len(set(dice)) == 4 else 10),
            sorted(dice)[2] * max(dice),
            max(dice) + min(dice),
            *near(pelok(*dice)),
        ],
        checks={
            1: lambda option: NUMBER_WORDS[option] == pelok(1, 2, 3, 4) - pelok(1, 2, 2, 4),
            3: lambda option: prod(row_start(option.replace("the ", ""))) == pelok(2, 3, 3, 5),
            4: lambda option: int(option) == pelok(1, 1, 1, 4),
            5: lambda option: pelok(4, 5, 6, int(option)) == max(pelok(4, 5, 6, face) for face in range(1, 7)),
        },
    ),
    "mathematics-12": Reference(
        answer=date_number,
        draw=draw_date,
        ask=lambda day, month: f"What is the Sarymerek number of {day} {MONTHS[month - 1]}?",
        wrong=lambda day, month: [
            day + month if day > 15 else abs(day - month),
            *turned(
                [
                    date_number(day, month) + 1,
                    date_number(day, month) + 2,
                    date_number(day, month) - 1,
                    max(date_number(day, month) - 2, 0),
                ],
                2 * day + month,
            ),
            *near(date_number(day, month) + 2),
        ],
        checks={
            1: lambda option: int(option) == dated("3 April"),
            2: lambda option: int(option.split()[1]) == next(day for day in range(1, 32) if date_number(day, 6) < day),
            3: lambda option: (
                {"it is taken away": 23, "it is added on": 33, "it is left out": 28, "it is doubled": 38}[option]
                == dated("28 May")
            ),
            4: lambda option: int(option) == dated("5 January"),
            5: lambda option: dated(option) == max(date_number(day, 12) for day in range(1, 32)),
        },
    ),
    "mathematics-13": Reference(
        answer=goat,
        draw=lambda rng: tuple(tuple(rng.randint(1, 9) for _ in range(3)) for _ in range(3)),
        ask=lambda *rows: (
            "What is the Chirwapampa goat sum of the grid with the rows "
            + " / ".join(" ".join(map(str, row)) for row in rows)
            + "?"
        ),
        wrong=lambda *rows: [
            best_path(*rows),
            shy_goat(*rows),
            sum(rows[0]) + sum(row[-1] for row in rows[1:]),
            sum(map(sum, rows)),
            sum(row[0] for row in rows[:-1]) + sum(rows[-1]),
            *near(goat(*rows)),
        ],
        checks={
            3: lambda option: int(option) not in goat_path(((6, 5), (8, 7))),
            4: lambda option: int(option) == goat((1, 1), (1, 1)),
            5: lambda option: int(option) == goat((1, 2, 9), (3, 4, 5)),
        },
    ),
    "mathematics-14": Reference(
        answer=pier_code,
        draw=lambda rng: (rng.randint(100, 9999),),
        ask=lambda number: f"How is the number {number} signalled in the Uurtoniemi pier code of 2028?",
        wrong=lambda number: [
            halved(number),
            str(number)[::-1],
            "".join(str(int(d) // 2) for d in str(number))[::-1],
            pier_code(number)[0] + pier_code(number)[:0:-1],
            pier_code(number)[1:] + pier_code(number)[0],
            *(pier_code(number)[:-1] + d for d in "1357"),
        ],
        checks={
            1: lambda option: option == pier_code(4837),
            3: lambda option: option == pier_code(8),
            4: lambda option: option == pier_code(13),
            5: lambda option: option == pier_code(625),
        },
    ),
    "mathematics-15": Reference(
        answer=lambda first, second, place: tarupa(first, second, place)[-1],
        draw=lambda rng: (rng.randint(1, 15), rng.randint(1, 15), rng.randint(4, 7)),
        ask=lambda first, second, place: (
            f"A Tarupa row starts with {first} and {second}. What is its {ORDINALS[place]} number?"
        ),
        wrong=lambda first, second, place: [
            tarupa(first, second, place, instead=0)[-1],
            tarupa(first, second, place - 1)[-1],
            tarupa(first, second, place + 1)[-1],
            abs(first - second),
            *near(tarupa(first, second, place)[-1]),
        ],
        checks={
            3: lambda option: int(option) == tarupa(15, 2, 3)[-1],
            4: lambda option: int(option) == tarupa(8, 8, 3)[-1],
            5: lambda option: int(option) == tarupa(30, 30, 4)[-1],
        },
    ),
    "mathematics-16": Reference(
        answer=tilde,
        draw=lambda rng: (rng.randint(2, 30), rng.randint(2, 9)),
        ask=lambda n, k: f"What is {n}~{k} in the notation of the magazine Inzogera?",
        wrong=lambda n, k: (
            turned(
                [n * k, sum(range(n, n + k)), tilde(n, k + 1), n + k, tilde(n, k - 1), tilde(n - 1, k)],
                n + k,
            )
            + near(tilde(n, k))
        ),
        checks={
            1: lambda option: tilde(2, 9) == 2 + int(option),
            2: lambda option: sum(map(int, option.split(" + "))) == tilde(7, 3),
            3: lambda option: tilde(9, 2) == 9 + int(option),
            4: lambda option: int(option) == tilde(2, 2),
            5: lambda option: int(option) == tilde(4, 8),
        },
    ),
    "mathematics-17": Reference(
        answer=rust,
        draw=draw_lines,
        ask=lambda lines: (
            "What is the Oaxaca rust of the network with the lines " + ", ".join(f"{a}-{b}" for a, b in lines) + "?"
        ),
        wrong=lambda lines: (
            turned(
                [
                    len(lines),
                    len(lines) + loose_ends(lines),
                    len(set("".join(lines))),
                    loose_ends(lines),
                    abs(len(lines) - len(set("".join(lines)))),
                ],
                sum(map(ord, "".join(lines))),
            )
            + near(rust(lines))
        ),
        checks={
            3: lambda option: int(option) == rust(chain(6)),
            4: lambda option: (
                {"lines": 6, "points": 4, "rings": 7, "forks": 4}[option.split()[-1]]
                == rust(("AB", "AC", "AD", "BC", "BD", "CD"))
            ),
            5: lambda option: change(option) == rust(ring(9)) - rust(chain(9)),
        },
    ),
    "mathematics-18": Reference(
        answer=next_ajar,
        draw=lambda rng: (rng.choice((rng.randint(20, 90), rng.randint(200, 985))),),
        ask=lambda number: (
            f"Which is the first number above {number} that is ajar in the sense of the Thimphu lexicon?"
        ),
        wrong=lambda number: [
            next(n for n in range(number + 1, 3000) if by_last(n)),
            next(n for n in range(number + 1, 3000) if by_first(n) and not by_last(n)),
            next_ajar(next_ajar(number)),
            *near(number),
        ],
        checks={
            1: lambda option: ajar(int(option)),
            3: lambda option: ajar(84) and int(option) == 84 % 10,
            4: lambda option: {"first": by_first(48), "last": not by_last(48)}.get(option.split()[1], False),
            5: lambda option: ajar(int(option)),
        },
    ),
    "mathematics-19": Reference(
        answer=lambda start, end: barge(*way(start, end)),
        draw=draw_squares,
        ask=lambda start, end: (
            f"How many moves does the Ribeira Calva barge need at least from {start} to {end} on an empty chessboard?"
        ),
        wrong=lambda start, end: barge_misread(*way(start, end)),
        checks={
            3: lambda option: barge(*way("a1", option)) == 1,
            4: lambda option: int(option) == barge(*way("d1", "d5")),
            5: lambda option: int(option) == barge(*way("b2", "g5")),
        },
    ),
    "mathematics-20": Reference(
        answer=signs,
        draw=draw_signs,
        ask=lambda text: f"Which number do the Ait Morra signs {text} stand for?",
        wrong=lambda text: [
            sum({"I": 1, "T": 7, "K": 20}[sign] for sign in text) if text[0] == "I" else 2 * signs(text),
            signs(text[1:]) - 1 if text[0] == "I" else signs(text) - 2 * text.count("I"),
            sum({"I": 1, "T": 20, "K": 7}[sign] for sign in text),
            *near(signs(text)),
        ],
        checks={
            1: lambda option: NUMBER_WORDS[option] == signs("K"),
            2: lambda option: option in "ITK" and signs(option) == 7,
            3: lambda option: int(option) == signs("KT"),
            5: lambda option: int(option) == signs("IKT"),
        },
    ),
}
