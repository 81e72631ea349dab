# services.piste-hub: a hub as a system service, with nothing that it does not need.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.piste-hub;
  inherit (lib) mkOption types;
  systemdText = import ./systemd-text.nix;

  withTls = cfg.tlsCert != null && cfg.tlsKey != null;
  port = lib.toInt (lib.last (lib.splitString ":" cfg.listen));
  privilegedPort = port < 1024;

  limit =
    name: count:
    lib.optionals (count != null) [
      name
      (toString count)
    ];
  rateLimit =
    description:
    mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      inherit description;
    };

  arguments = [
    "--data"
    "/var/lib/piste-hub"
    "--listen"
    (systemdText.argument cfg.listen)
    "--public-url"
    (systemdText.argument cfg.publicUrl)
  ]
  ++ lib.optionals withTls [
    "--tls-cert"
    "%d/tls-cert"
    "--tls-key"
    "%d/tls-key"
  ]
  ++ lib.concatMap (proxy: [
    "--trusted-proxy"
    (systemdText.argument proxy)
  ]) cfg.trustedProxies
  ++ lib.optionals cfg.nginx.enable [
    "--proxy-socket"
    "/run/piste-hub/proxy.sock"
    "--accel-redirect"
    "/_piste/objects/"
  ]
  ++ lib.concatMap (place: [
    "--allow-egress"
    (systemdText.argument place)
  ]) cfg.allowEgress
  ++ lib.optionals (cfg.secretsKeyFile != null) [
    "--secrets-key-file"
    "%d/secrets-key"
  ]
  ++ limit "--failed-credentials" cfg.rateLimits.failedCredentials
  ++ limit "--sign-ins" cfg.rateLimits.signIns
  ++ limit "--resolutions" cfg.rateLimits.resolutions;
