"""What a training runs on: how much memory it takes (`plan.py`), Liger's losses (`liger.py`)."""
