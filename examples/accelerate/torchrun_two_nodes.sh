#!/bin/bash
# Two machines with 8 GPUs each without SLURM, FSDP2 over all 16. On both, with the address of the first one:
#
#   examples/accelerate/torchrun_two_nodes.sh HOST recipe.yaml
#
# The machines find their ranks by themselves. No accelerate configuration is read: FSDP2 is asked for by flags, which win
# over a recipe. Memory: see fsdp2_two_nodes.yaml.
set -euo pipefail
host=${1:?give the address of the first machine, then a recipe}
recipe=${2:?give a recipe after the address}

torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint "$host:29500" --rdzv_id qwenlong-trl \
    --module qwenlong_trl.cli.main phased-grpo --config "$recipe" \
    --fsdp --fsdp_config '{"version": 2, "reshard_after_forward": true, "state_dict_type": "SHARDED_STATE_DICT"}'
