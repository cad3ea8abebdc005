"""Claude reviews your changes, Gemini reviews the review, and Claude takes that into account: one conversation.

    python second_opinion.py                             # the changes since the last commit, in the folder you are in
    python second_opinion.py --base main --rounds 2 "Does this keep the old clients working?"

Each round is one ask of Gemini and one of Claude; it ends when Gemini has nothing left to say, or after --rounds. The
last answer goes to stdout, what happens meanwhile to stderr. Exit code 3: there was no agreement, and Gemini's last
objections stand below the answer. A hub over HTTP (--url) must have your repository in its HUB_FILE_ROOTS.
Needs hub_client.py, which says how a hub is reached.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hub_client import AskFailed, Way, ask, connected, parser, run, way

EX_NO_AGREEMENT = 3
DONE = "NOTHING LEFT TO SAY"
QUESTION = "Review these changes: faults that matter, each with its file, line and reason, the most serious first."
REVIEW = f"""You are the second reviewer of the changes above. Check the last answer against them: what in it is wrong,
and which fault that matters does it miss? Be brief, and do not repeat what is right. If you have no objection, answer
with these words alone: {DONE}"""
REVISE = """A second reviewer has just objected to your answer, in the message before this one. Check each objection
against the changes. Then give your whole answer anew, with what holds, and without a word about the review itself."""


def agrees(review: str) -> bool:
    """Whether the reviewer has no objection left, however the model has dressed that up."""
    return review.strip(" \n\t*_.!`\"'#").upper() == DONE


def say(text: str) -> None:
    """What happens, on stderr: stdout has the answer alone."""
    print(text, file=sys.stderr, flush=True)


async def discuss(to: Way, question: str, diff: dict[str, Any], rounds: int) -> int:
    """Ask, have it reviewed, ask again. Returns the exit code."""
    async with connected(to) as client:
        say("Claude reads the changes ...")
        answer = await ask(client, "claude", question, git_diff=diff)
        conversation: str = answer["conversation_id"]
        objections = ""
        try:
            for number in range(1, rounds + 1):
                say(f"Round {number}: Gemini reviews ...")
                review = await ask(client, "gemini", REVIEW, conversation_id=conversation)
                if agrees(review["text"]):
                    objections = ""
                    say("Gemini has nothing left to say.")
                    break
                objections = review["text"]
                say(f"Gemini objects:\n{objections}\nRound {number}: Claude looks at it again ...")
                answer = await ask(client, "claude", REVISE, conversation_id=conversation)
        except AskFailed as failed:  # what there is so far is worth having
            say(f"{failed}\nThe review ends here; conversation {conversation} can go on later.")
            print(answer["text"])
            return failed.exit_code
    print(answer["text"])
    if objections:
        print(f"\n--- Gemini's last objections, after {rounds} rounds ---\n{objections}")
    return EX_NO_AGREEMENT if objections else 0


def count(text: str) -> int:
    """How many rounds: 1 to 10, for each is two asks of your subscriptions."""
    if not text.isdigit() or not 1 <= int(text) <= 10:
        raise argparse.ArgumentTypeError("1 to 10")
    return int(text)


async def main() -> int:
    """Read the words and do it."""
    words = parser(__doc__)
    words.add_argument("question", nargs="?", metavar="QUESTION", default=QUESTION)
    words.add_argument("--base", metavar="REVISION", help="compare with it; without it, with the last commit")
    words.add_argument("--rounds", type=count, default=3, metavar="N", help="at most so many, 1 to 10 (3)")
    given = words.parse_args()
    return await discuss(way(given), given.question, {"base": given.base} if given.base else {}, given.rounds)


if __name__ == "__main__":
    sys.exit(run(main()))
