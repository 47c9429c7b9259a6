"""Records as the phases would write them, for tests that only need that there are some."""

from engine.storage.records import Scored, Trained

TRAINED = Trained(
    train_tokens=10,
    unique_tokens=5,
    train_flops=1e9,
    untrained_loss=2.0,
    train_loss=1.0,
    steps=2,
    train_seconds=3.0,
    gpu_seconds=0.0,
    device="cpu",
    device_name="a CPU",
    zero_stage=0,
    n_workers=1,
    weight_files={},
)
SCORED = Scored(accuracy_closed_book=0.5, accuracy_icl=1.0, evaluate_seconds=2.0, tensor_parallel=1)
