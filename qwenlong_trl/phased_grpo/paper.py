"""The paper behind [`PhasedGRPOTrainer`], as model cards cite it."""

PAPER = {
    "title": "QwenLong-L1: Towards Long-Context Large Reasoning Models with Reinforcement Learning",
    "id": "2505.17667",
    "citation": (
        "@misc{wan2025qwenlongl1,\n"
        "    title = {{QwenLong-L1: Towards Long-Context Large Reasoning Models with Reinforcement Learning}},\n"
        "    author = {Fanqi Wan and others},\n"
        "    year = 2025,\n"
        "    eprint = {2505.17667},\n"
        "    archivePrefix = {arXiv}\n}"
    ),
}
