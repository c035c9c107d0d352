"""What model cards say of [`PhasedGRPOTrainer`]: the paper behind it, and the settings that matter."""

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

# Beside those of every training.
CARD_ARGUMENTS = (
    "num_generations",
    "max_completion_length",
    "temperature",
    "top_p",
    "beta",
    "loss_type",
    "scale_rewards",
    "retrospective",
    "retrospective_ratio",
    "difficulty",
    "dynamic_sampling",
    "phase_lr_schedule",
)
