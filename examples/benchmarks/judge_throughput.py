"""Time to judge a batch of answers over HTTP: one request after the other, as the official code, against OpenAIJudge.

    python examples/benchmarks/judge_throughput.py                  # 512 pairs, 50 ms a request: about 80 s
    python examples/benchmarks/judge_throughput.py --pairs 64       # a quick look

Both ask the same server, a process of its own on this machine, which takes the given time for every request and always
answers the same.
The sequential client is `openai`'s, as plain as the released code of QwenLong-L1 uses it. Runs of ours come before and
after each sequential run, so that a machine that becomes slower touches both; the cache is off.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import time

from openai import OpenAI

from qwenlong_trl.rewards import Comparison, OpenAIJudge
from qwenlong_trl.rewards.judge_prompt import judge_messages, parse_verdict


BODY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "They differ. [[NO]]"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def serve(latency: float, ports) -> None:
    """Reads requests, waits, answers. As little work as possible: it shares two cores with who is measured."""

    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(latency)
                writer.write(ANSWER)
                await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=256)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def sequential(url: str, comparisons: list[Comparison]) -> list[bool | None]:
    client = OpenAI(base_url=url, api_key="none")
    verdicts = []
    for comparison in comparisons:
        messages = judge_messages(comparison, "l1")
        answer = client.chat.completions.create(model="m", messages=messages, temperature=0.0, max_tokens=512)
        verdicts.append(parse_verdict(answer.choices[0].message.content))
    return verdicts


def together(url: str, comparisons: list[Comparison], concurrency: int) -> list[bool | None]:
    judge = OpenAIJudge("m", url, api_key="none", prompt="l1", concurrency=concurrency)
    return [judgement.verdict for judgement in asyncio.run(judge.judge(comparisons))]


def timed(function, *arguments) -> float:
    started = time.perf_counter()
    verdicts = function(*arguments)
    seconds = time.perf_counter() - started
    if verdicts != [False] * len(verdicts):
        raise SystemExit("a request failed; the times cannot be compared")
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=512, help="Pairs of answers in the batch.")
    parser.add_argument("--latency", type=float, default=0.05, help="Seconds that the server takes for a request.")
    parser.add_argument("--concurrency", type=int, default=32, help="Requests of ours under way at the same time.")
    parser.add_argument("--runs", type=int, default=3, help="Runs of each.")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    context.Process(target=serve, args=(options.latency, ports), daemon=True).start()
    url = f"http://127.0.0.1:{ports.get(timeout=60)}/v1"
    comparisons = [Comparison("Which country?", f"Sweden {i}", "Norway") for i in range(options.pairs)]

    together(url, comparisons[:8], options.concurrency)  # imports and first connections, not counted
    ours, theirs = [timed(together, url, comparisons, options.concurrency)], []
    for run in range(options.runs):
        theirs.append(timed(sequential, url, comparisons))
        ours.append(timed(together, url, comparisons, options.concurrency))
        ratio = theirs[-1] / statistics.mean(ours[-2:])
        print(f"run {run + 1}: sequential {theirs[-1]:.2f} s, ours {ours[-1]:.2f} s, ratio {ratio:.1f}", flush=True)
    ratios = [slow / statistics.mean(ours[i : i + 2]) for i, slow in enumerate(theirs)]
    print(f"{options.pairs} pairs, {1000 * options.latency:.0f} ms a request, {options.concurrency} at the same time:")
    print(f"ratio: median {statistics.median(ratios):.1f}, all {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
