"""The NixOS modules: what becomes of their options, by real Nix with a stand-in for NixOS itself."""

from pathlib import Path
from typing import Any

import pytest

from tests.setup.nix import ROOT, evaluate, nix_instantiate

HUB = 'services.piste-hub = { enable = true; publicUrl = "https://hub.example.org";'
AGENT = """services.piste-agent = { enable = true; hub = "https://hub.example.org";
  reference = "acme/web/0.1#nixosConfigurations.\\"a.b\\""; trustedPublicKeys = [ "acme-1:AAAA" ];"""


def test_a_hub_on_loopback_needs_two_lines_and_opens_nothing(tmp_path: Path) -> None:
    config = _configuration(tmp_path, HUB + "};")
    service = config["systemd"]["services"]["piste-hub"]["serviceConfig"]
    assert service["ExecStart"].endswith(
        'hub serve --data /var/lib/piste-hub --listen "127.0.0.1:8080" --public-url "https://hub.example.org"'
    )
    assert config["networking"]["firewall"]["allowedTCPPorts"] == []
    assert service["CapabilityBoundingSet"] == [""]


def test_keys_of_tls_come_as_credentials_and_not_from_the_store(tmp_path: Path) -> None:
    config = _configuration(tmp_path, HUB + 'tlsCert = "/c"; tlsKey = "/k"; listen = "[::]:443"; };')
    service = config["systemd"]["services"]["piste-hub"]["serviceConfig"]
    assert service["LoadCredential"] == ["tls-cert:/c", "tls-key:/k"]
    assert "--tls-cert %d/tls-cert --tls-key %d/tls-key" in service["ExecStart"]
    assert service["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]


def test_the_key_of_secrets_comes_as_a_credential_and_not_from_the_store(tmp_path: Path) -> None:
    config = _configuration(tmp_path, HUB + 'secretsKeyFile = "/run/keys/secrets"; };')
    service = config["systemd"]["services"]["piste-hub"]["serviceConfig"]
    assert service["LoadCredential"] == ["secrets-key:/run/keys/secrets"]
    assert service["ExecStart"].endswith("--secrets-key-file %d/secrets-key")
    bare = _configuration(tmp_path, HUB + "};")["systemd"]["services"]["piste-hub"]["serviceConfig"]
    assert bare["LoadCredential"] == [] and "secrets-key" not in bare["ExecStart"]


def test_rate_limits_are_the_hubs_own_unless_they_are_set(tmp_path: Path) -> None:
    limits = "rateLimits = { failedCredentials = 20; resolutions = 5000; };"
    config = _configuration(tmp_path, HUB + limits + "};")
    command = config["systemd"]["services"]["piste-hub"]["serviceConfig"]["ExecStart"]
    assert command.endswith("--failed-credentials 20 --resolutions 5000")


def test_half_of_a_tls_configuration_is_refused(tmp_path: Path) -> None:
    config = _configuration(tmp_path, HUB + 'tlsCert = "/c"; };')
    assert [item["message"] for item in config["assertions"] if not item["assertion"]] == [
        "services.piste-hub: tlsCert and tlsKey belong together"
    ]


def test_nginx_in_front_gets_the_shipped_configuration_and_the_hubs_group(tmp_path: Path) -> None:
    nginx = 'nginx = { enable = true; virtualHost = "hub.example.org"; }; };'
    config = _configuration(tmp_path, HUB + nginx)
    service = config["systemd"]["services"]["piste-hub"]["serviceConfig"]
    assert (
        "--proxy-socket /run/piste-hub/proxy.sock --accel-redirect /_piste/objects/" in service["ExecStart"]
    )
    assert (service["RuntimeDirectory"], service["RuntimeDirectoryMode"]) == ("piste-hub", "0750")
    assert service["StateDirectoryMode"] == "0710"
    assert config["users"]["users"]["nginx"]["extraGroups"] == ["piste-hub"]
    served = config["nginx"]
    assert "server unix:/run/piste-hub/proxy.sock;" in served["appendHttpConfig"]
    assert "alias /var/lib/piste-hub/objects/;" in served["virtualHosts"]["hub.example.org"]["extraConfig"]
    bare = _configuration(tmp_path, HUB + "};")
    assert bare["systemd"]["services"]["piste-hub"]["serviceConfig"]["StateDirectoryMode"] == "0700"
    assert "accel" not in bare["systemd"]["services"]["piste-hub"]["serviceConfig"]["ExecStart"]


def test_nginx_in_front_speaks_tls_unless_its_site_says_otherwise(tmp_path: Path) -> None:
    nginx = 'nginx = { enable = true; virtualHost = "hub.example.org"; }; };'
    site = 'services.nginx.virtualHosts."hub.example.org".forceSSL'
    assert (
        _configuration(tmp_path, HUB + nginx)["nginx"]["virtualHosts"]["hub.example.org"]["forceSSL"] is True
    )
    other = _configuration(tmp_path, HUB + nginx + f"{site} = false;")["nginx"]["virtualHosts"][
        "hub.example.org"
    ]
    assert other["forceSSL"] is False and "proxy_pass http://piste_hub;" in other["extraConfig"]


def test_a_database_address_is_no_argument_and_no_specifier(tmp_path: Path) -> None:
    config = _configuration(tmp_path, HUB + 'database = "postgresql:///piste?host=%2Frun"; };')
    service = config["systemd"]["services"]["piste-hub"]
    assert service["environment"]["PISTE_DATABASE"] == "postgresql:///piste?host=%%2Frun"
    assert "postgresql" not in service["serviceConfig"]["ExecStart"]


def test_the_agent_survives_the_switch_that_it_makes(tmp_path: Path) -> None:
    agent = _configuration(tmp_path, AGENT + "};")["systemd"]["services"]["piste-agent"]
    assert (agent["restartIfChanged"], agent["stopIfChanged"]) == (False, False)
    assert agent["unitConfig"] == {"X-StopOnRemoval": False}
    assert agent["serviceConfig"]["ExecStart"].endswith(
        'apply nixos "acme/web/0.1#nixosConfigurations.\\"a.b\\"" switch'
    )


def test_the_agents_token_is_a_credential_of_its_unit(tmp_path: Path) -> None:
    agent = _configuration(tmp_path, AGENT + 'tokenFile = "/secret"; };')["systemd"]["services"][
        "piste-agent"
    ]
    assert agent["serviceConfig"]["LoadCredential"] == ["token:/secret"]
    assert agent["environment"]["PISTE_TOKEN_FILE"] == "%d/token"


def test_a_machine_with_the_agent_keeps_piste_and_the_key(tmp_path: Path) -> None:
    config = _configuration(tmp_path, AGENT + "};")
    assert config["nix"]["settings"]["trusted-public-keys"] == ["acme-1:AAAA"]
    assert len(config["environment"]["systemPackages"]) == 1


def test_a_machine_that_is_hub_and_host_has_one_piste(tmp_path: Path) -> None:
    packages = _configuration(tmp_path, HUB + "};" + AGENT + "};")["environment"]["systemPackages"]
    assert len(packages) == 2
    assert packages[0] == packages[1]
    alone = _configuration(tmp_path, AGENT + "};")["environment"]["systemPackages"]
    assert alone[0] != packages[0]


def test_modules_that_are_not_enabled_change_nothing(tmp_path: Path) -> None:
    config = _configuration(tmp_path, "")
    assert config["systemd"] == {"package": config["systemd"]["package"], "services": {}, "timers": {}}
    assert config["users"] == {"users": {}, "groups": {}}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (HUB + "port = 80; };", "piste-hub.port does not exist"),
        (HUB + 'listen = "8080"; };', "piste-hub.listen is not of the type"),
        (
            'services.piste-hub = { enable = true; publicUrl = "https://x/"; };',
            "publicUrl is not of the type",
        ),
        (AGENT + 'mode = "dry"; };', "piste-agent.mode is not of the type"),
        ("services.piste-agent.enable = true;", "is used but not defined"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, complaint: str) -> None:
    done = nix_instantiate(tmp_path, "--eval", "--strict", "--json", "--expr", _expression(setting))
    assert done.returncode != 0
    assert complaint in done.stderr


def _configuration(home: Path, setting: str) -> Any:
    return evaluate(home, _expression(setting))


def _expression(setting: str) -> str:
    return f"""
      let
        config = (import {ROOT}/tests/setup/stand_in.nix).evaluate
          [ {ROOT}/nix/hub.nix {ROOT}/nix/agent.nix {{ {setting} }} ];
      in {{
        inherit (config) assertions environment networking nix systemd users;
        inherit (config.services) nginx;
      }}
    """
