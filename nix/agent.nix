# services.piste-agent: this machine runs the release that a reference names, and looks for a newer one on a
# timer. The first form of the agent: each run is one `piste apply nixos`.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.piste-agent;
  inherit (lib) mkOption types;
  systemdText = import ./systemd-text.nix;
in
{
  options.services.piste-agent = {
    enable = lib.mkEnableOption "the Piste agent: this machine runs what its reference names";

    package = mkOption {
      type = types.package;
      # One `bin/piste` on a machine that is a hub as well: the one that knows `piste hub` too.
      default = if config.services.piste-hub.enable or false then config.services.piste-hub.package else pkgs.piste-host;
      defaultText = lib.literalExpression "pkgs.piste-host, or the hub's package where that runs too";
      description = "The package that runs. `pkgs.piste-host` comes from the flake's overlay.";
    };

    hub = mkOption {
      type = types.strMatching "https?://.*[^/]";
      example = "https://hub.example.org";
      description = "The hub's address, without a slash at the end.";
    };

    reference = mkOption {
      type = types.str;
      example = "acme/web/0.1#nixosConfigurations.web";
      description = "What this machine runs: project, requirement and attribute path.";
    };

    mode = mkOption {
      type = types.enum [
        "switch"
        "boot"
      ];
      default = "switch";
      description = "Whether a newer release runs at once, or from the next boot on.";
    };

    tokenFile = mkOption {
      type = types.str;
      default = "/etc/piste/token";
      description = ''
        The file with the resolve-only token, readable by root alone. A path as text: a Nix path would copy it to
        the readable store.
      '';
    };

    trustedPublicKeys = mkOption {
      type = types.listOf (types.strMatching "[^:]+:[A-Za-z0-9+/]+=*");
      example = [ "acme-1:AAAA…" ];
      description = "The organization's keys, as `piste hub public-key --org ORG` prints them. Nix trusts them too.";
    };

    schedule = mkOption {
      type = types.str;
      default = "*:0/15";
      example = "hourly";
      description = "When to look for a newer release, as in systemd.time(7).";
    };

    randomizedDelay = mkOption {
      type = types.str;
      default = "5min";
      description = "The longest random delay before each run, so that many machines do not ask at once.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.variables.PISTE_HUB = cfg.hub;

    # `piste apply` warns when a release would lack these, since the machine could not take the next one.
    nix.settings.trusted-public-keys = cfg.trustedPublicKeys;

    systemd.services.piste-agent = {
      description = "Run the newest release that this machine may have";
      documentation = [ "man:piste(1)" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      # It is what switches the system: the new system must neither restart nor stop it on the way.
      restartIfChanged = false;
      stopIfChanged = false;
      unitConfig.X-StopOnRemoval = false;

      environment = {
        PISTE_HUB = systemdText.value cfg.hub;
        PISTE_TOKEN_FILE = "%d/token";
        PISTE_TRUSTED_PUBLIC_KEYS = lib.concatStringsSep " " cfg.trustedPublicKeys;
        HOME = "/root";
      };
      path = [
        config.nix.package
        config.systemd.package
        pkgs.coreutils
        pkgs.util-linux
      ];

      serviceConfig = {
        Type = "oneshot";
        ExecStart = lib.concatStringsSep " " [
          (lib.getExe cfg.package)
          "apply"
          "nixos"
          (systemdText.argument cfg.reference)
          cfg.mode
        ];
        LoadCredential = [ "token:${cfg.tokenFile}" ];
        # A closure over a slow line, and a switch that waits for its units.
        TimeoutStartSec = "2h";
        # A stop must not take down the activation half-way; the engine finishes or rolls back.
        KillMode = "mixed";
        TimeoutStopSec = "10min";
      };
    };

    systemd.timers.piste-agent = {
      description = "Look for a newer release";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.schedule;
        OnBootSec = "2min";
        RandomizedDelaySec = cfg.randomizedDelay;
        Persistent = true;
        Unit = "piste-agent.service";
      };
    };
  };
}
