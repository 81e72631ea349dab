#!@sh@ sh
# What the boot loader starts: activates this system, then becomes systemd.
PATH=@path@
@out@/activate
ln -sfn @out@ /run/booted-system
exec /usr/lib/systemd/systemd
