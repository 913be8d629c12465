"""The image, the compose file and the manifests: whatever of them can be tried without Docker is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from twisted.trial.unittest import SynchronousTestCase

from realtime.settings import SETTINGS, load

from ..clients.children import program

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
BASE = DOCKER / "kubernetes"
#: Of Kubernetes: the newest whose schemas the validator has, and the oldest that we speak for.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
#: What the Prometheus Operator brings, and the types that its objects of ours are made of.
OPERATOR = {
    "ServiceMonitor": ("ServiceMonitorSpec", "Endpoint"),
    "PrometheusRule": ("PrometheusRuleSpec", "RuleGroup", "Rule"),
}
CLIENTS = ROOT / "tests/clients"
TYPES = CLIENTS / "node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def manifests() -> dict[str, dict[str, Any]]:
    """All that the base is made of, by kind and name."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    found = {}
    for name in names:
        for one in yaml.safe_load_all((BASE / name).read_text()):
            found[f"{one['kind']} {one['metadata']['name']}"] = one
    return found


class ImageTests(SynchronousTestCase):
    """docker/Dockerfile."""

    timeout = 180

    def test_lint(self) -> None:
        hadolint = Path(sys.executable).with_name("hadolint")
        done = subprocess.run(
            [str(hadolint), str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_promises(self) -> None:
        """Nobody's root, a health check, signals that reach twistd, and what is copied is there."""
        told = dict(instructions())
        self.assertEqual((told["USER"], told["STOPSIGNAL"]), ("10001", "SIGTERM"))
        self.assertEqual(
            json.loads(told["HEALTHCHECK"].partition("CMD ")[2]), ["realtime", "health", "live"]
        )
        self.assertEqual(json.loads(told["ENTRYPOINT"])[0], "twistd")
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for name, rest in instructions():
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    self.assertTrue((ROOT / source).exists(), source)
                    self.assertIn(f"!{source}", ignored)

    def test_steps(self) -> None:
        """The steps of its first stage make, in a place of their own, what starts and is well.

        Dependencies are those of the tests' own environment: the network is Docker's affair.
        """
        place = Path(self.mktemp()).absolute()
        (place / "src").mkdir(parents=True)
        for name, rest in instructions():
            if name == "COPY" and not rest.startswith("--from"):
                *sources, _ = rest.split()
                for source in sources:
                    copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                    copy(ROOT / source, place / "src" / source)
        runs = [rest for name, rest in instructions() if name == "RUN"][:2]
        script = " && ".join(runs).replace("/opt/realtime", str(place / "opt"))
        script = script.replace(
            "python -m venv", f"{shlex.quote(sys.executable)} -m venv --system-site-packages"
        )
        # the tests' own environment lends its packages
        site = next(path for path in sys.path if path.endswith("site-packages"))
        script = script.replace("pip install", "pip install --no-deps --no-build-isolation --quiet")
        environ = {"PATH": os.environ["PATH"], "HOME": str(place), "PYTHONPATH": site}
        done = subprocess.run(
            ["/bin/sh", "-euc", script],
            cwd=place / "src",
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        checked = subprocess.run(
            [str(place / "opt/bin/realtime"), "check"],
            cwd=place,
            env={**environ, **self.told(), "JWT_SECRET": "x" * 32, "API_KEY": "y" * 16}
            | {"WS_ALLOWED_ORIGINS": "https://example.com"},
            capture_output=True,
            text=True,
            check=False,
        )
        told = (checked.returncode, checked.stdout)
        self.assertEqual(told, (0, "send loop: native\nok\n"), checked.stderr)
        listed = subprocess.run(
            [str(place / "opt/bin/python"), "-m", "twisted", "--help"],
            cwd=place,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn("realtime", listed.stdout, listed.stderr)

    def told(self) -> dict[str, str]:
        """The settings that the image brings."""
        (env,) = (rest for name, rest in instructions() if name == "ENV")
        pairs = dict(word.split("=", 1) for word in env.split())
        return {name: value for name, value in pairs.items() if name in SETTINGS}


def fields(value: Any) -> set[str]:
    """The names of all fields in an object, but for those in maps, whose names are free."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    if not isinstance(value, dict):
        return set()
    free = {"labels", "annotations", "selector"}
    return set(value).union(*(fields(one) for name, one in value.items() if name not in free))


class ComposeTests(SynchronousTestCase):
    """docker/compose.yml."""

    def test_schema(self) -> None:
        """It is valid against the Compose specification's schema; a field that there is not is refused."""
        check = str(Path(sys.executable).with_name("check-jsonschema"))
        text = (DOCKER / "compose.yml").read_text()
        wrong = Path(self.mktemp())
        wrong.write_text(text.replace("stop_grace_period", "stop_grace_time"))
        for path, status in ((DOCKER / "compose.yml", 0), (wrong, 1)):
            done = subprocess.run(
                [check, "--builtin-schema", "vendor.compose-spec", "--force-filetype", "yaml", str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)

    def setUp(self) -> None:
        self.services = yaml.safe_load((DOCKER / "compose.yml").read_text())["services"]

    def test_nodes(self) -> None:
        """Settings that there are, a root that is read-only, and time to drain."""
        for name in ("node1", "node2"):
            node = self.services[name]
            given = {**node["environment"], "REALTIME_ENV": "production"}
            given |= {
                "JWT_SECRET": "x" * 32,
                "API_KEY": "y" * 16,
                "WS_ALLOWED_ORIGINS": "https://example.com",
            }
            settings = load(given)
            self.assertTrue(node["read_only"])
            self.assertEqual(node["cap_drop"], ["ALL"])
            grace = int(node["stop_grace_period"].removesuffix("s"))
            self.assertGreater(grace, settings.drain_settle + settings.drain_timeout + 5)
            self.assertTrue((DOCKER / node["build"]["context"] / node["build"]["dockerfile"]).is_file())

    def test_files(self) -> None:
        """What is mounted is there, and the balancer's names are those of nodes."""
        for service in self.services.values():
            for volume in service.get("volumes", ()):
                if volume.startswith("."):
                    self.assertTrue((DOCKER / volume.partition(":")[0]).exists(), volume)
        environ = self.services["balancer"]["environment"]
        for name in ("NODE1", "NODE2"):
            self.assertIn(environ[name].partition(":")[0], self.services)
        done = subprocess.run(
            [program("haproxy"), "-c", "-f", str(DOCKER / "haproxy/haproxy.cfg")],
            env={**os.environ, **environ, "NODE1": "127.0.0.1:3003", "NODE2": "127.0.0.1:3004"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class ManifestTests(SynchronousTestCase):
    """docker/kubernetes."""

    def setUp(self) -> None:
        self.made = manifests()
        self.pod = self.made["Deployment realtime"]["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]

    def test_schemas(self) -> None:
        """Each is valid against the published schemas, strictly."""
        for one in self.made.values():
            if one["kind"] not in OPERATOR:
                for version in VERSIONS:
                    kubernetes_validate.validate(one, version, strict=True)

    def test_operator(self) -> None:
        """The Operator's objects are valid by its schemas, and have no field that those lack."""
        ours = [one for one in self.made.values() if one["kind"] in OPERATOR]
        self.assertEqual({one["kind"] for one in ours}, set(OPERATOR))
        wrong = json.loads(json.dumps(ours[0]))
        wrong["spec"]["endpoints" if "endpoints" in wrong["spec"] else "groups"] = 5
        done = subprocess.run(
            [program("node"), "operator.mjs"],
            cwd=CLIENTS,
            input=json.dumps([*ours, wrong]),
            capture_output=True,
            text=True,
            check=False,
        )
        *faults, refused = json.loads(done.stdout or f"[{done.stderr!r}]")
        self.assertEqual((faults, bool(refused)), ([""] * len(ours), True))
        for one in ours:
            texts = [(TYPES / f"{name}.d.ts").read_text() for name in OPERATOR[one["kind"]]]
            lines = [line for text in texts for line in text.splitlines()]
            known = {found[1] for found in map(re.compile(r' {4}"(\w+)"\??:').match, lines) if found}
            self.assertEqual(fields(one["spec"]) - known, set())

    def test_all_files_are_in_the_base(self) -> None:
        listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
        files = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
        self.assertEqual(set(listed), files)

    def test_settings(self) -> None:
        """The settings of the pods are settings, and end within the grace of a pod."""
        given = dict(self.made["ConfigMap realtime"]["data"])
        secret = self.made["Secret realtime"]["stringData"]
        self.assertLessEqual({*given, *secret}, set(SETTINGS))
        settings = load(
            {**given, "REDIS_URL": "redis://r:6379", "JWT_SECRET": "x" * 32, "API_KEY": "y" * 16}
        )
        grace = self.pod["terminationGracePeriodSeconds"]
        self.assertGreater(grace, settings.drain_settle + settings.drain_timeout + 5)
        # long enough to close as many as a node may have
        self.assertGreaterEqual(settings.drain_rate * settings.drain_timeout, settings.ws_max_connections)
        probe = self.container["readinessProbe"]
        self.assertGreater(settings.drain_settle, probe["periodSeconds"] * probe["failureThreshold"])

    def test_a_secret_that_was_not_set_stops_the_start(self) -> None:
        given = {**self.made["ConfigMap realtime"]["data"], **self.made["Secret realtime"]["stringData"]}
        with self.assertRaises(Exception) as raised:
            load(given)
        self.assertIn("JWT_SECRET is not set", str(raised.exception))

    def test_they_fit_together(self) -> None:
        """Selectors find the pods, ports have names that there are, probes ask what there is."""
        labels = self.made["Deployment realtime"]["spec"]["template"]["metadata"]["labels"]
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual(
            sorted(ports.values()),
            sorted(
                int(SETTINGS[name].default)
                for name in ("PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT")
            ),
        )
        for name in ("realtime", "realtime-internal"):
            service = self.made[f"Service {name}"]["spec"]
            self.assertLessEqual(service["selector"].items(), labels.items())
            self.assertLessEqual({port["targetPort"] for port in service["ports"]}, set(ports))
        for kind in ("PodDisruptionBudget", "NetworkPolicy"):
            spec = self.made[f"{kind} realtime"]["spec"]
            selector = spec.get("selector") or spec["podSelector"]
            self.assertLessEqual(selector["matchLabels"].items(), labels.items())
        for probe, path in (
            ("livenessProbe", "live"),
            ("readinessProbe", "ready"),
            ("startupProbe", "live"),
        ):
            asked = self.container[probe]["httpGet"]
            self.assertEqual((asked["path"], asked["port"]), (f"/health/{path}", "health"))
        monitor = self.made["ServiceMonitor realtime"]["spec"]
        internal = self.made["Service realtime-internal"]["metadata"]["labels"]
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), internal.items())
        self.assertEqual(internal[monitor["jobLabel"]], "realtime")

    def test_rules(self) -> None:
        """The operator's rules are those of Prometheus by itself."""
        rules = yaml.safe_load((DOCKER / "prometheus/realtime.rules.yml").read_text())
        self.assertEqual(self.made["PrometheusRule realtime"]["spec"], rules)

    def test_hardened(self) -> None:
        """Non-root, read-only, no privileges, no token of the cluster: the profile ``restricted``."""
        context = self.container["securityContext"]
        self.assertTrue(self.pod["securityContext"]["runAsNonRoot"])
        self.assertTrue(context["readOnlyRootFilesystem"])
        self.assertFalse(context["allowPrivilegeEscalation"])
        self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
        self.assertFalse(self.pod["automountServiceAccountToken"])
