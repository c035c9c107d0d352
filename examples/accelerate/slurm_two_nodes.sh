#!/bin/bash
# Two machines with 8 GPUs each under SLURM, FSDP2 over all 16: sbatch examples/accelerate/slurm_two_nodes.sh recipe.yaml
# One task on each machine starts 8 processes there. Memory: see fsdp2_two_nodes.yaml.
#
# When the time is up, SLURM ends the job; with `resume_from_checkpoint: true` in the recipe, the same command goes on
# from the newest complete checkpoint, with the same prompts and weights as if it had not stopped.
#SBATCH --job-name=qwenlong-trl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
recipe=${1:?give a recipe: sbatch examples/accelerate/slurm_two_nodes.sh recipe.yaml}
# SLURM runs a copy of this file, so paths are those of the folder in which sbatch was called.
config=examples/accelerate/fsdp2_two_nodes.yaml
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export config recipe host

# Single quotes: the rank of a machine is known there alone.
srun bash -c 'accelerate launch --config_file "$config" --machine_rank "$SLURM_NODEID" --main_process_ip "$host" \
    --main_process_port 29500 --module qwenlong_trl.cli.main phased-grpo --config "$recipe"'
