"""Judging one answer against what a row of the table owes."""


def owed(answer, *accepted):
    """`accepted`: 'STATUS Code', a bare status, or ('4xx'). With HEAD only the status can be judged."""
    assert answer is not None, "closed without an answer"
    got = f"{answer.status} {answer.code}"
    for want in map(str, accepted):
        if want == got or (want.isdigit() and int(want) == answer.status):
            return answer
        if want.endswith("xx") and answer.status // 100 == int(want[0]):
            return answer
    raise AssertionError(f"owed {' | '.join(map(str, accepted))}, got {got}: {answer.body[:300]!r}")


def owed_or_closed(answer, *accepted):
    return None if answer is None else owed(answer, *accepted)
