"""deploy/kubernetes/."""
import re
import tomllib
from pathlib import Path

import yaml

from .common import BIN, USER, command

# The oldest with ReadWriteOncePod for good, and the newest that has a schema here.
KUBERNETES = ("1.29.0", "1.37.0")
# Their schemas come with their operators; references are looked at below.
WITHOUT_SCHEMA = {"ServiceMonitor", "Kustomization"}


def restricted(kind, pod, container):
    """The restricted profile of the Pod Security Standards, and a read-only root."""
    name = container["name"]
    mine, whole = container.get("securityContext", {}), pod.get("securityContext", {})
    if mine.get("allowPrivilegeEscalation") is not False:
        yield f"{kind} {name}: allowPrivilegeEscalation is not false"
    if mine.get("readOnlyRootFilesystem") is not True:
        yield f"{kind} {name}: readOnlyRootFilesystem is not true"
    if mine.get("capabilities", {}).get("drop") != ["ALL"] or mine.get("capabilities", {}).get("add"):
        yield f"{kind} {name}: capabilities are not dropped"
    if not {**whole, **mine}.get("runAsNonRoot") or {**whole, **mine}.get("runAsUser", 0) != USER:
        yield f"{kind} {name}: does not run as {USER}"
    if {**whole, **mine}.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{kind} {name}: no seccomp profile"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{kind} {name}: no memory limit"
    if mine.get("privileged") or any(pod.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")):
        yield f"{kind} {name}: shares the host"


def stateful(found, config):
    """The rules of the StatefulSet: one writer, probes, mounts."""
    spec = found["StatefulSet"][0]["spec"]
    pod = spec["template"]["spec"]
    gateway = pod["containers"][0]
    labels = spec["template"]["metadata"]["labels"].items()
    if spec["replicas"] != 1:
        yield "StatefulSet: more than one replica: the journal has one writer"
    for claim in spec["volumeClaimTemplates"]:
        if claim["spec"]["accessModes"] != ["ReadWriteOncePod"]:
            yield "StatefulSet: the claim is not ReadWriteOncePod"
    for container in pod.get("initContainers", []) + pod["containers"]:
        yield from restricted("StatefulSet", pod, container)
    if pod.get("automountServiceAccountToken") is not False:
        yield "StatefulSet: the service account's token is mounted"
    ports = {p["name"]: p["containerPort"] for p in gateway["ports"]}
    for probe, path in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        asked = gateway.get(probe, {}).get("httpGet", {})
        if asked.get("path") != f"/health/{path}" or ports.get(asked.get("port")) != 9477:
            yield f"StatefulSet: {probe} does not ask /health/{path} on 9477"
    if config["http"]["listen"] != "0.0.0.0:9477":
        yield "ConfigMap: http.listen is not what the probes ask"
    if config["broker"]["listeners"][0]["listen"] != f"0.0.0.0:{ports['mqtt']}":
        yield "ConfigMap: the listener is not the pod's port"
    sets = {m["metadata"]["name"] for m in found["ConfigMap"]}
    secrets = {m["metadata"]["name"]: m["stringData"] for m in found["Secret"]}
    volumes = {c["metadata"]["name"] for c in spec["volumeClaimTemplates"]}
    for volume in pod["volumes"]:
        volumes.add(volume["name"])
        if "configMap" in volume and volume["configMap"]["name"] not in sets:
            yield f"StatefulSet: there is no ConfigMap {volume['configMap']['name']}"
        if "secret" in volume and volume["secret"]["secretName"] not in secrets:
            yield f"StatefulSet: there is no Secret {volume['secret']['secretName']}"
    mounts = {m["mountPath"]: m["name"] for m in gateway["volumeMounts"]}
    for path, name in mounts.items():
        if name not in volumes:
            yield f"StatefulSet: {path} has no volume"
    if config["data_dir"] not in mounts:
        yield "StatefulSet: data_dir is not on a volume"
    files = [config["chain"]["submitters"][0][k] for k in ("keystore", "passphrase_file")]
    files += [config["keys"][k] for k in ("keystore", "passphrase_file")]
    for file in map(Path, files):
        if mounts.get(str(file.parent)) != "keys" or file.name not in secrets["windlass-keys"]:
            yield f"ConfigMap: {file} is not in the Secret"
    for service in found["Service"]:
        name = service["metadata"]["name"]
        if not service["spec"]["selector"].items() <= labels:
            yield f"Service {name} selects no pod"
        if not service["spec"].get("publishNotReadyAddresses"):
            yield f"Service {name} would cut devices off while the chain is away"
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {name}: the pod has no port {port['targetPort']}"
    if spec["serviceName"] not in {s["metadata"]["name"] for s in found["Service"]}:
        yield "StatefulSet: its serviceName is no Service"
    policy, budget = found["NetworkPolicy"][0]["spec"], found["PodDisruptionBudget"][0]["spec"]
    for kind, selector in (("NetworkPolicy", policy["podSelector"]), ("PodDisruptionBudget", budget["selector"])):
        if not selector["matchLabels"].items() <= labels:
            yield f"{kind} selects no pod"
    if set(policy["policyTypes"]) != {"Ingress", "Egress"}:
        yield "NetworkPolicy: does not close both ways"
    for rule in policy["ingress"]:
        for port in rule["ports"]:
            if port["port"] not in ports:
                yield f"NetworkPolicy: the pod has no port {port['port']}"
            if port["port"] == "http" and not rule.get("from"):
                yield "NetworkPolicy: everybody may reach HTTP"
    wanted = found["ServiceMonitor"][0]["spec"]
    seen = wanted["selector"]["matchLabels"].items()
    picked = [s for s in found["Service"] if seen <= s["metadata"]["labels"].items()]
    if len(picked) != 1 or wanted["endpoints"][0]["port"] not in {p["name"] for p in picked[0]["spec"]["ports"]}:
        yield "ServiceMonitor: does not find its Service and port"
    elif picked[0]["metadata"]["labels"].get(wanted["jobLabel"]) != "windlass":
        yield 'ServiceMonitor: the alerts look at job="windlass"'


def kubernetes(root):
    """The schemas of two versions, strictly; the restricted profile; and that names, labels and ports fit."""
    folder = root / "deploy/kubernetes"
    files = sorted(folder.glob("**/*.yaml"))
    problems, found = [], {}
    for version in KUBERNETES:
        code, text = command(BIN / "kubernetes-validate", "--strict", "-k", version, *files)
        for line in text.splitlines():
            bare = re.search(r"schema for kind (\w+)", line)
            if (bare and bare.group(1) not in WITHOUT_SCHEMA) or (not bare and not line.startswith("INFO")):
                problems.append(f"{version}: {line}")
        if code and not problems:
            problems.append(f"{version}: exit code {code}")
    if problems:
        return problems
    for file in files:
        for manifest in yaml.safe_load_all(file.read_text()):
            found.setdefault(manifest["kind"], []).append(manifest)
    config = tomllib.loads(found["ConfigMap"][0]["data"]["windlass.toml"])
    problems += stateful(found, config)
    listed = set(found["Kustomization"][0]["resources"])
    there = {f.name for f in folder.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    if listed != there:
        problems.append(f"kustomization.yaml and the folder differ: {sorted(listed ^ there)}")
    return problems
