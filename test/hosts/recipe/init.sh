#!/bin/busybox sh
# The whole initrd: modules for the disk, the disk, on to systemd.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
	$b insmod "$module" 2>/dev/null
done
$b mount -t ext4 -o rw /dev/vda /root || exec $b poweroff -f
$b mount -o move /dev /root/dev
exec $b switch_root /root /sbin/init
