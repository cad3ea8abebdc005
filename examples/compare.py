"""Ask both providers the same question at once, and print the answers one below the other.

    python compare.py "What is a pseudo-terminal?"
    python compare.py --url http://127.0.0.1:8000/mcp --token-file laptop.token "What is a pseudo-terminal?"

Whoever cannot answer is told of with the next step, and the other's answer is printed all the same (exit code 1).
Needs hub_client.py, which says how a hub is reached.
"""

from __future__ import annotations

import asyncio
import sys

from hub_client import AskFailed, Way, ask, connected, parser, run, way

PROVIDERS = ("claude", "gemini")


async def compare(to: Way, question: str) -> int:
    """Ask both at once. Returns 0 when both have answered, 1 when one has not."""
    async with connected(to) as client:
        answers = await asyncio.gather(
            *(ask(client, provider, question) for provider in PROVIDERS), return_exceptions=True
        )
    for provider, answer in zip(PROVIDERS, answers, strict=True):
        if isinstance(answer, AskFailed):
            begun = f"{answer.error['partial_text']} [...]\n" if answer.error["partial_text"] else ""
            print(f"--- {provider}: no answer ---\n{begun}{answer}\n")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            seconds = answer["duration_ms"] / 1000
            print(f"--- {provider} ({answer['model']}, {seconds:.1f} s) ---\n{answer['text']}\n")
    return 1 if any(isinstance(answer, AskFailed) for answer in answers) else 0


async def main() -> int:
    """Read the words and do it."""
    words = parser(__doc__)
    words.add_argument("question", metavar="QUESTION")
    given = words.parse_args()
    return await compare(way(given), given.question)


if __name__ == "__main__":
    sys.exit(run(main()))
