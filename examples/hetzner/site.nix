# Everything about the server that is yours. None of it is secret.
{
  # Two names that point to the server: CryptPad shows what it does not trust from the second one.
  domain = "pad.example.org";
  sandboxDomain = "pad-sandbox.example.org";
  # Where the certificate authority writes when a certificate is about to run out.
  email = "admin@example.org";

  # The hub, the project, and the key that `piste hub public-key --org ORG` prints.
  hub = "https://hub.example.org";
  project = "acme/cryptpad";
  publicKey = "acme-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

  # People who may log in as root.
  operatorKeys = [ "ssh-ed25519 AAAA… you@example.org" ];
  # What `provision/prepare.sh` printed: the workflow's key, which can deploy and do nothing else.
  deployKey = "ssh-ed25519 AAAA… deploy";
}
