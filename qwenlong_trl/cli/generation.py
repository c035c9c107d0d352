"""Which model answers, and what runs it: the same options for all commands that sample."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


BACKENDS = ("transformers", "vllm", "openai")
# Options of vLLM on how much of the machine it uses. What else there is may change completions.
_OPERATIONAL = {"gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "swap_space", "cpu_offload_gb"}
_OPERATIONAL |= {"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "disable_log_stats"}


@dataclass
class GenerationArguments:
    """The model that answers. Keys of hosted servers are taken from OPENAI_API_KEY alone."""

    model_name_or_path: str = field(metadata={"help": "Model on the hub, folder, or name that the server knows."})
    backend: str = field(
        default="transformers",
        metadata={"help": "What runs the model; 'openai' is any OpenAI-compatible server.", "choices": BACKENDS},
    )
    base_url: str | None = field(
        default=None, metadata={"help": "With openai: address of the server up to /v1; the key is OPENAI_API_KEY."}
    )
    concurrency: int = field(default=32, metadata={"help": "With openai: prompts under way at the same time."})
    request_timeout: float = field(
        default=600.0, metadata={"help": "With openai: seconds for one attempt of a request."}
    )
    rows_per_batch: int = field(
        default=32, metadata={"help": "With transformers: most samples at the same time, for memory."}
    )
    tokens_per_batch: int = field(
        default=65536,
        metadata={"help": "With transformers: most tokens of prompts and answers at the same time, for memory."},
    )
    vllm_options: str | None = field(
        default=None,
        metadata={"help": "With vllm: JSON with options of vllm.LLM, '{\"max_model_len\": 4096}'."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Revision of the model on the hub."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Whether code of the model's repository may run."}
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights, with transformers and vllm."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer of the model; by default that of model_name_or_path."}
    )
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "JSON with arguments of the chat template, '{\"enable_thinking\": false}'."}
    )

    extra_body: str | None = field(
        default=None,
        metadata={
            "help": 'With openai: JSON with further fields of a request, null takes one out: \'{"max_tokens": null, '
            '"max_completion_tokens": 8192}\'.'
        },
    )

    def __post_init__(self):
        self.extra_body = json_object("extra_body", self.extra_body)
        self.vllm_options = json_object("vllm_options", self.vllm_options)
        self.chat_template_kwargs = json_object("chat_template_kwargs", self.chat_template_kwargs)
        if self.backend not in BACKENDS:
            raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}, got {self.backend!r}")
        if self.base_url is not None and self.backend != "openai":
            raise ValueError("--base_url goes with --backend openai")
        for name, backend in (("vllm_options", "vllm"), ("extra_body", "openai")):
            if getattr(self, name) is not None and self.backend != backend:
                raise ValueError(f"--{name} goes with --backend {backend}")

    def describe(self) -> dict[str, Any]:
        """What completions depend on, beside how they are drawn; a part only where it is given."""
        names = ("model_name_or_path", "model_revision", "backend", "dtype", "tokenizer", "chat_template_kwargs")
        options = {k: v for k, v in (self.vllm_options or {}).items() if k not in _OPERATIONAL}
        given = {"vllm_options": options, "extra_body": self.extra_body}
        return {name: getattr(self, name) for name in names} | {k: v for k, v in given.items() if v}

    def load_tokenizer(self):
        """The tokenizer of the model; raises `ValueError` where there is none."""
        from .records import load_tokenizer

        return load_tokenizer(
            self.tokenizer or self.model_name_or_path,
            revision=None if self.tokenizer else self.model_revision,
            trust_remote_code=self.trust_remote_code,
        )


def sampler_maker(args: GenerationArguments, reasoning: str = "refuse", max_model_len: int | None = None) -> Callable:
    """
    What starts the model when it is needed; a run that has all samples needs none.

    Args:
        args ([`GenerationArguments`]):
            The model.
        reasoning (`str`, *optional*, defaults to `"refuse"`):
            Of a server, see [`~qwenlong_trl.generation.OpenAISampler`].
        max_model_len (`int`, *optional*):
            Tokens that vLLM makes room for, if `vllm_options` does not say.
    """

    def make():
        from ..generation import OpenAISampler, TransformersSampler, VLLMSampler

        name, kwargs = args.model_name_or_path, args.chat_template_kwargs
        source = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code, "dtype": args.dtype}
        try:
            if args.backend == "transformers":
                return TransformersSampler(
                    name,
                    tokenizer=args.load_tokenizer() if args.tokenizer else None,
                    rows_per_batch=args.rows_per_batch,
                    tokens_per_batch=args.tokens_per_batch,
                    chat_template_kwargs=kwargs,
                    **source,
                )
            if args.backend == "vllm":
                options = {} if args.tokenizer is None else {"tokenizer": args.tokenizer}
                options |= {} if max_model_len is None else {"max_model_len": max_model_len}
                return VLLMSampler(name, chat_template_kwargs=kwargs, **source, **options | (args.vllm_options or {}))
            return OpenAISampler(
                name,
                args.base_url,
                concurrency=args.concurrency,
                timeout=args.request_timeout,
                chat_template_kwargs=kwargs,
                reasoning=reasoning,
                extra_body=args.extra_body,
            )
        except ImportError as error:  # the optional packages; the message says which, and how to get them
            raise ValueError(str(error)) from None

    return make


def json_object(name: str, value: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """An option that is a JSON object; raises `ValueError` for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{name} is not JSON ({error}): {value!r}") from None
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, got {value!r}")
    return value
