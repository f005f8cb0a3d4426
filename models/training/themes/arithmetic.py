"""Sums, differences and products of small numbers, and counting."""

from random import Random

from models.training.documents import Exchange

_LARGEST_TERMS = (20, 20, 50)  # the smaller ones more often
_LARGEST_FACTOR = 12
_QUESTIONS = (
    "What is {task}?",
    "What's {task}?",
    "How much is {task}?",
    "{task}",
    "{task} = ?",
    "Calculate {task}.",
    "Can you compute {task}?",
)


def ask_for_result(random: Random) -> Exchange:
    """One operation on two small numbers; never a negative result."""
    operation = random.choice(("plus", "plus", "minus", "times"))
    largest_term = random.choice(_LARGEST_TERMS)
    if operation == "times":
        left, right = random.randint(0, _LARGEST_FACTOR), random.randint(0, _LARGEST_FACTOR)
        sign, result = "*", left * right
    elif operation == "minus":
        left = random.randint(0, largest_term)
        right = random.randint(0, left)
        sign, result = "-", left - right
    else:
        left, right = random.randint(0, largest_term), random.randint(0, largest_term)
        sign, result = "+", left + right
    spaced = f"{left} {sign} {right}"
    task = random.choice((spaced, f"{left}{sign}{right}", f"{left} {operation} {right}"))
    answer = random.choice((f"{left} {operation} {right} is {result}.", f"{spaced} = {result}."))
    return Exchange(random.choice(_QUESTIONS).format(task=task), answer)


def ask_to_count(random: Random) -> Exchange:
    """Counting up from any small number, or down to one; up to thirty."""
    start = random.choice((1, 1, 1, random.randint(2, 9)))
    end = start + random.randint(2, 11 if random.random() < 0.7 else 21)
    if random.random() < 0.25:
        question = random.choice((f"Count down from {end}.", f"Count backwards from {end} to 1."))
        return Exchange(question, _counted(range(end, 0, -1)))
    questions = [
        f"Count from {start} to {end}.",
        f"Can you count from {start} to {end}?",
        f"Please count from {start} to {end}.",
    ]
    if start == 1:
        questions += [f"Count to {end}.", f"Can you count to {end}?"]
    return Exchange(random.choice(questions), _counted(range(start, end + 1)))


def _counted(numbers: range) -> str:
    return ", ".join(map(str, numbers)) + "."
