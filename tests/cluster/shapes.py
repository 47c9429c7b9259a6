"""The keys that the files in clusters/ use, where no schema of their makers refuses an unknown one.

A shape is a mapping of keys to shapes, a list with one shape, or None for whatever is below; the key `*` is any key.
"""

from collections.abc import Iterator
from typing import Any

Shape = dict[str, Any] | list[Any] | None
DISK = {"DeviceName": None, "Ebs": {"VolumeSize": None, "VolumeType": None, "DeleteOnTermination": None}}
AWS_NODE = {
    "InstanceType": None,
    "ImageId": None,
    "KeyName": None,
    "SubnetIds": [None],
    "SecurityGroupIds": [None],
    "IamInstanceProfile": {"Name": None},
    "BlockDeviceMappings": [DISK],
    "InstanceMarketOptions": {"MarketType": None},
}
GOOGLE_NODE = {
    "machineType": None,
    "disks": [
        {
            "boot": None,
            "autoDelete": None,
            "type": None,
            "initializeParams": {"diskSizeGb": None, "sourceImage": None, "diskType": None},
        }
    ],
    "networkInterfaces": [{"subnetwork": None, "accessConfigs": [{"name": None, "type": None}]}],
    "serviceAccounts": [{"email": None, "scopes": [None]}],
    "scheduling": {
        "onHostMaintenance": None,
        "automaticRestart": None,
        "provisioningModel": None,
        "instanceTerminationAction": None,
    },
}
PROVIDER = {
    "aws": dict.fromkeys(("type", "region", "cache_stopped_nodes")),
    "gcp": dict.fromkeys(("type", "region", "availability_zone", "project_id", "cache_stopped_nodes")),
    "local": dict.fromkeys(("type", "head_ip", "worker_ips")),
}
NODE = {"aws": AWS_NODE, "gcp": GOOGLE_NODE, "local": {}}
LABELS = {"ray.io/market-type": None, "ray.io/accelerator-type": None}
RESOURCES = dict.fromkeys(("CPU", "GPU", "accelerator_type:L4", "accelerator_type:H100", "accelerator_type:H200"))
AMOUNTS = {"requests": {"cpu": None, "memory": None}, "limits": {"cpu": None, "memory": None}}
GROUP = {
    "groupName": None,
    "replicas": None,
    "minReplicas": None,
    "maxReplicas": None,
    "priority": None,
    "idleTimeoutSeconds": None,
    "labels": LABELS,
    "resources": RESOURCES,
    "rayStartParams": {},
    "template": {"spec": None},  # its own schema is that of a pod
}
RAY_CLUSTER = {
    "apiVersion": None,
    "kind": None,
    "metadata": {"name": None},
    "spec": {
        "rayVersion": None,
        "authOptions": {"mode": None, "secretName": None},
        "enableInTreeAutoscaling": None,
        "autoscalerOptions": {
            "version": None,
            "upscalingMode": None,
            "idleTimeoutSeconds": None,
            "resources": AMOUNTS,
        },
        "headGroupSpec": {
            "serviceType": None,
            "rayStartParams": {"num-cpus": None, "dashboard-host": None},
            "labels": LABELS,
            "template": {"spec": None},
        },
        "workerGroupSpecs": [GROUP],
    },
}
RAY_JOB = {
    "apiVersion": None,
    "kind": None,
    "metadata": {"generateName": None},
    "spec": {
        "clusterSelector": {"ray.io/cluster": None},
        "entrypoint": None,
        "runtimeEnvYAML": None,
        "submissionMode": None,
        "ttlSecondsAfterFinished": None,
        "submitterPodTemplate": {"metadata": {"labels": {"app.kubernetes.io/name": None}}, "spec": None},
    },
}
POD_AMOUNTS = dict.fromkeys(("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"))  # a pod's schema takes any
CLAIM_AMOUNTS = {"requests": {"storage": None}}  # as above
SKYPILOT = {
    **dict.fromkeys(("name", "num_nodes", "workdir", "setup", "run")),
    "resources": {
        **dict.fromkeys(("accelerators", "cpus", "memory", "disk_size", "use_spot")),
        "job_recovery": {"strategy": None, "max_restarts_on_errors": None},
    },
    "envs": {"STUDY": None, "STORAGE": None},
    "secrets": {"RAY_AUTH_TOKEN": None},
}


def unknown_keys(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """Where a value has a key that its shape does not have."""
    if isinstance(shape, dict) and isinstance(value, dict):
        for key, inner in value.items():
            if key in shape or "*" in shape:
                yield from unknown_keys(inner, shape.get(key, shape.get("*")), f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    if isinstance(shape, list):
        for inner in value:
            yield from unknown_keys(inner, shape[0], where)