in
{
  options.services.piste-hub = {
    enable = lib.mkEnableOption "the Piste hub: registry and binary cache of releases";

    package = mkOption {
      type = types.package;
      default = pkgs.piste;
      defaultText = lib.literalExpression "pkgs.piste";
      description = "The package that serves. `pkgs.piste` comes from the flake's overlay.";
    };

    listen = mkOption {
      type = types.strMatching ".+:[0-9]+";
      default = "127.0.0.1:8080";
      example = "[::]:443";
      description = "Address and port. Without TLS keep it on loopback, behind a proxy that speaks TLS.";
    };

    publicUrl = mkOption {
      type = types.strMatching "https?://.*[^/]";
      example = "https://hub.example.org";
      description = "Where clients reach the hub, without a slash at the end. Addresses in answers begin with it.";
    };

    database = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "postgresql:///piste?host=/run/postgresql";
      description = ''
        The database; `null` is SQLite under /var/lib/piste-hub. The unit is world-readable, so an address with
        a password belongs into `environmentFile`, as PISTE_DATABASE.
      '';
    };

    objects = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Where NARs are kept; `null` is a folder under /var/lib/piste-hub.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/piste-hub.env";
      description = "A file of NAME=VALUE lines, readable by root alone, for settings that are secret.";
    };

    tlsCert = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/var/lib/acme/hub.example.org/fullchain.pem";
      description = ''
        The certificate with its chain. Read by systemd as root; the hub gets a copy of its own at its start, so a
        renewal has to restart piste-hub.service.
      '';
    };

    tlsKey = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/var/lib/acme/hub.example.org/key.pem";
      description = "The key to `tlsCert`. A path as text: a Nix path would copy it to the readable store.";
    };

    trustedProxies = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "127.0.0.1" ];
      description = "Addresses or networks whose X-Forwarded-For is believed.";
    };

    allowEgress = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "git.internal.example.org" ];
      description = ''
        Networks and hosts outside of the public internet that the hub may fetch from on behalf of its users, such as
        an issuer of identities in your own network.
      '';
    };

    secretsKeyFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/piste-hub-secrets";
      description = ''
        The key under which signing keys and the keys of tokens are encrypted in the database, 32 bytes or more. Read
        by systemd as root; the hub gets it as a credential. `piste hub` commands beside the service need it too:
        `--secrets-key-file`. A path as text: a Nix path would copy it to the readable store.
      '';
    };

    rateLimits = {
      failedCredentials = rateLimit "Wrong credentials a minute that one address gets an answer to; `null` is the hub's own default.";
      signIns = rateLimit "Questions a minute who one is, for each token, or address without one.";
      resolutions = rateLimit "Resolutions a minute, for each token, or address without one.";
    };

    nginx = {
      enable = lib.mkEnableOption "nginx in front of the hub: TLS and HTTP/2, and NARs by sendfile";

      virtualHost = mkOption {
        type = types.str;
        example = "hub.example.org";
        description = ''
          The name in `services.nginx.virtualHosts` that the hub is served as. Its certificate is set there
          (`enableACME`, `sslCertificate`): without TLS tokens would pass in the clear, so that `forceSSL` is on.
          Set that to false there only where another proxy, on a network that is yours, speaks TLS for it.
        '';
      };
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the firewall lets the port through.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.tlsCert == null) == (cfg.tlsKey == null);
        message = "services.piste-hub: tlsCert and tlsKey belong together";
      }
      {
        assertion = cfg.nginx.enable -> builtins.match "127.0.0.1:.*" cfg.listen != null && !withTls && cfg.objects == null;
        message = "services.piste-hub: behind nginx it listens on 127.0.0.1 without TLS, and keeps objects in its own folder";
      }
    ];

    users.users.piste-hub = {
      isSystemUser = true;
      group = "piste-hub";
      home = "/var/lib/piste-hub";
    };
    users.groups.piste-hub = { };

    # nginx connects to the hub's socket and reads its NARs, and nothing else of it.
    users.users.nginx = lib.mkIf cfg.nginx.enable { extraGroups = [ "piste-hub" ]; };
    services.nginx = lib.mkIf cfg.nginx.enable {
      enable = true;
      appendHttpConfig = builtins.readFile ../examples/nginx/piste-http.conf;
      virtualHosts.${cfg.nginx.virtualHost} = {
        forceSSL = lib.mkDefault true;
        extraConfig = builtins.readFile ../examples/nginx/piste-server.conf;
      };
    };

    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall port;

    # For `sudo -u piste-hub piste hub admin-token --data /var/lib/piste-hub` and the like.
    environment.systemPackages = [ cfg.package ];

    systemd.services.piste-hub = {
      description = "Piste hub";
      documentation = [ "man:piste(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "postgresql.target"
      ];

      environment =
        lib.optionalAttrs (cfg.database != null) {
          PISTE_DATABASE = systemdText.value cfg.database;
        }
        // lib.optionalAttrs (cfg.objects != null) {
          PISTE_OBJECTS = systemdText.value cfg.objects;
        };

      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = lib.concatStringsSep " " (
          [
            (lib.getExe cfg.package)
            "hub"
            "serve"
          ]
          ++ arguments
        );
        User = "piste-hub";
        Group = "piste-hub";
        StateDirectory = "piste-hub";
        RuntimeDirectory = lib.mkIf cfg.nginx.enable "piste-hub";
        RuntimeDirectoryMode = "0750";
        StateDirectoryMode = if cfg.nginx.enable then "0710" else "0700";
        UMask = "0077";
        EnvironmentFile = lib.mkIf (cfg.environmentFile != null) cfg.environmentFile;
        LoadCredential =
          lib.optionals withTls [
            "tls-cert:${cfg.tlsCert}"
            "tls-key:${cfg.tlsKey}"
          ]
          ++ lib.optional (cfg.secretsKeyFile != null) "secrets-key:${cfg.secretsKeyFile}";

        Restart = "on-failure";
        RestartSec = 2;
        # What is being answered is answered to its end: a large NAR on a slow line takes its time.
        TimeoutStopSec = 90;
        LimitNOFILE = 65536;

        AmbientCapabilities = lib.optional privilegedPort "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = if privilegedPort then [ "CAP_NET_BIND_SERVICE" ] else [ "" ];
        # In a user namespace of its own the process could not bind a port below 1024.
        PrivateUsers = !privilegedPort;
        DevicePolicy = "closed";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
          "~@resources"
        ];
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
