# The server: CryptPad behind nginx, SSH for its operators, and one command for the workflow.
{ pkgs, site, ... }:

let
  attribute = "nixosConfigurations.cryptpad";

  # All that the workflow's key can do. It takes exact versions of one project: what runs here is
  # decided by whoever may publish, not by whoever holds the key.
  deploy = pkgs.writeShellApplication {
    name = "deploy";
    runtimeInputs = [ pkgs.piste-host ];
    text = ''
      export PISTE_HUB=${site.hub}
      read -r verb reference rest <<<"''${SSH_ORIGINAL_COMMAND:-}"
      exact='^${site.project}/=v?[0-9][0-9A-Za-z.+-]*$'
      if [[ $verb == apply && $reference =~ $exact && -z $rest ]]; then
        exec piste apply nixos "$reference#${attribute}" switch --json
      elif [[ $verb == rollback && -z $reference ]]; then
        exec piste rollback --json
      elif [[ $verb == history && -z $reference ]]; then
        exec piste history --json
      fi
      echo "this key may: apply ${site.project}/=VERSION, rollback, history" >&2
      exit 2
    '';
  };
in
{
  networking.hostName = "cryptpad";
  networking.firewall.allowedTCPPorts = [
    80
    443
  ];

  services.cryptpad = {
    enable = true;
    configureNginx = true;
    settings = {
      httpUnsafeOrigin = "https://${site.domain}";
      httpSafeOrigin = "https://${site.sandboxDomain}";
    };
  };
  security.acme = {
    acceptTerms = true;
    defaults.email = site.email;
  };

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
  };
  users.users.root.openssh.authorizedKeys.keys = site.operatorKeys ++ [
    ''restrict,command="${deploy}/bin/deploy" ${site.deployKey}''
  ];

  # What the next release needs: the command, the hub, and the key that signs. `piste apply` warns when a release
  # would lose them.
  environment.systemPackages = [ pkgs.piste-host ];
  environment.variables.PISTE_HUB = site.hub;
  nix.settings.trusted-public-keys = [ site.publicKey ];
  nix.gc = {
    automatic = true;
    options = "--delete-older-than 30d";
  };

  system.stateVersion = "26.05";
}
