# Texts in a systemd unit that mean nothing but themselves.
let
  inherit (builtins) replaceStrings;
in
{
  # The value of a variable: `%` would begin a specifier. (NixOS quotes the rest.)
  value = replaceStrings [ "%" ] [ "%%" ];

  # One word of ExecStart=: quoted, without specifiers and variables.
  argument = text: ''"${
    replaceStrings [ "\\" ''"'' "%" "$" ] [ "\\\\" ''\"'' "%%" "$$" ] text
  }"'';
}
