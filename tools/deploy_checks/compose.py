"""deploy/compose.yml and deploy/compose/."""
import re
import tomllib
from pathlib import Path

import yaml

from .common import BIN, said
from .dockerfile import one, stages


def hardened(name, service):
    """What each service of compose.yml must say."""
    if service.get("read_only") is not True:
        yield f"{name}: not read_only"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"):
        yield f"{name}: capabilities are not dropped"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield f"{name}: no no-new-privileges"
    for limit in ("mem_limit", "pids_limit"):
        if limit not in service:
            yield f"{name}: no {limit}"
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"{name}: port {port} is not on loopback"
    once = service.get("restart") == "no"
    if not once and not service.get("healthcheck", {}).get("test"):
        yield f"{name}: no healthcheck"
    if "build" not in service:
        if not re.search(r":v?\d+\.\d+\.\d+", service["image"]):
            yield f"{name}: {service['image']} is without a whole version"
        if service.get("user", "0").split(":")[0] in ("0", "root"):
            yield f"{name}: no user"


def wired(root, file, name, service):
    """Whether all that a service names is there."""
    base = root / "deploy"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (base / source).exists():
                yield f"{name}: {source} is not there"
            if not volume.endswith(":ro"):
                yield f"{name}: {source} is writable"
        elif source not in file["volumes"]:
            yield f"{name}: volume {source} is not declared"
    for secret in service.get("secrets", []):
        if secret not in file["secrets"]:
            yield f"{name}: secret {secret} is not declared"
    for network in service.get("networks", []):
        if network not in file["networks"]:
            yield f"{name}: network {network} is not declared"
    for other, how in service.get("depends_on", {}).items():
        health = file["services"].get(other, {}).get("healthcheck", {})
        if how["condition"] == "service_healthy" and not health.get("test"):
            yield f"{name}: waits for the health of {other}, which has none"
    target = service.get("build", {}).get("target")
    if target and not any(one(s, "FROM").endswith(f" AS {target}") for s in stages(root)):
        yield f"{name}: the Dockerfile has no stage {target}"


def reaches(file, name, address, asked):
    """Whether a service can reach host:port of another one."""
    host, port = address.split(":")
    other = file["services"].get(host)
    if other is None:
        return [f"{asked}: there is no service {host}"]
    if not set(file["services"][name]["networks"]) & set(other["networks"]):
        return [f"{asked}: {name} and {host} share no network"]
    if not any(str(p).endswith(f":{port}") for p in other.get("ports", [])):
        return [f"{asked}: {host} does not listen on {port}"]
    return []


def compose(root):
    """The Compose Specification's schema, hardening of each service, and that the parts find each other."""
    path = root / "deploy/compose.yml"
    problems = said(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    if problems:
        return problems
    file = yaml.safe_load(path.read_text())
    for name, service in file["services"].items():
        problems += hardened(name, service)
        problems += wired(root, file, name, service)
    for name, secret in file["secrets"].items():
        if not (root / "deploy" / secret["file"]).exists():
            problems.append(f"secret {name}: {secret['file']} is not there")
    config = tomllib.loads((root / "deploy/compose/windlass.toml").read_text())
    for url in config["chain"]["rpc"]:
        problems += reaches(file, "gateway", url.removeprefix("http://"), "chain.rpc")
    scraped = yaml.safe_load((root / "deploy/compose/prometheus.yml").read_text())["scrape_configs"][0]
    problems += reaches(file, "prometheus", scraped["static_configs"][0]["targets"][0], "prometheus.yml")
    if scraped["job_name"] != "windlass":
        problems.append('prometheus.yml: the alerts look at job="windlass"')
    source = yaml.safe_load((root / "deploy/compose/grafana-datasource.yml").read_text())["datasources"][0]
    problems += reaches(file, "grafana", source["url"].removeprefix("http://"), "grafana-datasource.yml")
    board = file["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder = yaml.safe_load((root / "grafana/provisioning/dashboards/windlass.yml").read_text())["providers"][0]
    there = (root / "grafana/dashboards" / Path(board).name).exists()
    if not there or not board.startswith(folder["options"]["path"] + "/"):
        problems.append(f"grafana: {board} is not provisioned")
    return problems
