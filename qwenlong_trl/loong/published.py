"""The published results of Loong, as the authors printed them (arXiv 2406.17419, README of the official repository).

```python
>>> published()["GPT-4o"][None, None]  # all sets, all tasks: average score and perfect rate
(53.47, 0.26)
```

They were made with the official code, prompt and judge; there are no intervals. The paper's Table 3 has seven of
these models; the other four, and the tables by set, are in the README. Its claimed window of Qwen2-72B is 200K in one
table and 128K elsewhere; here it is 128K.
"""

from __future__ import annotations

from .records import TASKS


SOURCE = "arXiv 2406.17419"
CLAIMED_WINDOWS = {
    "Gemini-1.5-pro": "1000K",
    "GPT-4o": "128K",
    "Claude3.5-Sonnet": "200K",
    "Claude3-Haiku": "200K",
    "Qwen2-72B-Instruct": "128K",
    "GPT-4o-mini": "128K",
    "GLM4-9B-Chat": "1000K",
    "Kimi-Chat": "200K",
    "Llama-3.1-8B-Instruct": "128K",
    "Phi-3-small": "128K",
    "Phi-3-mini": "128K",
}  # tokens

# By set (`None`: all): average score and perfect rate of each task, in the order of `TASKS`, and of all.
_TABLES = {
    None: """
        Gemini-1.5-pro        75.02  0.56 49.94  0.27 44.10  0.09 64.97  0.37 55.37  0.27
        GPT-4o                73.95  0.62 50.50  0.28 44.29  0.09 57.95  0.28 53.47  0.26
        Claude3.5-Sonnet      58.45  0.49 54.21  0.35 45.77  0.07 43.92  0.25 48.85  0.23
        Claude3-Haiku         68.68  0.59 42.10  0.21 35.04  0.02 47.59  0.17 44.88  0.19
        Qwen2-72B-Instruct    54.17  0.36 42.38  0.20 36.71  0.04 47.76  0.18 43.29  0.15
        GPT-4o-mini           53.12  0.41 44.27  0.20 32.58  0.04 52.34  0.23 42.95  0.18
        GLM4-9B-Chat          57.35  0.47 40.38  0.20 28.52  0.02 39.94  0.16 38.31  0.16
        Kimi-Chat             60.98  0.50 34.74  0.13 28.76  0.04 38.52  0.15 37.49  0.16
        Llama-3.1-8B-Instruct 59.96  0.46 35.73  0.18 27.83  0.01 35.59  0.14 36.31  0.14
        Phi-3-small           29.23  0.10 20.12  0.06 17.53  0.00 14.36  0.01 19.03  0.03
        Phi-3-mini            25.65  0.15 13.34  0.04 12.00  0.00 12.61  0.01 14.54  0.04
    """,
    1: """
        Gemini-1.5-pro        75.00  0.60 54.88  0.28 56.15  0.23 70.64  0.37 63.36  0.34
        GPT-4o                85.67  0.81 64.27  0.33 57.01  0.24 81.58  0.55 70.40  0.44
        Claude3.5-Sonnet      60.85  0.55 69.07  0.47 58.63  0.13 68.57  0.50 63.69  0.37
        Claude3-Haiku         60.94  0.55 59.97  0.40 45.53  0.04 66.85  0.34 57.14  0.28
        Qwen2-72B-Instruct    68.49  0.55 60.60  0.37 47.08  0.08 70.39  0.36 60.11  0.29
        GPT-4o-mini           62.49  0.56 65.48  0.40 45.81  0.12 79.85  0.55 62.42  0.36
        GLM4-9B-Chat          63.11  0.53 54.10  0.27 39.50  0.08 56.32  0.28 51.43  0.25
        Kimi-Chat             81.11  0.74 46.70  0.20 47.84  0.07 53.77  0.17 55.02  0.24
        Llama-3.1-8B-Instruct 67.91  0.57 41.62  0.20 36.55  0.04 54.74  0.34 48.10  0.24
        Phi-3-small           35.00  0.15 26.83  0.12 17.01  0.00 15.87  0.00 21.44  0.05
        Phi-3-mini            46.13  0.30 22.18  0.05 19.30  0.02 20.44  0.03 24.58  0.07
    """,
    2: """
        Gemini-1.5-pro        76.50  0.57 54.51  0.34 44.58  0.09 64.87  0.34 55.56  0.26
        GPT-4o                86.76  0.72 59.81  0.40 47.83  0.11 62.09  0.34 58.38  0.29
        Claude3.5-Sonnet      63.83  0.53 58.90  0.39 50.96  0.10 46.09  0.26 52.73  0.24
        Claude3-Haiku         73.71  0.66 41.90  0.22 36.18  0.02 50.20  0.15 45.45  0.17
        Qwen2-72B-Instruct    64.53  0.43 42.60  0.21 38.52  0.05 51.18  0.20 45.71  0.17
        GPT-4o-mini           63.54  0.46 51.48  0.26 36.56  0.04 56.51  0.25 47.74  0.19
        GLM4-9B-Chat          65.04  0.54 41.80  0.23 30.72  0.02 42.34  0.17 40.19  0.17
        Kimi-Chat             72.82  0.52 46.77  0.21 33.46  0.06 40.51  0.15 42.40  0.16
        Llama-3.1-8B-Instruct 72.79  0.59 44.51  0.27 32.98  0.01 40.53  0.15 41.98  0.16
        Phi-3-small           34.17  0.16 22.08  0.08 20.51  0.01 16.20  0.01 21.40  0.04
        Phi-3-mini            44.71  0.29 22.81  0.09 16.37  0.00 15.39  0.01 20.84  0.05
    """,
    3: """
        Gemini-1.5-pro        81.25  0.56 44.66  0.20 39.90  0.05 58.38  0.36 52.05  0.24
        GPT-4o                74.84  0.65 42.40  0.21 38.70  0.04 45.06  0.09 46.95  0.19
        Claude3.5-Sonnet      65.36  0.56 50.32  0.34 37.79  0.03 25.95  0.11 42.06  0.19
        Claude3-Haiku         77.81  0.67 37.07  0.17 30.94  0.01 36.87  0.12 41.41  0.18
        Qwen2-72B-Instruct    46.99  0.27 37.06  0.13 31.50  0.02 35.01  0.07 35.94  0.09
        GPT-4o-mini           58.27  0.49 33.46  0.09 27.33  0.01 35.67  0.04 35.63  0.11
        GLM4-9B-Chat          69.19  0.56 37.99  0.18 26.63  0.01 32.30  0.09 37.36  0.16
        Kimi-Chat             62.13  0.54 24.20  0.05 21.98  0.01 31.02  0.14 31.37  0.14
        Llama-3.1-8B-Instruct 60.05  0.46 25.86  0.11 21.96  0.00 19.14  0.02 28.41  0.10
        Phi-3-small           25.12  0.06 15.26  0.01 16.80  0.00 12.75  0.01 16.94  0.01
        Phi-3-mini             7.40  0.03  1.97  0.00  6.07  0.00  7.38  0.01  5.79  0.01
    """,
    4: """
        Gemini-1.5-pro        62.23  0.49 43.08  0.20 36.48  0.00 68.51  0.49 50.70  0.25
        GPT-4o                36.79  0.19 23.97  0.08 30.40  0.00 32.89  0.07 31.11  0.07
        Claude3.5-Sonnet      36.91  0.24 28.82  0.05 28.68  0.00 28.77  0.08 30.51  0.08
        Claude3-Haiku         53.26  0.40 27.00  0.03 25.36  0.00 28.11  0.05 32.15  0.10
        Qwen2-72B-Instruct    33.18  0.16 26.59  0.08 29.84  0.01 25.81  0.04 28.92  0.06
        GPT-4o-mini           20.66  0.09 19.18  0.03 16.03  0.00 27.81  0.00 20.41  0.02
        GLM4-9B-Chat          15.67  0.12 21.33  0.05 12.35  0.00 21.04  0.05 16.84  0.05
        Kimi-Chat             20.17  0.12  9.17  0.00  5.65  0.00 22.61  0.11 13.50  0.05
        Llama-3.1-8B-Instruct 31.72  0.13 27.27  0.10 15.17  0.00 22.89  0.02 22.51  0.05
        Phi-3-small           22.36  0.02 16.43  0.05 11.50  0.00 10.35  0.00 14.27  0.01
        Phi-3-mini             5.21  0.00  2.20  0.00  3.45  0.00  2.58  0.00  3.38  0.00
    """,
}


def published() -> dict[str, dict[tuple[int | None, int | None], tuple[float, float]]]:
    """Average score (1 to 100) and perfect rate (0 to 1) by model, and by set and level; `None` stands for all."""
    found: dict[str, dict] = {}
    for number, table in _TABLES.items():
        for line in table.strip().splitlines():
            name, *figures = line.split()
            levels = (*range(1, len(TASKS) + 1), None)
            for level, score, rate in zip(levels, figures[::2], figures[1::2], strict=True):
                found.setdefault(name, {})[number, level] = float(score), float(rate)
    return found
