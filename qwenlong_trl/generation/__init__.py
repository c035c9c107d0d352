"""Several completions of each prompt, from a model in this process, from vLLM, or from a server.

```python
>>> from qwenlong_trl.generation import Sampling, TransformersSampler
>>> sampler = TransformersSampler("HuggingFaceTB/SmolLM2-135M-Instruct")
>>> sampling = Sampling(num_samples=8, temperature=0.85, max_tokens=256)
>>> for index, completions in sampler.sample(["What is the capital of Norway?"], ["q1"], sampling):
...     print(index, completions[0].text, completions[0].finish_reason)
```

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "Completion": "sampling",
    "GenerationError": "sampling",
    "JsonlStore": "store",
    "OpenAISampler": "openai_sampler",
    "PromptsRefusedError": "sampling",
    "SampleStore": "store",
    "Sampler": "sampling",
    "Sampling": "sampling",
    "SettingsMismatchError": "store",
    "TransformersSampler": "transformers_sampler",
    "VLLMSampler": "vllm_sampler",
    "example_seed": "sampling",
    "read_lines": "store",
    "read_settings": "store",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .openai_sampler import OpenAISampler as OpenAISampler
    from .sampling import Completion as Completion
    from .sampling import GenerationError as GenerationError
    from .sampling import PromptsRefusedError as PromptsRefusedError
    from .sampling import Sampler as Sampler
    from .sampling import Sampling as Sampling
    from .sampling import example_seed as example_seed
    from .store import JsonlStore as JsonlStore
    from .store import SampleStore as SampleStore
    from .store import SettingsMismatchError as SettingsMismatchError
    from .store import read_lines as read_lines
    from .store import read_settings as read_settings
    from .transformers_sampler import TransformersSampler as TransformersSampler
    from .vllm_sampler import VLLMSampler as VLLMSampler

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
