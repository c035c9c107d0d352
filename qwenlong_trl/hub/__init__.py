"""What leaves for the Hub: model and data set cards filled from a run's own files, and pushes in one commit.

```python
>>> from qwenlong_trl.hub import plan_push, push_folder, write_card
>>> write_card("out", name="my-reader")  # README.md, from what the run left in the folder
>>> print(plan_push("out").table())  # what would be pushed, and what would not
>>> push_folder("out", "me/my-reader", private=True)
```
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "HubPushError": "errors",
    "Measurement": "measurements",
    "PushPlan": "plan",
    "checkpoint_from_hub": "resume",
    "plan_push": "plan",
    "push_folder": "push",
    "push_records": "record_sets",
    "save_record_set": "record_sets",
    "write_card": "cards",
    "write_measurements": "measurements",
}

__all__ = [
    "HubPushError",
    "Measurement",
    "PushPlan",
    "checkpoint_from_hub",
    "plan_push",
    "push_folder",
    "push_records",
    "save_record_set",
    "write_card",
    "write_measurements",
]

if TYPE_CHECKING:
    from .cards import write_card
    from .errors import HubPushError
    from .measurements import Measurement, write_measurements
    from .plan import PushPlan, plan_push
    from .push import push_folder
    from .record_sets import push_records, save_record_set
    from .resume import checkpoint_from_hub

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
